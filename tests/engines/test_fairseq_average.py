"""Averaging of checkpoints: means as counted by hand, equal bytes for equal input, nothing of the machine inside."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.engines.fairseq.average import average
from kd.engines.fairseq.loading import load


def checkpoint(path: Path, weight: list[float], count: int = 7, **changes: object) -> Path:
    """A checkpoint with one weight, one half-precision weight and one counter, as fairseq writes it."""
    import torch

    state = {
        "args": None,
        "cfg": {
            "task": {"_name": "translation", "data": "/home/somebody/data", "eval_bleu": True},
            "model": argparse.Namespace(arch="transformer", data="/home/somebody/data", eval_bleu=True),
            "checkpoint": {"save_dir": "/home/somebody"},
        },
        "model": {
            "weight": torch.tensor(weight),
            "half": torch.tensor(weight, dtype=torch.float16),
            "count": torch.tensor(count),
        },
        "optimizer_history": [{"num_updates": 10}],
        "last_optimizer_state": {"state": torch.zeros(1000)},
        "extra_state": {"train_iterator": {}},
    }
    torch.save(state | changes, path)
    return path


def test_means_are_those_counted_by_hand(tmp_path: Path) -> None:
    paths = [checkpoint(tmp_path / f"{number}.pt", values) for number, values in enumerate(([1, 2.5], [2, -1], [6, 3]))]
    average(paths, tmp_path / "model.pt")
    model = load(tmp_path / "model.pt")["model"]
    assert model["weight"].tolist() == [3.0, 1.5]  # (1 + 2 + 6) / 3, (2.5 - 1 + 3) / 3
    assert model["half"].tolist() == [3.0, 1.5]
    assert str(model["half"].dtype) == "torch.float16"
    assert model["count"].item() == 7


def test_sums_are_kept_in_double_precision(tmp_path: Path) -> None:
    # 2**24 + 1 is no float32: added up in float32, the three ones would be lost (IEEE 754).
    paths = [checkpoint(tmp_path / f"{number}.pt", [value]) for number, value in enumerate((2.0**24, 1, 1, 2))]
    average(paths, tmp_path / "model.pt")
    assert load(tmp_path / "model.pt")["model"]["weight"].item() == (2.0**24 + 4) / 4


def test_the_result_is_for_inference_and_names_no_path(tmp_path: Path) -> None:
    average([checkpoint(tmp_path / "a.pt", [1.0])], tmp_path / "model.pt")
    state = load(tmp_path / "model.pt")
    assert "last_optimizer_state" not in state
    assert b"/home/somebody" not in (tmp_path / "model.pt").read_bytes()
    assert (tmp_path / "model.pt").stat().st_size < (tmp_path / "a.pt").stat().st_size


def test_equal_checkpoints_give_equal_bytes(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.pt", [1.0, 2.0])
    (tmp_path / "deeper").mkdir()
    average([path], tmp_path / "model.pt")
    average([path], tmp_path / "deeper" / "other.pt")
    assert (tmp_path / "model.pt").read_bytes() == (tmp_path / "deeper" / "other.pt").read_bytes()


def test_checkpoints_that_cannot_be_averaged_are_explained(tmp_path: Path) -> None:
    good = checkpoint(tmp_path / "a.pt", [1.0])
    with pytest.raises(UserError, match="no checkpoint to average"):
        average([], tmp_path / "model.pt")
    with pytest.raises(UserError, match="different shapes"):
        average([good, checkpoint(tmp_path / "b.pt", [1.0, 2.0])], tmp_path / "model.pt")
    with pytest.raises(UserError, match="is not a checkpoint of fairseq"):
        average([checkpoint(tmp_path / "c.pt", [1.0], cfg=None)], tmp_path / "model.pt")
    (tmp_path / "cut.pt").write_bytes(good.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be read"):
        average([tmp_path / "cut.pt"], tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()
