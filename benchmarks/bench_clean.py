"""How fast cleaning, deduplication and sharding are, on one process and on several, and what memory and disk they take.

There is no stock tool for this work in the environment (OpusFilter and OpusCleaner are not installed; why, says
kd/corpora/filters/__init__.py), so these are rates, not ratios; that of two processes to one is a ratio of one run.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from ratio import alternate, heading

from kd.base.progress import Progress
from kd.base.resources import folder as resource_folder
from kd.corpora.ids import Origin
from kd.corpora.plain import read_plain
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.shuffle import shuffle
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import CleanConfig, DuplicatesConfig, SameBy
from kd.stages.clean import Clean

ENGLISH = "the report of commission and its members has been not yet considered by this new rule for all countries"
GERMAN = (
    "die Studie von Kommission und ihre Mitglieder hat worden nicht noch erwogen durch diese neue Regel für alle Länder"
)
WORDS = dict(zip(ENGLISH.split(), GERMAN.split(), strict=True))


def generated(pairs: int, seed: int = 1) -> Iterator[tuple[str, str]]:
    """Sentences of 8 to 35 words, word by word; a tenth repeats an earlier one, one in fifty has other numbers."""
    chance = random.Random(seed)
    english = list(WORDS)
    recent: list[tuple[str, str]] = []
    for _ in range(pairs):
        if recent and chance.random() < 0.1:
            yield chance.choice(recent)
            continue
        words = chance.choices(english, k=chance.randint(8, 35))
        number = chance.randint(13, 99999)
        other = number + (chance.random() < 0.02)
        row = f"{' '.join(words)} {number}.", f"{' '.join(WORDS[word] for word in words)} {other}."
        recent = [*recent[-999:], row]
        yield row


def collect(folder: Path, options: argparse.Namespace) -> Artifact:
    """A collected corpus as the stage collect leaves it, in at least eight shards."""
    origin = Origin("en-de", "bench")
    rows = read_plain(options.source, options.target) if options.source else generated(options.pairs)
    lines = max(1, min(500_000, options.pairs // 8))
    with CorpusWriter(folder, ("en", "de"), lines, origins=[origin]) as writer:
        for pair in origin.number(rows):
            writer.add(pair)
    return Artifact(folder, "bench", "collect.en-de", "bench", "f", "en-de", {}, {})


def job(out: Path, artifact: Artifact, threads: int, filters: bool) -> Job[CleanConfig]:
    """The task of the stage clean with the default settings, or without any filter: deduplication alone."""
    default = yaml.safe_load((resource_folder("conf") / "clean" / "default.yaml").read_text("utf-8"))
    config = CleanConfig(default["filters"] if filters else {}, DuplicatesConfig(True, SameBy.pair, False), 1000)
    axis = {"source": "en", "target": "de"}
    return Job("all", "clean.en-de", config, {}, "en-de", axis, {"corpus": [artifact]}, {}, out, [], 1, threads, "cpu",
               {}, Progress(None))  # fmt: skip


def clean(out: Path, artifact: Artifact, threads: int, filters: bool = True) -> None:
    """As the stage does it, into an empty folder; its check is not part of it."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    Clean().run(job(out, artifact, threads, filters))


def shard(out: Path, cleaned: Path) -> None:
    """Shuffled and cut, as the stage shard does it when nothing is held out."""
    shutil.rmtree(out, ignore_errors=True)
    corpus = Corpus(cleaned)
    with CorpusWriter(out, corpus.languages, 10_000, keep_groups=True) as writer:
        for pair in shuffle(corpus.read(), 1, out, corpus.pairs):
            writer.add(pair)


class Disk(threading.Thread):
    """Watches how large a folder gets."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.most, self.over = folder, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            sizes = []
            for path in self.folder.rglob("*"):
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    pass
            self.most = max(self.most, sum(sizes))


def rate(pairs: int, seconds: list[float]) -> str:
    """Median pairs a second with the range."""
    middle, low, high = (pairs / value for value in (statistics.median(seconds), max(seconds), min(seconds)))
    return f"{middle:,.0f} pairs/s ({low:,.0f} to {high:,.0f}, {len(seconds)} rounds)"


def parse_options() -> argparse.Namespace:
    """Sizes, and files where generated text will not do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200_000, help="of generated text")
    parser.add_argument("--source", type=Path, help="a source side instead of generated text")
    parser.add_argument("--target", type=Path, help="its target side")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    """Print a line for each piece of work."""
    options = parse_options()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        artifact = collect(place / "collected", options)
        corpus = Corpus(artifact.path)
        collected = sum(path.stat().st_size for path in artifact.path.iterdir())
        print(heading(f"cleaning of {corpus.pairs:,} pairs in {len(corpus.shards)} shards"))
        out = place / "cleaned"
        several = alternate(
            lambda: clean(out, artifact, options.processes), lambda: clean(out, artifact, 1), options.rounds
        )
        print(f"clean and deduplicate, 1 process: {rate(corpus.pairs, several.stock)}")
        print(f"clean and deduplicate, {options.processes} processes: {rate(corpus.pairs, several.ours)}")
        print(f"    {options.processes} processes against 1: {several.speedup()}")
        began = time.perf_counter()
        clean(out, artifact, 1, filters=False)
        print(f"deduplicate alone, 1 process: {rate(corpus.pairs, [time.perf_counter() - began])}")
        disk = Disk(place)
        disk.start()
        clean(out, artifact, 1)
        disk.over.set()
        disk.join()
        took = disk.most - collected
        left = Corpus(out).pairs
        beside = f"beside what was collected ({collected / 1e6:.1f} MB, compressed)"
        print(f"    on disk meanwhile, {beside}: {took / 1e6:.1f} MB")
        began = time.perf_counter()
        shard(place / "sharded", out)
        print(f"shuffle and shard {left:,} pairs, 1 process: {rate(left, [time.perf_counter() - began])}")
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(f"peak memory of a process: {peak / 1024:.0f} MB")


if __name__ == "__main__":  # the processes of the pool import this file again
    main()
