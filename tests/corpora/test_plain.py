"""Two files, compressed as they like, are one corpus, or are refused with both counts."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from kd.base.errors import UserError
from kd.corpora.plain import read_plain
from tests.corpora.samples import AS_READ, TORTURE


def test_sides_may_be_compressed_differently(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress("\n".join(TORTURE).encode()))
    (tmp_path / "b.zst").write_bytes(zstandard.compress(("\n".join(TORTURE[::-1]) + "\n").encode()))
    pairs = list(read_plain(tmp_path / "a.gz", tmp_path / "b.zst"))
    assert pairs == list(zip(AS_READ, AS_READ[::-1], strict=True))


def test_unequal_sides_are_refused_with_both_counts(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\ntwo\nthree"))
    (tmp_path / "b").write_bytes(b"eins\nzwei\n")
    with pytest.raises(UserError, match=r"a\.gz is longer, with 3 lines, and .*b ends after line 2"):
        list(read_plain(tmp_path / "a.gz", tmp_path / "b"))


def test_a_missing_side_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n")
    with pytest.raises(UserError, match="b does not exist"):
        read_plain(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("left", "right"), [(b"a\nb\n\n", b"c\nd\n"), (b"a\nb\n\n", b"c\nd\n\n"), (b"a\nb\n", b"c\r\nd\r\n\r\n")]
)
def test_blank_lines_at_the_end_are_no_pairs(tmp_path: Path, left: bytes, right: bytes) -> None:
    (tmp_path / "a").write_bytes(left)
    (tmp_path / "b").write_bytes(right)
    assert list(read_plain(tmp_path / "a", tmp_path / "b")) == [("a", "c"), ("b", "d")]


def test_blank_lines_within_a_corpus_stay(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\n\nb\n")
    (tmp_path / "b").write_bytes(b"c\n\nd\n")
    assert list(read_plain(tmp_path / "a", tmp_path / "b")) == [("a", "c"), ("", ""), ("b", "d")]


def test_an_invalid_line_is_left_out_on_every_side(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\ntwo\xff\nthree\nfour\n")
    (tmp_path / "b").write_bytes(b"eins\nzwei\ndrei\nvier \xc3\n")
    (tmp_path / "s").write_bytes(b"1\n2\n3\n4\n")
    broken: list[tuple[int, list[str]]] = []
    rows = read_plain(
        tmp_path / "a", tmp_path / "b", tmp_path / "s", broken=lambda e, texts: broken.append((e.line, list(texts)))
    )
    assert list(rows) == [("one", "eins", "1"), ("three", "drei", "3")]
    assert broken == [(2, ["two\ufffd", "zwei", "2"]), (4, ["four", "vier \ufffd", "4"])]
