"""Two files, compressed as they like, are one corpus, or are refused with both counts."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from kd.base.errors import UserError
from kd.corpora.plain import read_plain
from tests.corpora.samples import TORTURE


def test_sides_may_be_compressed_differently(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress("\n".join(TORTURE).encode()))
    (tmp_path / "b.zst").write_bytes(zstandard.compress(("\n".join(TORTURE[::-1]) + "\n").encode()))
    pairs = list(read_plain(tmp_path / "a.gz", tmp_path / "b.zst"))
    assert pairs == list(zip(TORTURE, TORTURE[::-1], strict=True))


def test_unequal_sides_are_refused_with_both_counts(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\ntwo\nthree"))
    (tmp_path / "b").write_bytes(b"eins\nzwei\n")
    with pytest.raises(UserError, match=r"a\.gz is longer, with 3 lines, and .*b ends after line 2"):
        list(read_plain(tmp_path / "a.gz", tmp_path / "b"))


def test_a_missing_side_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n")
    with pytest.raises(UserError, match="b does not exist"):
        read_plain(tmp_path / "a", tmp_path / "b")
