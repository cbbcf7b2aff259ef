"""What a build needs and takes along, and what a user without any container runtime is told."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.container import definitions, needs, pip

CPU = definitions.find("cpu")


@pytest.mark.parametrize(
    "arguments", [("build", "cpu"), ("exec", "kd.sif", "--", "kd", "--help"), ("run", "recipe=demo")]
)
def test_without_a_runtime_it_is_one_sentence_and_exit_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "kd.sif").write_bytes(b"")
    command = [sys.executable, "-m", "kd", *(["container"] if arguments[0] != "run" else []), *arguments]
    if arguments[0] == "run":
        command += ["machine.container=kd.sif"]
    environment = {**os.environ, "PATH": "/nowhere", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == ("kd: Neither apptainer nor singularity is on PATH. Install Apptainer, or load its module.\n")


def test_a_full_disk_and_a_missing_folder_are_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "TEMPORARY", {"cpu": 10**9})
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("APPTAINER_TMPDIR", raising=False)
    with pytest.raises(UserError) as error:
        needs.check(CPU, tmp_path / "none" / "kd.sif", "apptainer", fakeroot=False, local_base=True)
    assert f"{tmp_path} has " in error.value.problem
    assert f"the folder of the image, {tmp_path}/none, does not exist" in error.value.problem


def test_who_is_not_root_needs_ids_or_fakeroot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(needs, "_delegated", lambda _file, _user: False)
    monkeypatch.setattr(needs, "_namespaces", lambda: True)
    for program in ("mksquashfs", "fakeroot", "newuidmap", "newgidmap"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(needs, "TEMPORARY", {"cpu": 0})
    notes = needs.check(CPU, tmp_path / "kd.sif", "apptainer", fakeroot=True, local_base=True)
    assert any("building with the program fakeroot instead" in note for note in notes)
    (tmp_path / "fakeroot").unlink()
    with pytest.raises(UserError, match=r"no line for .* in /etc/subuid .* the program fakeroot, is not installed"):
        needs.check(CPU, tmp_path / "kd.sif", "apptainer", fakeroot=True, local_base=True)
    monkeypatch.setattr(needs, "_delegated", lambda _file, _user: True)
    assert needs.check(CPU, tmp_path / "kd.sif", "apptainer", fakeroot=True, local_base=True) == []
    monkeypatch.setattr(needs, "_namespaces", lambda: False)
    with pytest.raises(UserError, match="user namespaces are switched off"):
        needs.check(CPU, tmp_path / "kd.sif", "apptainer", fakeroot=True, local_base=True)


def test_a_base_that_is_a_tag_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "_rights", lambda _: ([], []))
    monkeypatch.setattr(needs, "TEMPORARY", {"cpu": 0})
    monkeypatch.setattr(needs, "_beside", lambda *_: True)
    (note,) = needs.check(CPU, tmp_path / "kd.sif", "apptainer", fakeroot=False, local_base=False)
    assert "kd container pin cpu" in note
    assert needs.check(CPU, tmp_path / "kd.sif", "apptainer", fakeroot=False, local_base=True) == []


def test_pip_is_configured_in_a_build_as_it_is_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels, index, cert = tmp_path / "wheels", tmp_path / "index" / "simple", tmp_path / "ca.pem"
    wheels.mkdir()
    index.mkdir(parents=True)
    cert.write_text("")
    (tmp_path / "mine.conf").write_text(f"[global]\nindex-url = file://{index}\ntimeout = 5\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "mine.conf"))
    monkeypatch.setenv("PIP_FIND_LINKS", f"{wheels} /not/there")
    monkeypatch.setenv("PIP_CERT", str(cert))
    monkeypatch.setenv("PIP_TIMEOUT", "180")
    settings = tmp_path / "settings"
    binds = [bind.rpartition(":") for bind in pip.write_settings(settings)]
    assert (binds[0][0], binds[0][2]) == (str(settings), "/mnt")
    inside = {out: place for out, _, place in binds}
    # Every place is there to be mounted on: a folder for a folder, a file for a file.
    for out, place in inside.items():
        assert (settings / Path(place).relative_to("/mnt")).is_dir() == Path(out).is_dir()
    written = configparser.RawConfigParser()
    written.read(settings / "pip.conf")
    assert written["global"]["timeout"] == "180"
    # What is not there cannot be bound, and of an index the folder above is, where its links lead.
    assert written["global"]["find-links"].split() == [inside[str(wheels)], "/not/there"]
    assert written["global"]["index-url"] == f"file://{inside[str(index.parent)]}/simple"
    assert written["global"]["cert"] == inside[str(cert)]
