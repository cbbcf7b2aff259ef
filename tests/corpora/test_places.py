"""Wildcards find the same files on all sides or say which is lacking; archives are read like folders."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.corpora.archives import Member
from kd.corpora.lines import BrokenText, open_lines
from kd.corpora.places import find, find_aligned, on_disk, within


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}\n", "utf-8")


def test_sides_meet_where_their_wildcards_match_the_same(tmp_path: Path) -> None:
    touch(tmp_path, "en/x2.gz", "en/x10.gz", "en/x1.gz", "en/.y.gz", "de/x1.de.gz", "de/x10.de.gz", "de/x2.de.gz")
    pairs = find_aligned({"source": tmp_path / "en" / "*.gz", "target": tmp_path / "de" / "*.de.gz"})
    assert [[on_disk(path).name for path in pair.values()] for pair in pairs] == [
        ["x1.gz", "x1.de.gz"],
        ["x10.gz", "x10.de.gz"],
        ["x2.gz", "x2.de.gz"],
    ]


@pytest.mark.parametrize("pattern", ["x?", "x[12]", "x[!3]", "**/x*", "*"])
def test_wildcards_mean_what_they_mean_to_glob(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, "x1", "x2", "[x]")
    assert {on_disk(path).name for path in find(tmp_path / pattern).values()} >= {"x1", "x2"}
    assert list(find(tmp_path / "[x]")) == [()]  # a file of that name is taken as it is


def test_a_side_without_partner_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.en", "b.en", "a.de")
    with pytest.raises(UserError, match=r"b\.en has no partner: no file that matches .*\*\.de has b in place of"):
        find_aligned({"source": tmp_path / "*.en", "target": tmp_path / "*.de"})
    with pytest.raises(UserError, match="No file matches"):
        find(tmp_path / "*.fr")
    assert find(tmp_path / "missing.en") == {(): tmp_path / "missing.en"}  # whoever opens it says that it is missing


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


FILES = {"README": b"", "corpus/x.en": b"one\x0b\ntwo\rlines\n", "corpus/x.de": b"eins\nzwei"}


@pytest.mark.parametrize(("make", "name"), [(zipped, "c.zip"), (tarred, "c.tar.gz"), (tarred, "c.tgz")])
def test_archives_are_read_like_folders(tmp_path: Path, make, name: str) -> None:
    archive = make(tmp_path / name, FILES)
    pairs = find_aligned({"source": archive / "corpus" / "*.en", "target": archive / "corpus" / "*.de"})
    assert [[list(open_lines(place)) for place in pair.values()] for pair in pairs] == [
        [["one\x0b", "two\rlines"], ["eins", "zwei"]]
    ]
    assert on_disk(pairs[0]["source"]) == archive
    assert [place.name for place in within(archive, [".en"])] == ["corpus/x.en"]
    with pytest.raises(UserError, match=r"holds no \.tmx file"):
        within(archive, [".tmx"])
    with pytest.raises(UserError, match="There is no y"):
        list(open_lines(Member(archive, "y")))


def test_broken_archives_are_named(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "c.zip", {"a": b"line\n" * 200_000})
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(BrokenText, match=r"c\.zip/a is damaged after line"):
        list(open_lines(Member(archive, "a")))
    archive.write_bytes(content[:100])
    with pytest.raises(UserError, match=r"c\.zip cannot be read"):
        find(archive / "*")
