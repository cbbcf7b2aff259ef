"""COMET checkpoints: find them by folder, file or name, read their settings, and load them without a network."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from kd.base.errors import UserError

REGRESSION = "regression_metric"
REFERENCE_FREE = "referenceless_regression_metric"
UNIFIED = ("unified_metric", "xcomet_metric")  # the reference is optional if they read the source
CLASSES = (REFERENCE_FREE, *UNIFIED, REGRESSION, "ranking_metric")


def find_checkpoint(model: str) -> tuple[Path, str]:
    """Return the checkpoint file of a model and the model's name.

    Args:
        model: A folder, a .ckpt file, or a name, which is downloaded if it is not in the cache.

    Raises:
        UserError: There is no such model.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return path, path.absolute().parent.parent.name
    if path.is_dir():
        # The hub's models use the first name; checkpoints of the first generation have the epoch in their names.
        found = [path / "checkpoints" / "model.ckpt", *sorted(path.glob("checkpoints/*.ckpt")), *path.glob("*.ckpt")]
        checkpoint = next(filter(Path.is_file, found), None)
        if checkpoint is None:
            raise UserError(f"{path} has no COMET checkpoint.", "Give a folder that contains checkpoints/model.ckpt.")
        return checkpoint, path.absolute().name
    if model.startswith((".", "/", "~")) or model.endswith(".ckpt"):
        raise UserError(f"There is no COMET model at {model}.", "Give its folder, its .ckpt file, or a model's name.")
    return _by_name(model)


def model_files(model: str | None) -> list[Path]:
    """Return the files of a model given as a path, whose content identifies the model; empty for a name."""
    if not model or not Path(model).is_absolute():
        return []
    checkpoint, _ = find_checkpoint(model)
    return [checkpoint, hparams_file(checkpoint)]


def _by_name(model: str) -> tuple[Path, str]:
    first_generation = Path.home() / ".cache" / "torch" / "unbabel_comet" / model  # unbabel-comet's own cache
    if "/" not in model and first_generation.is_dir():
        return find_checkpoint(os.fspath(first_generation))
    names = [model] if "/" in model else [model, f"Unbabel/{model}"]
    from huggingface_hub import snapshot_download

    for name in names[-1:]:
        try:  # a cached model needs no network
            checkpoint = Path(snapshot_download(name, local_files_only=True)) / "checkpoints" / "model.ckpt"
        except Exception:
            continue
        if checkpoint.is_file():
            return checkpoint, name
    return _download(model, names)


def _download(model: str, names: Sequence[str]) -> tuple[Path, str]:
    with quiet():
        from comet.models import download_model
        from comet.models.download_utils import available_legacy_metrics

    name = model if model in available_legacy_metrics else names[-1]
    try:
        return Path(download_model(name)), name
    except Exception as error:  # unbabel-comet raises KeyError for every cause
        raise UserError(
            f"The COMET model {name} is not in the cache and could not be downloaded: no network, no such name, or "
            f"a licence to be accepted on its page.",
            f"On a computer with a network, run `hf download {name} --local-dir FOLDER`; copy that folder here and "
            f"give its path instead of the name.",
        ) from error


def hparams_file(checkpoint: Path) -> Path:
    """Return the path at which unbabel-comet expects a checkpoint's hyperparameters."""
    return checkpoint.parent.parent / "hparams.yaml"


def hyperparameters(checkpoint: Path) -> dict[str, Any]:
    """Read a checkpoint's hyperparameters. Raise UserError if they are missing or of an unknown class."""
    path = hparams_file(checkpoint)
    if not path.is_file():
        raise UserError(
            f"The COMET checkpoint {checkpoint} has no hparams.yaml in the folder above its own.",
            "A model is a folder with hparams.yaml and checkpoints/model.ckpt; copy it as downloaded.",
        )
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        settings = None
    if not isinstance(settings, dict) or settings.get("class_identifier") not in CLASSES:
        raise UserError(
            f"{path} states no class of unbabel-comet {version('unbabel-comet')}.",
            f"Its class_identifier should be one of: {', '.join(CLASSES)}.",
        )
    return settings


def load(checkpoint: Path, local: bool) -> Any:
    """Load a model.

    Args:
        checkpoint: The model's file.
        local: Whether to avoid all network access, even for the encoder's tokeniser.

    Raises:
        UserError: The file is damaged or contains more than weights, or the tokeniser is missing.
    """
    with _offline(local), quiet():
        from comet.models import load_from_checkpoint

        try:
            model = load_from_checkpoint(os.fspath(checkpoint), local_files_only=local)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"The COMET checkpoint {checkpoint} is damaged, or contains more than weights: "
                f"{_one_line(error)[:200]}",
                "Download it again; or, if you trust its author, set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 in the "
                "environment.",
            ) from None
        except Exception as error:  # AttributeError, among others, if the tokeniser is missing
            encoder = hyperparameters(checkpoint).get("pretrained_model")
            raise UserError(
                f"The COMET model at {checkpoint} cannot be loaded ({type(error).__name__}: {_one_line(error)[:200]}).",
                f"If the checkpoint is complete, the tokeniser of {encoder} is missing. On a computer with a network, "
                f"type `hf download {encoder} --include '*.json' '*.model'`, and copy that computer's Hugging Face "
                "cache ($HF_HOME) here.",
            ) from error
    model.eval()
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Lightning's messages about hardware and the deprecation warnings of COMET's imports."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Keep Hugging Face's packages from looking for newer files, which is slow without a network."""
    if not wanted:
        yield
        return
    variable = os.environ.get("HF_HUB_OFFLINE")
    loaded = sys.modules.get("huggingface_hub.constants")
    constant = bool(getattr(loaded, "HF_HUB_OFFLINE", variable))
    os.environ["HF_HUB_OFFLINE"] = "1"
    if loaded is not None:  # it read the variable when it was imported
        _set_offline(loaded, True)
    try:
        yield
    finally:
        os.environ.pop("HF_HUB_OFFLINE")
        if variable is not None:
            os.environ["HF_HUB_OFFLINE"] = variable
        loaded = sys.modules.get("huggingface_hub.constants")
        if loaded is not None:
            _set_offline(loaded, constant)


def _set_offline(constants: Any, offline: bool) -> None:
    """Switch huggingface_hub, whose open sessions keep the state in which they were made."""
    from huggingface_hub.utils import reset_sessions  # type: ignore[attr-defined]  # public, as its documentation says

    constants.HF_HUB_OFFLINE = offline
    reset_sessions()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
