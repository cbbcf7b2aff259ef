"""A server with two exports of the tiny model, shared by the tests that do not stop it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kd.engines.ctranslate2 import export
from kd.models.description import Languages, Original
from tests.serve.running import Server, serving


@pytest.fixture(scope="session")
def folders(trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Exports in float32 and int8, German to English."""
    root = tmp_path_factory.mktemp("served")
    for name in ("float32", "int8"):
        export(trained.folder, root / name, name, Original(Languages(("de",), ("en",))))
    return root / "float32", root / "int8"


@pytest.fixture(scope="session")
def server(folders: tuple[Path, Path]) -> Iterator[Server]:
    """The server."""
    with serving("--model", *folders, "--max-characters", "2000", "--max-texts", "50") as running:
        yield running
