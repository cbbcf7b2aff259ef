"""Exports fairseq models to ONNX with weights in int8, as `kd.engines.onnx` does in float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kd.engines import onnx
from kd.engines.loading import Decoding
from kd.models.description import Original


def export(model_folder: Path, out: Path, original: Original, *, beam: int) -> None:
    """Write a folder that onnxruntime and transformers.js load; the arguments are those of `Package.export`."""
    onnx.write(model_folder, out, original, beam=beam, format_="onnx_int8", ending=onnx.INT8)


def translate(folder: Path, sources: Sequence[str], decoding: Decoding, *, threads: int) -> list[str]:
    """Translate with onnxruntime; the arguments are those of `Package.translate`."""
    return onnx.translate(folder, sources, decoding, threads=threads)
