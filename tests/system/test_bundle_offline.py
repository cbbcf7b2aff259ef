"""A bundle moves a run to a computer without a network, with the artifacts that are finished."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from runs_of_tiny import Workplace

from kd.base.errors import UserError
from kd.run.bundle import check

pytestmark = pytest.mark.system


def offline(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a bundle in a network namespace without any route; kd is on PATH."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "400"}
    command = ["unshare", "--net", str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False)


def test_a_run_goes_on_in_a_place_without_a_network(finished: Workplace, tmp_path: Path) -> None:
    file = tmp_path / "tiny.tar"
    finished.kd("bundle", "upto=clean", "--output", str(file), "--without-wheels")
    assert check(file) == 0
    away = tmp_path / "a place with spaces"
    away.mkdir()
    with tarfile.open(file) as archive:
        archive.extractall(away, filter="data")
    bundle = away / "kd-bundle"
    set_up = offline(bundle / "setup.sh")
    assert set_up.returncode == 0, set_up.stderr
    done = offline(bundle / "run.sh", "upto=shard")
    assert done.returncode == 0, done.stderr
    # What was packed is not made again.
    started = {line.split()[2].partition("/")[0] for line in done.stderr.split("\n") if " started " in line}
    assert started == {"split", "shard.en-xx"}, done.stderr
    assert list((bundle / "store").glob("shard.en-xx/*/*/manifest.json"))


def test_a_damaged_bundle_is_refused_with_the_file_that_is_damaged(finished: Workplace, tmp_path: Path) -> None:
    file = tmp_path / "tiny.tar"
    finished.kd("bundle", "upto=collect", "--output", str(file), "--without-wheels")
    with tarfile.open(file) as archive:
        member = next(item for item in archive if item.name.endswith("manifest.json"))
    content = bytearray(file.read_bytes())
    content[member.offset_data] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"{member.name.removeprefix('kd-bundle/')} differs from the packed file"):
        check(file)
    file.write_bytes(content[: member.offset_data + 5])
    with pytest.raises(UserError, match="damaged"):
        check(file)
    file.write_text("no archive")
    with pytest.raises(UserError, match=r"tiny\.tar is damaged, or is not a bundle: [^\n]*\. Copy it again\."):
        check(file)


def test_corpora_that_are_not_collected_are_named(workplace: Workplace, tmp_path: Path) -> None:
    words = (f"store.dir={tmp_path}/empty", "--output", str(tmp_path / "tiny.tar"), "--without-wheels")
    done = workplace.kd("bundle", *words, check=False)
    assert done.returncode == 2
    assert "collect.en-xx/made_up is not collected yet. Run `kd run recipe=" in done.stderr
    assert not list(tmp_path.glob("*.tar*"))
