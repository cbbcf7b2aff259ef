"""Load fairseq checkpoints safely and with checked settings; all of kd loads them here.

A checkpoint is untrusted data. A file in a store is first compared with the hash in its manifest. Then torch's
restricted reader, which builds only tensors and plain values, unpickles it, and its settings pass an allow-list
(`settings.py`).
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.engines.fairseq.settings import Refused, allowed
from kd.models.integrity import check_file, check_hash

# Objects that stock fairseq keeps in its meters. kd does not use them, so they are read as empty placeholders.
_DISCARDED = (
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
    "fairseq.meters.AverageMeter",
    "fairseq.meters.StopwatchMeter",
    "fairseq.meters.TimeMeter",
)
_REFUSED_GLOBAL = re.compile(r"\bGLOBAL ([\w.]+)")
_WEIGHTS, _SETTINGS = "model", ("cfg", "args")


class _Discarded:
    """Replace an unneeded object in a checkpoint. Building and filling it runs no code."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def load(path: Path) -> dict[str, Any]:
    """Return a fairseq checkpoint on the CPU, with its weights in `model` and its checked settings in `cfg`.

    Raises:
        UserError: The file is missing, damaged, not a fairseq checkpoint, or has settings that are not allowed.
    """
    check_file(path)
    check_hash(path)
    state = read(path)
    if not isinstance(state, dict) or _WEIGHTS not in state or not any(state.get(name) for name in _SETTINGS):
        raise UserError(
            f"{path} is not a checkpoint of fairseq.", "A checkpoint has the entries `model`, and `cfg` or `args`."
        )
    if not isinstance(state[_WEIGHTS], dict) or not all(map(_is_tensor, state[_WEIGHTS].values())):
        raise UserError(f"{path} is not a checkpoint of fairseq: `model` holds something other than tensors.")
    try:
        settings = allowed(state)
    except Refused as error:
        raise UserError(
            f"{path} cannot be used: {error}.", "Use a translation Transformer that was trained with fairseq or kd."
        ) from None
    return {**state, "args": None, "cfg": settings}


# What torch's unpickler raises for changed bytes besides UnpicklingError, as `make fuzz` found.
_OF_DAMAGED = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError,
    AssertionError, struct.error,
)  # fmt: skip


def read(path: Path) -> Any:
    """Return the content of a file that `torch.save` wrote; only tensors, plain values and Namespaces are built.

    Raises:
        UserError: The file is missing or damaged, or it holds objects of other types.
    """
    import torch

    from kd.engines.fairseq import compat

    compat.install()
    discarded: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [(_Discarded, name) for name in _DISCARDED]
    try:
        with torch.serialization.safe_globals(discarded):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is no checkpoint {path}.", "Check the path.") from None
    except pickle.UnpicklingError as error:
        if found := _REFUSED_GLOBAL.search(str(error)):
            what = f"{path} cannot be read as a checkpoint: it holds an object of type {found[1]}, which may run code."
            raise UserError(what, "If you trust its source, save it again there with fairseq 0.12.") from None
        raise _damaged(path, error) from None
    except _OF_DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    first = re.sub(r"\x1b\[[0-9;]*m", "", str(error).partition("\n")[0]).partition(". ")[0]
    reason = first.rstrip(".") or type(error).__name__
    return UserError(f"{path} cannot be read as a checkpoint: {reason}.", "Copy the file again; it may be damaged.")


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
