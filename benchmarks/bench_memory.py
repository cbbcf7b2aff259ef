"""Peak memory and disk of collect → clean → split → shard → vocabulary → encode at growing sizes of the corpus.

A generated corpus goes through a real recipe, as a user runs it; memory is what each task's manifest says, disk what
its folder takes up while it runs. What grows with the corpus shows as a ratio between neighbouring sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ratio import heading
from text import pairs

from kd.corpora.writing import LineWriter

STAGES = ("collect", "clean", "split", "shard", "vocabulary", "encode")
LIMIT = 1.2  # how much more memory ten times the pairs may take
LOOK = 0.2  # seconds between two looks at the disk

RECIPE = """\
defaults: [base, _self_]
pairs: {xx-yy: {}}
corpus:
  root: ???
  sources:
    generated: {format: plain, source: corpus.xx.zst, target: corpus.yy.zst}
"""


@dataclass(frozen=True)
class Measured:
    """Of one size: bytes, by stage."""

    pairs: int
    compressed: int  # of the input
    memory: dict[str, int]
    disk: dict[str, int]  # of the stage's folder at its fullest
    final: dict[str, int]  # of what it leaves
    seconds: dict[str, float]


def main() -> None:
    """Run the recipe at each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1_000_000, 10_000_000], help="sizes, growing")
    parser.add_argument("--threads", type=int, default=2, help="of each task")
    parser.add_argument("--folder", type=Path, help="where to work; needs about 1 kB a pair (default: a temporary one)")
    parser.add_argument("--set", nargs="+", default=[], help="overrides of the recipe: vocabulary.sample=500000")
    options = parser.parse_args()
    print(heading("Memory and disk from collect to encode"), flush=True)
    results = []
    for count in options.pairs:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            results.append(measure(Path(folder), count, options.threads, options.set))
        print(table(results[-1]), flush=True)
    for smaller, larger in pairwise(results):
        print(comparison(smaller, larger))


def measure(place: Path, count: int, threads: int, overrides: list[str]) -> Measured:
    """Generate a corpus and take it through the recipe."""
    compressed = generate(place, count)
    (place / "recipe.yaml").write_text(RECIPE, "utf-8")
    store, run = place / "store", place / "run"
    places = [f"corpus.root={place}", f"store.dir={store}", f"run.dir={run}"]
    launcher = ["launcher.processes=1", f"launcher.threads={threads}"]
    command = [sys.executable, "-m", "kd", "run", f"recipe={place}", "upto=encode", *places, *launcher, *overrides]
    with watching(store) as disk:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    manifests: dict[str, list[dict[str, object]]] = defaultdict(list)
    for path in store.glob("[!.]*/*/*/manifest.json"):
        manifest = json.loads(path.read_text("utf-8"))
        manifests[manifest["kind"]].append(manifest)

    def most(kind: str, field: str) -> float:
        return max(float(str(manifest[field])) for manifest in manifests[kind])

    return Measured(
        pairs=count,
        compressed=compressed,
        memory={kind: int(most(kind, "peak_memory")) for kind in STAGES},
        disk={kind: disk[kind] for kind in STAGES},
        final={kind: int(most(kind, "bytes")) for kind in STAGES},
        seconds={kind: most(kind, "seconds") for kind in STAGES},
    )


def generate(place: Path, count: int) -> int:
    """Two compressed files; returns their size in bytes."""
    with LineWriter(place / "corpus.xx.zst") as source, LineWriter(place / "corpus.yy.zst") as target:
        for left, right in pairs(count, seed=1):
            source.write(left)
            target.write(right)
    return source.bytes + target.bytes


@contextmanager
def watching(store: Path) -> Iterator[dict[str, int]]:
    """Look at the store now and then; give the most bytes on disk that each kind of stage had at once."""
    most: dict[str, int] = defaultdict(int)
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK):
            now: dict[str, int] = defaultdict(int)
            for folder, _, names in os.walk(store):
                stage = Path(folder).relative_to(store).parts[:1]
                for name in names if stage else ():
                    try:
                        now[stage[0].partition(".")[0]] += (Path(folder) / name).stat().st_blocks * 512
                    except FileNotFoundError:  # renamed or removed meanwhile
                        continue
            for kind, size in now.items():
                most[kind] = max(most[kind], size)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        time.sleep(2 * LOOK)
        over.set()
        watcher.join()


def table(measured: Measured) -> str:
    """One line a stage."""
    lines = [f"{measured.pairs:,} pairs, {measured.compressed / 1e6:,.0f} MB compressed"]
    lines.append(f"  {'stage':12}{'memory':>10}{'disk, peak':>14}{'x input':>9}{'disk, left':>14}{'pairs/s':>12}")
    for stage in STAGES:
        peak, left = measured.disk[stage], measured.final[stage]
        rate = measured.pairs / max(measured.seconds[stage], 1e-9)
        lines.append(
            f"  {stage:12}{measured.memory[stage] / 1e6:>7,.0f} MB{peak / 1e6:>11,.0f} MB"
            f"{peak / measured.compressed:>9.2f}{left / 1e6:>11,.0f} MB{rate:>12,.0f}"
        )
    return "\n".join(lines)


def comparison(smaller: Measured, larger: Measured) -> str:
    """How much more memory the larger corpus took, stage by stage."""
    lines = [f"Peak memory at {larger.pairs:,} pairs to that at {smaller.pairs:,}:"]
    for stage in STAGES:
        ratio = larger.memory[stage] / smaller.memory[stage]
        lines.append(f"  {stage:12}{ratio:>6.2f}{'' if ratio <= LIMIT else f'  more than {LIMIT}'}")
    whole = max(larger.memory.values()) / max(smaller.memory.values())
    lines.append(f"  {'all':12}{whole:>6.2f}{'' if whole <= LIMIT else f'  more than {LIMIT}'}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
