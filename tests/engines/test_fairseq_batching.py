"""Batch plans: fairseq's batching is emulated exactly, and a training reports the planned numbers."""

from __future__ import annotations

import numpy as np
import pytest

from kd.base.errors import UserError
from kd.engines.fairseq import batching, compat


def lengths(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    source = np.minimum(rng.geometric(0.05, count) + 1, 100)
    return source, np.clip(source + rng.integers(-5, 6, count), 2, 101)


def test_passes_are_counted_as_fairseq_makes_them() -> None:
    compat.install()
    from fairseq.data.data_utils_fast import batch_by_size_vec

    rng = np.random.default_rng(0)
    for trial in range(200):
        source, target = lengths(int(rng.integers(1, 400)), trial)
        longer = np.maximum(source, target)[np.lexsort((target, source))].astype(np.int64)
        if trial % 3 == 0:
            longer = rng.permutation(longer)
        size = max(int(longer.max()), int(rng.integers(60, 900)))
        expected = len(batch_by_size_vec(np.arange(len(longer)), longer, size, -1, 8))
        assert batching.passes(longer.tolist(), size) == expected


@pytest.mark.parametrize(("wanted", "max_tokens", "devices"), [(1500, 3000, 1), (4000, 1500, 1), (25_000, 4000, 2)])
def test_a_plan_meets_the_wish(wanted: int, max_tokens: int, devices: int) -> None:
    plan = batching.plan(*lengths(15_800, 1), target_tokens=wanted, max_tokens=max_tokens, world_size=devices)
    assert abs(plan.deviation) < 0.03
    assert plan.max_tokens <= max_tokens
    # Fewer passes would not do: even the largest ones allowed give less than the wish.
    fewer = plan.update_freq - 1
    assert fewer * devices * max_tokens < wanted * 1.2


def test_two_devices_make_half_the_passes() -> None:
    one = batching.plan(*lengths(15_800, 1), target_tokens=16_000, max_tokens=1200, world_size=1)
    two = batching.plan(*lengths(15_800, 1), target_tokens=16_000, max_tokens=1200, world_size=2)
    assert one.update_freq == 2 * two.update_freq


def test_a_sample_gives_nearly_the_plan_of_the_whole() -> None:
    source, target = lengths(200_000, 2)
    sampled = batching.plan(source, target, target_tokens=20_000, max_tokens=4000, sample=100_000)
    whole = batching.passes(np.maximum(source, target)[np.lexsort((target, source))].tolist(), sampled.max_tokens)
    assert sampled.target_tokens == pytest.approx(target.sum() / whole * sampled.update_freq, rel=0.02)


@pytest.mark.parametrize("sample", [500_000, 5000])
def test_folders_are_planned_for_as_one(sample: int) -> None:
    source, target = lengths(15_800, 1)
    parts = [slice(0, 4000), slice(4000, 4000), slice(4000, 15_800)]
    joined = [batching.JoinedLengths([side[part] for part in parts]) for side in (source, target)]
    sizes = {"target_tokens": 4000, "max_tokens": 1500, "sample": sample}
    assert batching.plan(*joined, **sizes) == batching.plan(source, target, **sizes)


def test_a_wish_below_the_longest_sentence_is_said_to_be_missed() -> None:
    plan = batching.plan(*lengths(5000, 1), target_tokens=30, max_tokens=3000)
    assert plan.target_tokens > 30
    assert "longest sentence has 101 pieces" in plan.note


def test_passes_too_small_for_a_sentence_are_refused() -> None:
    with pytest.raises(UserError, match=r"batch\.max_tokens is 100.*101"):
        batching.plan(*lengths(5000, 1), target_tokens=1000, max_tokens=100)
    with pytest.raises(UserError, match="no pairs"):
        batching.plan(np.zeros(0), np.zeros(0), target_tokens=1000, max_tokens=100)


def test_a_training_reports_what_was_planned(trained, task) -> None:
    assert trained.result.target_tokens == pytest.approx(task.plan.target_tokens, rel=0.02)
