"""The check that tests leave shared fixtures as they were."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.shared_fixtures import differences, made_once, snapshot

MODULE = """
import pytest

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("made")
    (made / "file").write_text("text")
    return made

def test_reads(folder):
    assert (folder / "file").read_text() == "text"

def test_writes(folder):
    (folder / "other").write_text("text")
"""


def test_differences_name_files_that_were_added_removed_and_changed(tmp_path: Path) -> None:
    for name in ("kept", "removed", "changed", "linked"):
        (tmp_path / name).write_text(name)
    os.link(tmp_path / "linked", tmp_path / "second_name")
    before = snapshot(tmp_path)
    assert differences(before, snapshot(tmp_path)) == []
    (tmp_path / "added").mkdir()
    (tmp_path / "removed").unlink()
    (tmp_path / "changed").write_text("other text")
    (tmp_path / "linked").unlink()
    (tmp_path / "linked").write_text("linked")  # the same text in another file
    assert differences(before, snapshot(tmp_path)) == ["added added", "removed removed", "changed changed",
                                                       "changed linked"]  # fmt: skip


def test_a_test_that_changes_a_shared_fixture_fails(tmp_path: Path) -> None:
    (tmp_path / "test_made.py").write_text(MODULE, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "test_made.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "folder: added other" in done.stdout
    assert "2 passed, 1 error" in done.stdout
    assert "ERROR test_made.py::test_writes" in done.stdout


def test_a_shared_folder_is_made_once_for_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    workers = [cast(pytest.TempPathFactory, SimpleNamespace(getbasetemp=lambda name=name: tmp_path / name))
               for name in ("gw0", "gw1")]  # fmt: skip
    made: list[Path] = []

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        made_once(workers[0], "thing", fail)
    first, second = (made_once(worker, "thing", made.append) for worker in workers)
    assert first == second == tmp_path / "thing-of-all-workers"
    assert made == [first] and list(first.iterdir()) == []
