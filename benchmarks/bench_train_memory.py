"""Peak memory of a training over data folders of growing numbers of pairs; ten times the pairs must not take more.

    python benchmarks/bench_train_memory.py                                       # 200 thousand and 2 million pairs
    python benchmarks/bench_train_memory.py --pairs 1000000 10000000 --folder-pairs 1000000

A folder of `encode.folder_pairs` pairs at most is an epoch; fairseq holds lengths and order of the one at hand.
Measured are the task's process, which plans the batches, and the training's, for 20 updates of a tiny model: resident
memory at its peak, with the pages of files that are mapped, and without them (which the system takes back at need).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench_train import specification
from random_pairs import write_folders
from ratio import heading

LIMIT = 1.2  # how much more memory ten times the pairs may take
LOOK = 0.05  # seconds between two looks

PROGRAM = """
import pickle, sys
from dataclasses import replace
from pathlib import Path
from kd.engines.fairseq.batching import JoinedLengths, plan
from kd.engines.fairseq.binary import IndexedReader, data_folders, data_prefix
from kd.engines.fairseq.training import train
spec = pickle.loads(Path(sys.argv[1]).read_bytes())
lengths = [JoinedLengths([IndexedReader(data_prefix(folder, "train", side)).sizes for folder in spec.data])
           for side in ("source", "target")]
planned = plan(*lengths, target_tokens=1500, max_tokens=2000, max_pieces=spec.max_pieces)
train(replace(spec, max_tokens=planned.max_tokens, update_freq=planned.update_freq), Path(sys.argv[2]))
"""


def main() -> None:
    """Train at each size and print a line of each, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[200_000, 2_000_000], help="sizes, growing")
    parser.add_argument("--folder-pairs", type=int, help="encode.folder_pairs; that of conf/encode/default.yaml")
    parser.add_argument("--folder", type=Path, help="where to work; needs 110 bytes a pair (default: a temporary one)")
    options = parser.parse_args()
    folder_pairs = options.folder_pairs or default_folder_pairs()
    print(heading(f"Memory of a training, folders of at most {folder_pairs:,} pairs"), flush=True)
    peaks = []
    for count in options.pairs:
        with tempfile.TemporaryDirectory(dir=options.folder) as place:
            peaks.append(measure(Path(place), count, folder_pairs))
        print(f"{count:>12,} pairs: " + ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in peaks[-1].items()))
    for (fewer, smaller), (more, larger) in pairwise(zip(options.pairs, peaks, strict=True)):
        ratios = {name: larger[name] / smaller[name] for name in larger}
        told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
        verdict = "flat" if max(ratios.values()) <= LIMIT else f"more than {LIMIT}"
        print(f"{more:,} to {fewer:,} pairs: {told} ({verdict})")


def default_folder_pairs() -> int:
    """What a recipe gets that says nothing."""
    from omegaconf import OmegaConf

    from kd.base import resources

    return int(OmegaConf.load(resources.folder("conf") / "encode" / "default.yaml").folder_pairs)


def measure(place: Path, pairs: int, folder_pairs: int) -> dict[str, float]:
    """Bytes at their peaks, of a training of 20 updates that reads every folder's plan and data as a long one does."""
    import pickle

    data = write_folders(place / "data", pairs, vocabulary=4000, folder_pairs=folder_pairs)
    tiny = {
        "shape": "tiny",
        "precision": "fp32",
        "device": "cpu",
        "updates": 20,
        "max_tokens": 1500,
        "log_every": 5,
        "data": None,
    }
    spec = specification(place, argparse.Namespace(**tiny), data)
    (place / "spec").write_bytes(pickle.dumps(spec))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(place / "spec"), str(place / "out")], env=environment
    ) as process:
        most: dict[str, float] = {}
        watcher = threading.Thread(target=watch, args=(process, most))
        watcher.start()
        process.wait()
        watcher.join()
    if process.returncode:
        sys.exit(process.returncode)
    return most


def watch(process: subprocess.Popen[bytes], most: dict[str, float]) -> None:
    """Note the peaks of a process and of the one that it starts."""
    while process.poll() is None:
        for name, pid in (("task", process.pid), ("training", child(process.pid))):
            for what, size in resident(pid).items():
                key = f"{name} {what}".rstrip()
                most[key] = max(most.get(key, 0), size)
        time.sleep(LOOK)


def child(pid: int) -> int:
    """The first process that this one has started; 0 where there is none."""
    try:
        return int((Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or ["0"])[0])
    except (OSError, ValueError):
        return 0


def resident(pid: int) -> dict[str, float]:
    """Bytes of a process: with mapped files, and without."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().split("\n")
    except OSError:
        return {}
    sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.startswith(("VmHWM", "RssAnon"))}
    return {"": sizes["VmHWM"], "(without files)": sizes["RssAnon"]} if len(sizes) == 2 else {}


if __name__ == "__main__":
    main()
