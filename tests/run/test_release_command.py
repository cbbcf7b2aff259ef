"""`kd release`: uploads a released folder to the hub, or refuses with the command that does it elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import UserError
from kd.run import release as command

UPLOAD = """
import sys
from pathlib import Path
from kd.base.errors import UserError
from kd.run.release import _upload
try:
    _upload(Path(sys.argv[1]), Path("runs/demo/release.en-de/student"), sys.argv[2])
except UserError as error:
    print(error)
"""


def refused(folder: Path, repository: str, **environment: str) -> str:
    """Return the error of an upload to an address where nothing listens."""
    variables = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_none"} | environment
    done = subprocess.run([sys.executable, "-c", UPLOAD, str(folder), repository], env=variables, text=True,
                          capture_output=True, check=True)  # fmt: skip
    return done.stdout


def test_without_a_network_it_prints_the_command_for_another_machine(tmp_path: Path) -> None:
    said = refused(tmp_path, "me/demo")
    assert said.startswith("The hub cannot be reached: ") and said.count("\n") == 1
    assert "hf upload me/demo runs/demo/release.en-de/student ." in said
    assert "The hub cannot be reached" in refused(tmp_path, "me/demo", HF_HUB_OFFLINE="1")


def test_a_wrong_name_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    assert "Set push=ORGANISATION/NAME." in refused(tmp_path, "a/b/c")


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Path, Path]]:
    found = {name: (tmp_path / name, Path("runs/demo/release.en-de") / name) for name in ("float32", "int8")}
    monkeypatch.setattr(command, "_released", lambda request: found)
    return found


def test_the_chosen_folder_is_uploaded_without_its_manifest(
    released: dict[str, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[Any] = []

    class Hub:
        def create_repo(self, name: str, exist_ok: bool) -> str:
            return f"https://hub/{name}"

        def upload_folder(self, **options: Any) -> None:
            sent.append(options)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    request: Any = None
    assert command.release(request, "me/demo", "int8") == 0
    assert sent == [{"repo_id": "me/demo", "folder_path": released["int8"][0], "ignore_patterns": ["manifest.json"]}]
    assert capsys.readouterr().out == "Uploaded runs/demo/release.en-de/int8 to https://hub/me/demo.\n"


def test_a_choice_is_needed_among_several_folders(
    released: dict[str, tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    request: Any = None
    with pytest.raises(UserError, match="Add one of: folder=float32, folder=int8"):
        command.release(request, "me/demo", None)
    with pytest.raises(UserError, match="There is no released folder called int9"):
        command.release(request, "me/demo", "int9")
    assert command.release(request, None, None) == 0
    assert capsys.readouterr().out.startswith("float32\truns/demo/release.en-de/float32\n")
