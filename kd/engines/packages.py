"""The interface of the exports for other software, and their modules by format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from kd.engines.loading import Decoding
from kd.models.description import Original


class Package(Protocol):
    """A format for other software: a module of `kd.engines`."""

    def export(self, model_folder: Path, out: Path, original: Original, *, beam: int) -> None:
        """Write a folder for distribution.

        Args:
            model_folder: A trained model folder.
            out: The folder to write.
            original: The facts of the model that `model.json` states.
            beam: Width of the search, for the settings that the software reads.

        Raises:
            UserError: The model is damaged, the format cannot hold it, or a library is not installed.
        """
        ...

    def translate(self, folder: Path, sources: Sequence[str], decoding: Decoding, *, threads: int) -> list[str]:
        """Translate with the software, as its users would.

        Args:
            folder: A folder that `export` wrote.
            sources: The sentences.
            decoding: Beam, longest translation, and the target language for a model with tags.
            threads: CPU threads.
        """
        ...


def packages() -> Mapping[str, Package]:
    """Return the modules by the name of their format in `export.formats`."""
    from kd.engines import argos, huggingface, marian, onnx, onnx_int8

    return {"huggingface": huggingface, "argos": argos, "marian": marian, "onnx": onnx,
            "onnx_int8": onnx_int8}  # fmt: skip
