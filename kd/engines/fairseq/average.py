"""Average checkpoints of one training into a model for inference (Vaswani et al., 2017, section 6.1).

The result holds the weights and the settings needed to build the model, but no optimiser state and no local paths.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.engines.fairseq.loading import load


def average(checkpoints: Sequence[Path], out: Path) -> None:
    """Write the mean of the weights to `out`, computed in float64 and stored in the type of the first checkpoint.

    If checkpoints have an exponential moving average of the weights (`checkpoint.ema`), it is used instead of the
    weights. Equal checkpoints give equal bytes, whatever the folder.

    Raises:
        UserError: There is no checkpoint, they have different shapes, or one cannot be loaded.
    """
    if not checkpoints:
        raise UserError("There is no checkpoint to average.", "Train for at least `checkpoint.every` updates.")
    state, sums = None, {}
    for path in checkpoints:
        loaded = load(path)
        weights = _weights(loaded)
        if state is None:
            state = loaded
            sums = {name: _summand(weight).clone() for name, weight in weights.items()}
            continue
        _check_same(sums, weights, path, checkpoints[0])
        for name, weight in weights.items():
            sums[name] += _summand(weight)
    assert state is not None
    kinds = {name: weight.dtype for name, weight in _weights(state).items()}
    means = {name: _mean(total, len(checkpoints), kinds[name]) for name, total in sums.items()}
    save(without_training(state, means), out)


def _weights(state: dict[str, Any]) -> dict[str, Any]:
    """Return the moving average of the weights, preferably its fp32 copy; without one, the weights themselves."""
    further = state.get("extra_state") or {}
    return dict(further.get("ema_fp32_params") or further.get("ema") or state["model"])


def _summand(weight: Any) -> Any:
    return weight.double() if weight.is_floating_point() else weight.long()


def _mean(total: Any, count: int, dtype: Any) -> Any:
    return (total / count if total.is_floating_point() else total // count).to(dtype)


def _check_same(sums: dict[str, Any], weights: dict[str, Any], path: Path, first: Path) -> None:
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if shapes != {name: tuple(total.shape) for name, total in sums.items()}:
        raise UserError(f"{path} and {first} hold models of different shapes.", "Average checkpoints of one training.")


def without_training(state: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint that fairseq's tools can load, without optimiser state, data iterator and paths.

    Args:
        state: A checkpoint as `loading.load` returns it.
        weights: The weights to put into it.
    """
    return {
        "args": None,
        "cfg": state["cfg"],
        "model": weights,
        # fairseq's loader requires these keys.
        "optimizer_history": [{"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": updates_of(state)}],
        "extra_state": {},
    }


def updates_of(state: dict[str, Any]) -> int:
    """Return the number of updates that a checkpoint states; 0 if it states none."""
    history = state.get("optimizer_history") or [{}]
    last = history[-1] if isinstance(history, list) else {}
    updates = last.get("num_updates", 0) if isinstance(last, dict) else 0
    return updates if isinstance(updates, int) else 0


def save(state: dict[str, Any], out: Path) -> None:
    """Write a checkpoint in one step. The bytes do not depend on the path, which torch would store in the archive."""
    import torch

    aside = out.with_name(out.name + ".tmp")
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(out)
