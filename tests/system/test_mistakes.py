"""Mistakes that show in the data or on the disk: one clear sentence, exit 2, nothing lost, nothing half-written."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


class Files:
    """A user's two files, and `kd run recipe=files` on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source, self.target = folder / "c.en", folder / "c.de"
        self.source.write_text("".join(f"sentence number {i} is here\n" for i in range(40)), "utf-8")
        self.target.write_text("".join(f"Satz Nummer {i} ist hier\n" for i in range(40)), "utf-8")

    def command(self, *overrides: str) -> list[str]:
        """As far as cleaning."""
        files = [f"source={self.source}", f"target={self.target}"]
        return [sys.executable, "-m", "kd", "run", "recipe=files", *files, "upto=clean", *overrides]

    def run(self, *overrides: str) -> str:
        """What is told, by a run that has to end with exit 2."""
        done = subprocess.run(self.command(*overrides), cwd=self.folder, capture_output=True, text=True, check=False)
        told = done.stdout + done.stderr
        assert done.returncode == 2, told
        assert "Traceback" not in told
        return " ".join(told.split())

    def published(self) -> list[str]:
        """The stages that left something under its final name."""
        return sorted(path.parts[-4] for path in self.folder.glob("store/[!.]*/*/*/manifest.json"))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Fresh ones."""
    return Files(tmp_path)


def test_sides_of_unequal_length(files: Files) -> None:
    with files.target.open("a", encoding="utf-8") as handle:
        handle.write("einer zu viel\n")
    told = files.run()
    assert "40" in told
    assert "41" in told
    assert str(files.target) in told
    assert files.published() == []


def test_invalid_utf8_names_file_and_line(files: Files) -> None:
    lines = files.target.read_bytes().split(b"\n")
    lines[16] = b"kaputt \xff hier"
    files.target.write_bytes(b"\n".join(lines))
    told = files.run()
    assert str(files.target) in told
    assert "17" in told
    assert files.published() == []


def test_a_truncated_archive(files: Files) -> None:
    packed = files.source.with_suffix(".en.gz")
    whole = gzip.compress(os.urandom(3000).hex().encode() + files.source.read_bytes())
    packed.write_bytes(whole[: len(whole) // 2])
    files.source = packed
    assert str(packed) in files.run()


@pytest.mark.parametrize("content", ["", "\n\n\n"])
def test_an_empty_corpus(files: Files, content: str) -> None:
    files.source.write_text(content, "utf-8")
    files.target.write_text(content, "utf-8")
    assert "no pair" in files.run()
    assert "clean.source-target" not in files.published()


def test_too_few_sentences_to_hold_out(files: Files) -> None:
    assert "split.test" in files.run("upto=split")


def test_a_file_that_changed_after_planning_is_not_read_as_the_old_one(files: Files) -> None:
    subprocess.run(files.command(), cwd=files.folder, check=True, capture_output=True)
    before = files.published()
    files.source.write_text(files.source.read_text("utf-8").replace("number 3 ", "number three "), "utf-8")
    subprocess.run(files.command(), cwd=files.folder, check=True, capture_output=True)
    assert len(files.published()) == 2 * len(before)


def test_a_full_disk_is_told_and_loses_nothing(files: Files) -> None:
    # A file system of 2 MB of its own, in a namespace of its own, so that it is the kernel that says "full".
    random_text = "".join(os.urandom(300).hex() + "\n" for _ in range(6000))
    files.source.write_text(random_text, "utf-8")
    files.target.write_text(random_text.swapcase(), "utf-8")
    disk, kept = files.folder / "disk", files.folder / "kept"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=2m tmpfs {disk} || exit 99; "$@"; status=$?; cp -a {disk} {kept}; exit $status'
    command = files.command(f"store.dir={disk}/store", f"run.dir={files.folder}/run")
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", *command],
        cwd=files.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert "store.dir" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(kept.glob("store/[!.]*/*/*/manifest.json"))
    # With room, the same command goes through.
    subprocess.run(files.command(f"run.dir={files.folder}/run"), cwd=files.folder, check=True, capture_output=True)
    assert files.published() == ["clean.source-target", "collect.source-target"]
