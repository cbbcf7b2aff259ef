"""Translation with an exported folder needs and imports neither torch, fairseq, Hydra nor omegaconf."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kd.engines.ctranslate2 import export
from kd.models.description import Languages, Original

BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "fairseq", "hydra", "omegaconf", "transformers", "comet", "numba"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "student"
    export(trained.folder, folder, "int8", Original(Languages(("de",), ("en",))))
    return folder


@pytest.mark.parametrize(
    "code",
    [
        "import kd; print(*kd.Translator({folder!r}, threads=1).translate(['eins zwei.']))",
        "from kd.cli import main; sys.exit(main(['translate', '--model', {folder!r}, '--threads', '1']))",
    ],
    ids=["Python", "kd translate"],
)
def test_translating_needs_no_training_library(exported: Path, code: str) -> None:
    command = [sys.executable, "-c", BLOCK + code.format(folder=str(exported))]
    run = subprocess.run(command, input="eins zwei.\n", capture_output=True, encoding="utf-8")
    assert (run.returncode, run.stdout) == (0, "two one.\n"), run.stderr
