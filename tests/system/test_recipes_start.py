"""Recipes that are too big to run in a test are at least started: collected, encoded, and trained for a few updates."""

from __future__ import annotations

import gzip
import json
import os
import random
import string
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
SHARED = Path(os.environ.get("KD_SHARED_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def multi30k(folder: Path) -> Path:
    """The real files where they are at hand, else made-up ones of the same names."""
    real = SHARED / "multi30k"
    if real.is_dir():
        return real
    random_ = random.Random(3)
    words = ["".join(random_.choices(string.ascii_lowercase, k=random_.randint(2, 9))) for _ in range(9000)]
    for name, lines in {"train": 4000, "val": 60, "test_2016_flickr": 60}.items():
        for language in ("en", "de"):
            text = "".join(" ".join(random_.choices(words, k=10)) + "\n" for _ in range(lines))
            with gzip.open(folder / f"{name}.{language}.gz", "wt", encoding="utf-8") as handle:
                handle.write(text)
    return folder


def test_multi30k_starts(tmp_path: Path) -> None:
    settings = [
        f"corpus.root={multi30k(tmp_path)}", f"store.dir={tmp_path}/store", f"run.dir={tmp_path}/run", "upto=teacher",
        "teacher.members=1", "teacher.max_update=2", "checkpoint.every=1", "checkpoint.keep=1", "checkpoint.average=1",
        # 8,000 tokens an update and BLEU of a model that cannot stop yet would take minutes here.
        "teacher.batch.target_tokens=300", "teacher.validate_bleu=false",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "kd", "run", "recipe=multi30k_en_de", *settings],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "run" / "teacher.en-de" / "member-1" / "manifest.json").read_text("utf-8"))
    assert manifest["counts"]["updates"] == 2
    # 6+6 layers, 512 wide, feed-forward 1024, tied vocabulary of 8,000, by hand:
    # embeddings 8000 * 512; attention 4 * (512 * 512 + 512); feed-forward 2 * 512 * 1024 + 1024 + 512; norm 2 * 512
    attention, feed_forward, norm = 1_050_624, 1_050_112, 1_024
    encoder, decoder = attention + feed_forward + 2 * norm, 2 * attention + feed_forward + 3 * norm
    assert manifest["facts"]["parameters"] == 8000 * 512 + 6 * encoder + 6 * decoder + 2 * norm
    held_out = json.loads((tmp_path / "run" / "split" / "all" / "manifest.json").read_text("utf-8"))["counts"]
    assert held_out["test pairs of en-de"] in (1000, 60)  # as given, not drawn from train
