"""Averages checkpoints of one training into a model for inference (Vaswani et al., 2017, section 6.1).

The result holds the weights and what is needed to build the model; no optimiser state, no paths of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import UserError


def average(checkpoints: Sequence[Path], out: Path) -> None:
    """Writes the mean of the weights to `out`, added up in float64 and stored in the type of the first checkpoint.

    Equal checkpoints give equal bytes, in whatever folder. Files are read as weights alone: they cannot run code.

    Raises: UserError where there is none, where they are of different shapes, or where a file is none of fairseq's.
    """
    if not checkpoints:
        raise UserError("There is no checkpoint to average.", "Train for at least `checkpoint.every` updates.")
    state, sums = None, {}
    for path in checkpoints:
        loaded = load(path)
        weights = loaded["model"]
        if state is None:
            state = loaded
            sums = {name: _summand(weight).clone() for name, weight in weights.items()}
            continue
        _check_same(sums, weights, path, checkpoints[0])
        for name, weight in weights.items():
            sums[name] += _summand(weight)
    assert state is not None
    means = {name: _mean(total, len(checkpoints), state["model"][name].dtype) for name, total in sums.items()}
    save(without_training(state, means), out)


def load(path: Path) -> dict[str, Any]:
    """A fairseq checkpoint on the CPU, read without running anything in it.

    Raises: UserError where it is none.
    """
    import pickle

    import torch

    from kd.engines.fairseq import compat

    compat.install()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is no checkpoint {path}.", "Check the path.") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} cannot be read as a checkpoint: {reason}", "Use one that fairseq or kd wrote."
        ) from error
    if not isinstance(state, dict) or "model" not in state or not (state.get("cfg") or state.get("args")):
        raise UserError(f"{path} is no checkpoint of fairseq.", "It needs `model` and `cfg` or `args`.")
    return state


def _summand(weight: Any) -> Any:
    return weight.double() if weight.is_floating_point() else weight.long()


def _mean(total: Any, count: int, dtype: Any) -> Any:
    return (total / count if total.is_floating_point() else total // count).to(dtype)


def _check_same(sums: dict[str, Any], weights: dict[str, Any], path: Path, first: Path) -> None:
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if shapes != {name: tuple(total.shape) for name, total in sums.items()}:
        raise UserError(f"{path} and {first} hold models of different shapes.", "Average checkpoints of one training.")


def without_training(state: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint that fairseq's tools load: no optimiser, no iterator, no paths, no BLEU during validation."""
    history = state.get("optimizer_history") or [{}]
    return {
        "args": _without_paths(state["args"]) if state.get("args") else None,
        "cfg": _without_paths(state["cfg"]) if state.get("cfg") else None,
        "model": weights,
        # fairseq's loader wants these keys.
        "optimizer_history": [
            {"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": history[-1].get("num_updates", 0)}
        ],
        "extra_state": {},
    }


_PATHS = ("data", "save_dir", "restore_file", "finetune_from_model", "tensorboard_logdir")


def _without_paths(settings: Any) -> Any:
    """The settings with which a model is built, without what belongs to the training or its machine."""
    if isinstance(settings, dict):
        parts = {name: dict(settings[name]) if name == "task" else settings[name] for name in ("task", "model")}
        parts["task"] |= {"data": "", "eval_bleu": False, "eval_bleu_detok_args": "{}"}
        return {"_name": None, "task": parts["task"], "model": _without_paths(parts["model"])}
    values = vars(settings)
    values |= {name: "" for name in _PATHS if name in values}
    values |= {name: new for name, new in (("eval_bleu", False), ("eval_bleu_detok_args", "{}")) if name in values}
    return settings


def save(state: dict[str, Any], out: Path) -> None:
    """Through a file object, for torch names the archive inside after the path otherwise."""
    import torch

    aside = out.with_name(out.name + ".tmp")
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(out)
