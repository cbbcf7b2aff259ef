"""Fixtures for optimum and onnxruntime, which the export to ONNX needs and kd does not install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = (
    "onnx==1.19.1",
    "onnxruntime==1.32.0",
    "optimum==2.1.0",
    "optimum-onnx==0.1.0",
    "ml_dtypes==0.5.4",
    "flatbuffers",
)


@pytest.fixture(scope="module")
def onnx_site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Optimum and onnxruntime, installed for one file of tests."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(folder)]
    subprocess.run([*install, *PACKAGES], check=True, capture_output=True)
    return str(folder)


@pytest.fixture
def onnx_libraries(onnx_site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the packages importable, here and in processes."""
    monkeypatch.syspath_prepend(onnx_site)
    # onnxruntime.transformers adds its own folder when it is first imported, which the end of that test undoes.
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(onnx_site, "onnxruntime", "transformers"))])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
