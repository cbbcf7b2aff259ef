"""Test an image from inside, as its `%test`: versions match the lock, packages import, a model trains and decodes.

`python -m kd.container.selftest VARIANT` writes below TMPDIR only; its status is 0 if all tests passed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import metadata

from kd.base import resources
from kd.base.scratch import scratch_folder
from kd.container import locks

PACKAGES = ("torch", "fairseq", "ctranslate2", "sentencepiece", "sacrebleu", "comet")
WORDS, PAIRS = 200, 300  # enough for a vocabulary, dev and test sets and a few batches
RECIPE = """
defaults: [/base, {override /teacher: tiny_3_3}, {override /student: tiny_4_2}, _self_]
pairs: {en-xx: {}}
corpus: {sources: {made_up: {format: plain, source: made_up.en, target: made_up.xx}}}
split: {dev: 10, test: 10}
vocabulary: {size: 400}
teacher:
  members: 1
  max_update: 2
  model: {encoder_layers: 1, decoder_layers: 1, width: 32, ffn: 64, heads: 2}
  optimizer: {warmup_updates: 1}
checkpoint: {every: 1, average: 1}
decode: {beam: 2, nbest: 2, workers: 1}
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the tests in turn and print their durations; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kd.container.selftest", description=__doc__)
    parser.add_argument("variant", help="the lock that the image was made from: cpu, cuda or rocm")
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="PACKAGE", help="packages left out of a reduced image"
    )
    options = parser.parse_args(arguments)
    wrong = wrong_versions(locked(options.variant), set(options.without))
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        return 1
    print(f"versions: those of containers/locks/{options.variant}.txt")
    from kd.engines.fairseq import compat

    compat.install()  # fairseq does not import on this Python without
    for package in PACKAGES:
        if package not in options.without:
            began = time.monotonic()
            importlib.import_module(package)
            print(f"imported: {package} in {time.monotonic() - began:.1f} s", flush=True)
    if options.variant == "cuda":
        ctypes.CDLL(
            "libcublas.so.12"
        )  # CTranslate2 loads this version when it is first used on a GPU; torch has another
    return train_and_decode()


def locked(variant: str) -> dict[str, str]:
    """Return package -> version, as pinned by the lock of a variant and by that of fairseq."""
    folder = resources.folder("containers") / "locks"
    return locks.pins(folder / f"{variant}.txt") | locks.pins(folder / "fairseq.txt")


def wrong_versions(expected: dict[str, str], left_out: Iterable[str] = ()) -> list[str]:
    """Return a sentence for each package of another version than expected; a local version (+cpu) counts as equal."""
    wrong = []
    for package, version in expected.items():
        try:
            found = metadata.version(package).partition("+")[0]
        except metadata.PackageNotFoundError:
            found = "absent"
        if found != version and not (found == "absent" and package in left_out):
            wrong.append(f"{package} is {found}, and the lock has {version}.")
    return wrong


def train_and_decode() -> int:
    """Train a tiny teacher for two updates and decode, by `kd run`; return its exit status."""
    with scratch_folder("kd-selftest-") as folder:
        chance = random.Random(1)
        words = ["".join(chance.choices("aeioubdfgklmnprstv", k=chance.randint(3, 9))) for _ in range(WORDS)]
        lines = [chance.choices(words, k=chance.randint(4, 9)) for _ in range(PAIRS)]
        (folder / "made_up.en").write_text("".join(" ".join(line) + "\n" for line in lines), "utf-8")
        (folder / "made_up.xx").write_text("".join(" ".join(reversed(line)) + "\n" for line in lines), "utf-8")
        (folder / "recipe.yaml").write_text(RECIPE, "utf-8")
        command = [sys.executable, "-m", "kd", "run", "recipe=./recipe.yaml", "upto=decode", *_machine()]
        done = subprocess.run(command, cwd=folder, check=False)
        manifests = sorted(folder.glob("store/decode*/*/*/manifest.json"))
        if done.returncode != 0 or not manifests:
            for log in sorted(folder.glob("runs/*/logs/*/*.log")):
                print(f"--- {log.parent.name}/{log.name}", log.read_text("utf-8", "replace"), sep="\n", file=sys.stderr)
            return done.returncode or 1
        print("trained and decoded:", json.loads(manifests[0].read_text("utf-8"))["counts"])
    return 0


def _machine() -> list[str]:
    """Return the setting for this machine's GPU, if torch can use one."""
    import torch

    return ["machine=localhost_gpu"] if torch.cuda.is_available() else []


if __name__ == "__main__":
    sys.exit(main())
