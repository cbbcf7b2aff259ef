"""How fast a corpus goes through collect, clean, split and shard, how much of that is serial, and an extrapolation.

The pairs are real text, repeated and changed: `--source` and `--target` name aligned files, and each round over them
turns the words of every sentence and adds a number, so that pairs are distinct. Each stage runs in a process of its
own, with one worker and with several. The serial part is the CPU time of the stage's own process while its workers do
the rest, as a share of all CPU time; other work on the machine changes it little. The extrapolation is Amdahl's law:
the CPU time with one worker, scaled by the number of pairs, with its parallel part divided by the number of cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import yaml
from ratio import heading

import kd.stages.shard
import kd.stages.split
from kd.base.progress import Progress
from kd.base.resources import folder as resource_folder
from kd.corpora.ids import Origin
from kd.corpora.plain import read_plain
from kd.corpora.shards import Corpus, CorpusWriter
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import CleanConfig, DuplicatesConfig, SameBy, ShardConfig, SplitConfig
from kd.stages.clean import Clean
from kd.stages.shard import Shard
from kd.stages.split import SplitSets

STAGES = ("collect", "clean", "split", "shard")
LINES = 500_000  # pairs of a collected shard, as the stage has it


def changed(source: Path, target: Path, pairs: int) -> Iterator[tuple[str, str]]:
    """Yield distinct pairs: in each round over the files the words begin at another place."""
    rows = [row[:2] for row in read_plain(source, target)]
    every = ((turned(left, number), turned(right, number)) for number in count() for left, right in rows)
    return islice(every, pairs)


def turned(text: str, number: int) -> str:
    """Return the words of a sentence from another place on, with the number of the round."""
    if not number:
        return text
    words = text.split()
    place = number % (len(words) or 1)
    return " ".join((*words[place:], *words[:place], str(100 + number)))


def job(place: Path, name: str, config: Any, inputs: dict[str, list[str]], threads: int) -> Job[Any]:
    """Return a task of a stage that reads what earlier stages left."""
    out = place / f"{name}-{threads}"
    out.mkdir()
    found = {role: [artifact(place / each) for each in names] for role, names in inputs.items()}
    languages = {"source": "en", "target": "de"}
    return Job("all", name, config, {}, "en-de", languages, found, {}, out, [], 1, threads, "cpu", {}, Progress(None))


def artifact(folder: Path) -> Artifact:
    """Return a folder as a stage's output."""
    return Artifact(folder, "all", folder.name, "all", "f", "en-de", {}, {})


def run(stage: str, threads: int, place: Path, options: argparse.Namespace) -> None:
    """Run one stage and its check."""
    if stage == "collect":
        origin = Origin("en-de", "bench")
        with CorpusWriter(
            place / "collect-1", ("en", "de"), min(LINES, options.pairs // 8), origins=[origin]
        ) as writer:
            for pair in origin.number(changed(options.source, options.target, options.pairs)):
                writer.add(pair)
        Corpus(place / "collect-1").verify()
        return
    default = yaml.safe_load((resource_folder("conf") / "clean" / "default.yaml").read_text("utf-8"))
    clean = CleanConfig(default["filters"], DuplicatesConfig(True, SameBy.pair, False), 1000)
    kind, config, inputs = {
        "clean": (Clean(), clean, {"corpus": ["collect-1"]}),
        "split": (SplitSets(), SplitConfig(3000, 3000, False, "source", 4, 1), {"corpora": ["clean-1"], "given": []}),
        "shard": (
            Shard(),
            ShardConfig(100_000, 1, 1.0, "remove", 5),
            {"corpus": ["clean-1"], "held_out": ["split-1"]},
        ),
    }[stage]
    for module in (kd.stages.split, kd.stages.shard):
        module.PROCESS_PAIRS = 20_000  # several workers at the size of a benchmark, as a large corpus has
    task = job(place, stage, config, inputs, threads)
    kind.run(task)
    kind.check(task)


def measure(stage: str, threads: int, place: Path, options: argparse.Namespace) -> None:
    """Run a stage and print what it took, as JSON."""
    opened = 0

    def hook(event: str, _arguments: object) -> None:
        nonlocal opened
        opened += event == "open"

    sys.addaudithook(hook)
    began, started = time.perf_counter(), time.process_time()  # the imports of this process are not part of the work
    run(stage, threads, place, options)
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = [time.process_time() - started, others.ru_utime + others.ru_stime]
    peak = max(own.ru_maxrss, others.ru_maxrss) / 1024
    print(json.dumps({"wall": time.perf_counter() - began, "own": seconds[0], "others": seconds[1], "peak": peak,
                      "opened": opened}))  # fmt: skip


def measured(stage: str, threads: int, place: Path) -> dict[str, float]:
    """Run a stage in a process of its own."""
    command = [sys.executable, *sys.argv, "--stage", stage, "--threads", str(threads), "--place", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    return dict(json.loads(done.stdout.split("\n")[-2]))


def report(stage: str, one: dict[str, float], several: dict[str, float] | None, options: argparse.Namespace) -> float:
    """Print a stage's line; returns the seconds that the extrapolation gives."""
    total = one["own"] + one["others"]
    serial = 1.0 if several is None else several["own"] / (several["own"] + several["others"])
    if stage == "collect":  # a task for each corpus; a large one is several files
        serial = 0.0
    seconds = total * options.target_pairs / options.pairs * (serial + (1 - serial) / options.cores)
    print(
        f"{stage:8} {options.pairs / total:9,.0f} pairs/s and core, serial {serial:5.1%}, peak {one['peak']:,.0f} MB, "
        f"{one['opened']:,.0f} files opened; {options.target_pairs / 1e6:,.0f} M pairs on {options.cores} cores: "
        f"{seconds / 60:,.1f} min"
    )
    return seconds


def parse_options() -> argparse.Namespace:
    """Return the sizes and the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="English sentences")
    parser.add_argument("--target", type=Path, required=True, help="their German translations")
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--target-pairs", type=int, default=500_000_000, help="of the extrapolation")
    parser.add_argument("--cores", type=int, default=64, help="of the extrapolation")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print a line for each stage, and the sum."""
    options = parse_options()
    if options.stage:
        measure(options.stage, options.threads, options.place, options)
        return
    print(heading(f"{options.pairs:,} pairs"))
    with tempfile.TemporaryDirectory() as name:
        place, total = Path(name), 0.0
        for stage in STAGES:
            one = measured(stage, 1, place)
            several = measured(stage, options.workers, place) if stage != "collect" else None
            total += report(stage, one, several, options)
        print(f"together {total / 60:,.1f} min")


if __name__ == "__main__":  # the processes of the pool import this file again
    main()
