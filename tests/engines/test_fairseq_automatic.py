"""Precision and micro-batch that a training derives from its device, recorded at its first start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import UserError
from kd.engines.fairseq.automatic import FILE, Surroundings, choose_precision, largest_size, settle
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.forecast import memory
from kd.recipe.schema import AUTO, BatchConfig, CheckpointConfig, ModelConfig, Precision, TrainConfig

BIG = ModelConfig(6, 6, 1024, 4096, 16, False, dropout=0.3, attention_dropout=0.0, activation_dropout=0.0)
AUTOMATIC = TrainConfig(
    model=BIG, batch=BatchConfig(400_000, AUTO), checkpoint=CheckpointConfig(every=1), precision=Precision.auto
)
A100 = {"gpu": "A100", "bf16": True, "fp16": True, "tf32": True, "free": 39e9, "total": 40e9}
V100 = {"gpu": "V100", "bf16": False, "fp16": True, "tf32": False, "free": 15e9, "total": 16e9}
P100 = {"gpu": "P100", "bf16": False, "fp16": False, "tf32": False, "free": 15e9, "total": 16e9}


class Trial:
    """A device that answers as it is told: `gpu`, and the largest micro-batch that fits or the fastest one."""

    def __init__(self, gpu: Mapping[str, Any] | None = None, *, fits: int = 10**9, fastest: int = 0) -> None:
        self.gpu, self.fits, self.fastest, self.asked = gpu, fits, fastest, list[str]()

    def __call__(self, request: Mapping[str, Any], threads: int) -> dict[str, Any]:
        self.asked.append(request["what"])
        if request["what"] == "ask":
            return dict(self.gpu or {"gpu": None})
        if request["what"] == "time":
            return {"rates": {str(size): -abs(size - self.fastest) for size in request["sizes"]}}
        tried = [request["size"]]
        while tried[-1] > self.fits and tried[-1] > request["smallest"]:
            tried.append(max(request["smallest"], tried[-1] // 2))
        return {"max_tokens": tried[-1], "tried": tried, "fits": tried[-1] <= self.fits}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of trials."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kd" / "trials"


def here(device: str = "cuda", **changes: Any) -> Surroundings:
    usual = Surroundings(
        device, threads=1, world_size=1, gpu_memory=None, dictionary=Path("dict.txt"), symbols=32_000, longest=257,
        mean=30,
    )  # fmt: skip
    return replace(usual, **changes)


@pytest.mark.parametrize(
    ("gpu", "model", "precision"),
    [
        (A100, BIG, Precision.bf16),
        (V100, BIG, Precision.fp16),
        (V100, replace(BIG, encoder_layers=12), Precision.fp32),  # deep and post-norm
        (V100, replace(BIG, encoder_layers=12, pre_norm=True), Precision.fp16),
        ({**V100, "tf32": True}, replace(BIG, encoder_layers=12), Precision.tf32),
        (P100, BIG, Precision.fp32),
        ({}, BIG, Precision.fp32),  # a CPU
    ],
)
def test_automatic_precision_is_the_fastest_that_is_safe(
    gpu: dict[str, Any], model: ModelConfig, precision: Precision
) -> None:
    assert choose_precision(replace(AUTOMATIC, model=model), gpu)[0] is precision


def test_a_micro_batch_fills_the_memory_of_a_gpu(tmp_path: Path) -> None:
    found = settle(AUTOMATIC, here(), tmp_path, trial=Trial(A100)).config
    assert found.precision is Precision.bf16
    size = found.batch.max_tokens
    assert isinstance(size, int)
    used = memory(found, vocabulary=32_000, max_tokens=size, longest=257).total
    assert 33e9 < used < 39e9, "of 40 GB"
    # The machine's file states less memory than the device has: another process may use the rest.
    half = settle(AUTOMATIC, here(gpu_memory=20e9), tmp_path / "half", trial=Trial(A100)).config.batch.max_tokens
    assert isinstance(half, int) and 0.35 * size < half < 0.5 * size


def test_the_largest_size_is_the_inverse_of_the_memory_forecast() -> None:
    config = replace(AUTOMATIC, precision=Precision.fp32)
    for size in (1000, 4096, 20_000):
        needed = memory(config, vocabulary=32_000, max_tokens=size, longest=257).total
        assert abs(largest_size(config, here(), needed) - size) <= 1
    assert largest_size(config, here(), 0) == 257, "never less than the longest sentence"


def test_a_micro_batch_that_runs_out_of_memory_is_halved(tmp_path: Path) -> None:
    free = settle(AUTOMATIC, here(), tmp_path / "a", trial=Trial(A100)).config.batch.max_tokens
    assert isinstance(free, int)
    settled = settle(AUTOMATIC, here(), tmp_path / "b", trial=Trial(A100, fits=free // 3))
    assert settled.config.batch.max_tokens == free // 4
    assert f"after {free}, {free // 2} ran out of memory" in settled.notes[1]
    with pytest.raises(UserError, match="A sentence of 257 tokens does not fit"):
        settle(AUTOMATIC, here(), tmp_path / "c", trial=Trial(A100, fits=100))


def test_a_micro_batch_is_no_larger_than_an_update_needs(tmp_path: Path) -> None:
    small = replace(AUTOMATIC, batch=BatchConfig(1000, AUTO))
    assert settle(small, here(), tmp_path, trial=Trial(A100)).config.batch.max_tokens == 2000


def test_a_resumed_training_keeps_what_it_started_with(tmp_path: Path) -> None:
    first = settle(AUTOMATIC, here(), tmp_path / "short", trial=Trial(A100))
    other = Trial({**V100, "free": 8e9})
    again = settle(AUTOMATIC, here(), tmp_path / "short", trial=other)
    longer = settle(AUTOMATIC, here(), tmp_path / "long", earlier=[tmp_path / "none", tmp_path / "short"], trial=other)
    assert first.config == again.config == longer.config and other.asked == []
    assert json.loads((tmp_path / "long" / FILE).read_text())["precision"] == "bf16"
    assert "as when this training first started" in again.notes[0]


def test_settings_without_auto_ask_no_device(tmp_path: Path) -> None:
    config = replace(AUTOMATIC, batch=BatchConfig(400_000, 4096), precision=Precision.fp32)
    trial = Trial()
    assert settle(config, here(), tmp_path, trial=trial).config == config and trial.asked == []


def test_a_cpu_takes_the_fastest_size_and_remembers_it(tmp_path: Path, cache: Path) -> None:
    trial = Trial(fastest=2000)
    small = replace(AUTOMATIC, model=replace(BIG, width=64, ffn=128, heads=2))
    found = settle(small, here("cpu"), tmp_path / "a", trial=trial)
    assert (found.config.batch.max_tokens, found.config.precision) == (2048, Precision.fp32)
    slower = Trial(fastest=512)
    assert settle(small, here("cpu"), tmp_path / "b", trial=slower).config == found.config and slower.asked == []
    assert len(list(cache.iterdir())) == 1
    other = replace(small, model=replace(small.model, width=128))
    assert settle(other, here("cpu"), tmp_path / "c", trial=slower).config.batch.max_tokens == 512


def test_a_trial_on_this_cpu_measures_training_steps(spec: TrainSpec, tmp_path: Path) -> None:
    """No stand-in: a process of its own trains the tiny model."""
    config = replace(spec.config, batch=replace(spec.config.batch, max_tokens=AUTO), precision=Precision.auto)
    dictionary = spec.data[0] / "dict.target.txt"
    found = settle(config, here("cpu", dictionary=dictionary, symbols=200, longest=41, mean=10), tmp_path)
    assert found.config.batch.max_tokens in (512, 1000)  # an update has 500 target tokens
    assert "tokens/s" in found.notes[1]
