"""Damage between the streams of a compressed file and between the files of an archive is noticed; padding is not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from kd.base.errors import UserError
from kd.corpora.archives import Member, lacks_end_mark, members
from kd.corpora.lines import BrokenText, open_text
from kd.corpora.places import within

Change = Callable[[bytes], bytes]
HALVES = [b"one\ntwo\n", b"three\nfour\n"]
LINES = ["one", "two", "three", "four"]


def tar(files: dict[str, bytes]) -> bytes:
    """Return an uncompressed tar as GNU tar writes it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return content.getvalue()


@pytest.mark.parametrize(
    ("suffix", "join"),
    [
        (".xz", lambda: b"\0\0\0\0".join(map(lzma.compress, HALVES)) + b"\0" * 8),
        (".gz", lambda: b"\0\0".join(map(gzip.compress, HALVES)) + b"\0" * 512),
        (".bz2", lambda: b"".join(map(bz2.compress, HALVES))),
        (".zst", lambda: b"\x50\x2a\x4d\x18\x03\0\0\0abc".join(map(zstandard.compress, HALVES))),
    ],
)
def test_every_stream_of_a_file_is_read(tmp_path: Path, suffix: str, join: Callable[[], bytes]) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(join())
    assert list(open_text(path)) == LINES


@pytest.mark.parametrize(
    ("suffix", "between"),
    [(".xz", b"\0\0"), (".xz", b"x"), (".xz", b"\xfd7zXZ"), (".bz2", b"\0"), (".bz2", b"BZh0"), (".gz", b"x"),
     (".zst", b"\0"), (".zst", b"garbage")],
)  # fmt: skip
@pytest.mark.parametrize("after", [False, True])
def test_other_bytes_after_a_stream_are_refused(tmp_path: Path, suffix: str, between: bytes, after: bool) -> None:
    compress = {".xz": lzma.compress, ".bz2": bz2.compress, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    path = tmp_path / f"text{suffix}"
    path.write_bytes(compress(HALVES[0]) + between + (compress(HALVES[1]) if after else b""))
    with pytest.raises(BrokenText, match=rf"text{suffix} is (damaged|truncated) after line 2"):
        list(open_text(path))


PACK: dict[str, Change] = {
    ".tar": bytes, ".tgz": gzip.compress, ".tar.gz": gzip.compress, ".tar.bz2": bz2.compress, ".tar.xz": lzma.compress,
}  # fmt: skip


@pytest.mark.parametrize("suffix", PACK)
def test_a_whole_tar_is_listed_and_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(PACK[suffix](tar({"b.tsv": HALVES[0], "a.tsv": HALVES[1], "__MACOSX/._a.tsv": b"x", "._b": b"y"})))
    assert [member.name for member in members(path)] == ["a.tsv", "b.tsv"]
    assert list(open_text(Member(path, "a.tsv"))) == ["three", "four"]
    assert not lacks_end_mark(path)


@pytest.mark.parametrize("suffix", PACK)
def test_a_tar_that_is_cut_off_anywhere_is_refused_or_suspected(tmp_path: Path, suffix: str) -> None:
    whole = PACK[suffix](tar({"a": HALVES[0] * 100, "b": HALVES[1] * 100}))
    for length in range(1, len(whole), max(1, len(whole) // 150)):
        path = tmp_path / f"{length}{suffix}"
        path.write_bytes(whole[:length])
        try:
            complete = [member.name for member in members(path)] == ["a", "b"]
        except UserError as error:
            assert "cannot be read" in str(error)
        else:
            assert suffix == ".tar"
            assert complete or lacks_end_mark(path)


@pytest.mark.parametrize("suffix", [".tgz", ".tar.bz2", ".tar.xz"])
def test_a_changed_byte_in_a_compressed_tar_is_noticed(tmp_path: Path, suffix: str) -> None:
    whole = PACK[suffix](tar({"a": HALVES[0] * 100, "b": HALVES[1] * 100}))
    for place in range(12, len(whole), max(1, len(whole) // 60)):
        changed = bytearray(whole)
        changed[place] ^= 4
        path = tmp_path / f"{place}{suffix}"
        path.write_bytes(changed)
        with pytest.raises(UserError, match="cannot be read"):
            members(path)


def test_a_damaged_header_within_a_tar_is_not_its_end(tmp_path: Path) -> None:
    content = bytearray(tar({"a": HALVES[0], "b": HALVES[1]}))
    content[1024] ^= 1  # the name of the second file, whose header has a checksum
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match="damaged header"):
        members(tmp_path / "a.tar")


def test_joined_tars_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar({"a": HALVES[0]}) + tar({"b": HALVES[1]}))
    with pytest.raises(UserError, match="data follows its end mark"):
        members(tmp_path / "a.tar")


def test_a_tar_without_an_end_mark_is_suspected(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar({"a": HALVES[0]})[:1024])
    assert [member.name for member in members(tmp_path / "a.tar")] == ["a"]
    assert lacks_end_mark(tmp_path / "a.tar")


def test_an_encrypted_zip_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.tsv", "a\tb\n")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tsv is encrypted"):
        members(path)


def test_an_archive_in_an_archive_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner.tsv.zip", b"PK\x03\x04")
    with pytest.raises(UserError, match=r"holds another archive, inner\.tsv\.zip: unpack the outer one"):
        within(tmp_path / "a.zip", [".tsv"])


@pytest.mark.parametrize("content", [b"", b"plain text", gzip.compress(b"plain text", mtime=0), b"\x1f\x8b"])
def test_archives_that_are_none_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("a.tgz", "a.zip", "a.tar"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            members(tmp_path / name)
