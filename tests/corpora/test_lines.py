"""Lines end at `\\n` alone, whatever else the text holds, and what cannot be read is refused with file and line."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kd.base.errors import UserError
from kd.corpora import compression, writing
from kd.corpora import lines as lines_module
from kd.corpora.lines import count_lines, open_aligned, open_bytes, open_lines, open_marked, open_text
from kd.corpora.writing import LineWriter
from tests.corpora.samples import TORTURE

COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
text_lines = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])))


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("end", ["\n", ""])
def test_torture_text_is_read_as_it_is(tmp_path: Path, suffix: str, end: str) -> None:
    path = tmp_path / f"torture{suffix}"
    path.write_bytes(COMPRESS[suffix](("\n".join(TORTURE) + end).encode()))
    assert list(open_lines(path)) == TORTURE
    assert count_lines(path) == len(TORTURE)


@pytest.mark.parametrize("suffix", ["", ".zst", ".gz"])
def test_torture_text_is_written_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"torture{suffix}"
    with LineWriter(path) as writer:
        for line in TORTURE:
            writer.write(line)
    assert list(open_lines(path)) == TORTURE
    assert writer.lines == len(TORTURE)
    assert writer.bytes == path.stat().st_size
    assert writer.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@given(text_lines, st.integers(1, 7), st.sampled_from([*COMPRESS]))
def test_what_is_read_does_not_depend_on_chunks(
    tmp_path_factory: pytest.TempPathFactory, text: list[str], chunk: int, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("chunks") / f"text{suffix}"
    path.write_bytes(COMPRESS[suffix]("".join(f"{line}\n" for line in text).encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "READ_BYTES", chunk)
        patch.setattr(compression, "CHUNK_BYTES", chunk)
        assert list(open_lines(path)) == text


@given(text_lines, st.integers(1, 20))
def test_writer_and_reader_are_inverse(tmp_path_factory: pytest.TempPathFactory, text: list[str], buffer: int) -> None:
    path = tmp_path_factory.mktemp("inverse") / "text.zst"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "WRITE_CHARACTERS", buffer)
        with LineWriter(path) as writer:
            for line in text:
                writer.write(line)
    assert list(open_lines(path)) == text


def test_an_empty_file_has_no_lines_and_a_line_break_one(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"")
    assert list(open_lines(path)) == []
    path.write_bytes(b"\n")
    assert list(open_lines(path)) == [""]


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 5, 6, 1 << 20])
@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        (b"\xff\n", 1, 1),
        (b"one\n\ntw\xffo\nthree\n", 3, 3),
        ("drei\nfünf".encode("latin-1"), 2, 2),
        (b"one\ncut \xe2\x82", 2, 5),  # the euro sign without its last byte, at the end of the file
        (b"one\ncut \xe2\x82\nthree\n", 2, 5),
        (b"surrogate\n\xed\xa0\x80\n", 2, 1),
    ],
)
def test_invalid_utf8_is_named_by_line_after_the_good_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, line: int, byte: int, chunk: int
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    monkeypatch.setattr(compression, "CHUNK_BYTES", chunk)
    good = []
    with pytest.raises(UserError, match=rf"bad.txt, line {line}: byte {byte} of the line is not valid UTF-8") as caught:
        for text in open_lines(path):
            good.append(text)
    assert len(good) == line - 1
    assert "iconv" in caught.value.hint


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zst"])
def test_a_truncated_archive_is_refused_wherever_it_ends(tmp_path: Path, suffix: str) -> None:
    whole = COMPRESS[suffix]("\n".join(f"line {number}" for number in range(50)).encode())
    path = tmp_path / f"text{suffix}"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=rf"text{suffix} is (truncated|damaged) after line \d+\."):
            list(open_lines(path))


def test_a_truncated_archive_gives_its_good_lines_first(tmp_path: Path) -> None:
    frame = COMPRESS[".zst"]
    path = tmp_path / "text.zst"
    path.write_bytes(frame(b"one\ntwo\n") + frame(b"three\nfour\n")[:-3])
    seen = []
    with pytest.raises(UserError, match=r"truncated after line 4\."):
        for line in open_lines(path):
            seen.append(line)
    assert seen == ["one", "two", "three", "four"]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst", ".bz2"])
def test_a_changed_byte_in_an_archive_is_noticed(tmp_path: Path, suffix: str) -> None:
    whole = bytearray(COMPRESS[suffix]("\n".join(f"line {number * number}" for number in range(500)).encode()))
    whole[len(whole) // 2] ^= 0x10
    path = tmp_path / f"text{suffix}"
    path.write_bytes(whole)
    with pytest.raises(UserError, match=f"text{suffix} is damaged"):
        list(open_lines(path))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zst"])
def test_archives_one_after_the_other_are_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(COMPRESS[suffix](b"one\ntw") + COMPRESS[suffix](b"o\nthree\n"))
    assert list(open_lines(path)) == ["one", "two", "three"]


def test_missing_files_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.txt does not exist"):
        open_lines(tmp_path / "missing.txt")
    with pytest.raises(UserError, match="is a folder"):
        open_lines(tmp_path)


@pytest.mark.parametrize(("left", "right", "longer"), [(3, 5, "right"), (5, 3, "left"), (0, 1, "right")])
def test_files_of_unequal_length_are_refused_with_both_counts(
    tmp_path: Path, left: int, right: int, longer: str
) -> None:
    for name, count in (("left", left), ("right", right)):
        (tmp_path / name).write_bytes(b"x\n" * count)
    with pytest.raises(UserError) as caught:
        list(open_aligned([tmp_path / "left", tmp_path / "right"]))
    assert f"{tmp_path / longer} is longer, with {max(left, right)} lines" in str(caught.value)
    assert f"ends after line {min(left, right)}" in str(caught.value)


def test_a_line_break_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line break"), LineWriter(tmp_path / "text") as writer:
        writer.write("one\ntwo")
    assert list(tmp_path.iterdir()) == []


def test_nothing_has_the_final_name_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("old")
    writer = LineWriter(path)
    writer.write("new")
    assert path.read_text() == "old"
    writer.abort()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("text", "old")]
    with pytest.raises(UnicodeEncodeError), LineWriter(path) as writer:
        writer.write("half a surrogate pair \ud800")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("text", "old")]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz", "a.zst", "b.zst"):
        with LineWriter(tmp_path / name) as writer:
            writer.write("one")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert (tmp_path / "a.zst").read_bytes() == (tmp_path / "b.zst").read_bytes()


# --- users' files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"\xef\xbb\xbfone\r\ntwo\r\n", ["one", "two"]),
        (b"one\r\ntwo\r", ["one", "two"]),
        (b"lone \r return\nends\r\r\n", ["lone \r return", "ends"]),
        ("one\n\ufefftwo\n".encode(), ["one", "\ufefftwo"]),
        (b"one\ntwo\n\x1a", ["one", "two"]),
        (b"one\ntwo\x1a\x1a", ["one", "two"]),
        (b"one\x1a\ntwo\n", ["one\x1a", "two"]),
        (b"\n", [""]),
        (b"", []),
    ],
)
def test_line_ends_byte_order_marks_and_final_end_marks_are_no_content(
    tmp_path: Path, suffix: str, content: bytes, lines: list[str]
) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(COMPRESS[suffix](content))
    assert list(open_text(path)) == lines


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("mac.txt", b"one\rtwo\rthree\r", "end in a carriage return alone"),
        ("mac.txt.gz", gzip.compress(b"one\rtwo\rthree", mtime=0), "end in a carriage return alone"),
        ("wide.txt", "one\ntwo\n".encode("utf-16"), "is encoded in UTF-16"),
        ("wide.txt", "one\ntwo\n".encode("utf-16-be"), "is encoded in UTF-16"),
        ("plain.gz", b"one\ntwo\n", "is not compressed, although its name ends in .gz: it is plain text"),
        ("plain.xz", b"one\ntwo\n", "is not compressed, although its name ends in .xz: it is plain text"),
        ("plain.zst", b"one\n", "is not compressed, although its name ends in .zst: it is plain text"),
        (
            "twice.gz",
            gzip.compress(gzip.compress(b"one\n", mtime=0), mtime=0),
            "is compressed twice: it holds gzip data",
        ),
        ("zip.txt", b"PK\x03\x04 and so on", "is a zip archive, but would be read as text"),
        ("zip.txt.gz", b"PK\x03\x04 and so on", "it is a zip archive"),
    ],
)
def test_files_of_another_kind_are_refused_by_the_actual_cause(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=told):
        list(open_text(tmp_path / name))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zst"])
def test_compressed_text_is_read_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    for name in ("text", "text.txt", "text.gz"):
        (tmp_path / name).write_bytes(COMPRESS[suffix](b"one\ntwo\n"))
        assert list(open_text(tmp_path / name)) == ["one", "two"]


def test_lines_that_are_too_long_are_named_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "LONGEST_LINE", 1 << 20)
    monkeypatch.setattr(compression, "CHUNK_BYTES", 1 << 16)
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"one\n" + b"x" * (3 << 20) + b"\nthree\n" + b"y" * (2 << 20)))
    found = list(open_marked(path))
    assert [line if isinstance(line, str) else (line.line, line.reason) for line in found] == [
        "one", (2, "too long a line"), "three", (4, "too long a line"),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"line 2: the line has more than 1 MiB"):
        list(open_text(path))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zst"])
def test_memory_is_bounded_however_well_a_file_compresses(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(COMPRESS[suffix](b"0.5\n" * (4 << 20)))  # 16 MiB, and a few kB on disk
    tracemalloc.start()
    try:
        assert sum(1 for _ in islice(open_text(path), 1_000_000)) == 1_000_000
        assert sum(len(chunk) for chunk in open_bytes(path)) == 16 << 20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20  # a chunk and the strings of its lines; all lines together take 250 MB
