"""A folder for temporary files does not outlive its process for long, even if that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kd.base.scratch import scratch_folder

KILLED = """
import os, signal
from kd.base.scratch import scratch_folder
with scratch_folder("kd-try-") as folder:
    (folder / "model").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_it_is_removed_at_the_end(place: Path) -> None:
    with scratch_folder("kd-try-") as folder:
        (folder / "model").write_text("x")
        assert place in folder.parents
    assert list(place.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_by_the_next(place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(place)})
    assert done.returncode == -signal.SIGKILL
    (left,) = place.iterdir()
    (place / "kd-try-mine").mkdir()  # has no owner: it may be anything
    with scratch_folder("kd-try-") as folder, scratch_folder("kd-try-"):
        assert not left.exists() and folder.is_dir(), "the folder of a live process stays"
    assert [path.name for path in place.iterdir()] == ["kd-try-mine"]
