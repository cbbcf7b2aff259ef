"""TSV: the cells that were asked for, whatever they hold, or file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.base.errors import UserError
from kd.corpora.lines import BrokenText
from kd.corpora.tsv import read_tsv
from tests.corpora.samples import AS_READ, TORTURE


def test_columns_are_chosen_and_ordered_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"head\tof\tit\n0.5\teins\tone\tmore\n\t\t\t\n"))
    assert list(read_tsv(path, [3, 2, 1], header=True)) == [("one", "eins", "0.5"), ("", "", "")]


def test_a_row_with_too_few_cells_is_named_after_the_good_ones(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"a\tb\tc\nd\te\n")
    rows = read_tsv(tmp_path / "a.tsv", [1, 3])
    assert next(rows) == ("a", "c")
    with pytest.raises(BrokenText, match=r"a\.tsv, line 2: 2 columns where 3 are needed"):
        next(rows)


def test_invalid_utf_8_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"a\tb\nd\xff\te\n")
    rows = read_tsv(tmp_path / "a.tsv", [1, 2])
    assert next(rows) == ("a", "b")
    with pytest.raises(BrokenText, match=r"a\.tsv, line 2: byte 2"):
        next(rows)
    with pytest.raises(UserError, match="does not exist"):
        read_tsv(tmp_path / "b.tsv", [1, 2])
    with pytest.raises(UserError, match="counted from 1"):
        read_tsv(tmp_path / "a.tsv", [0, 1])


def test_content_that_breaks_other_readers(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes("\n".join(f"{text}\t{text}" for text in TORTURE).encode())
    assert list(read_tsv(tmp_path / "a.tsv", [2, 1])) == [(text, text) for text in AS_READ]


CELL = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\n\t\r\ufeff\x1a"), max_size=12)


@given(st.integers(2, 5).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=8)))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("tsv") / "a.tsv"
    path.write_bytes("".join("\t".join(row) + "\n" for row in rows).encode())
    width = len(rows[0]) if rows else 2
    assert [list(row) for row in read_tsv(path, range(1, width + 1))] == rows


def test_a_row_with_more_cells_than_the_first_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"a\tb\t0.5\nname:\tvalue\tName:\tWert\nc\td\t0.4\n")
    with pytest.raises(BrokenText, match=r"a\.tsv, line 2: 4 columns where the first row has 3"):
        list(read_tsv(tmp_path / "a.tsv", [1, 2]))


def test_broken_rows_are_given_to_the_caller_and_the_others_keep_their_cells(tmp_path: Path) -> None:
    content = b"a\tb\nonly one\n\n1\t2\t3\nbad \xff\tx\nc\td\n\n\n"
    (tmp_path / "a.tsv").write_bytes(content)
    broken: list[tuple[int, str]] = []
    rows = read_tsv(tmp_path / "a.tsv", [1, 2], broken=lambda error, _: broken.append((error.line, error.reason)))
    assert list(rows) == [("a", "b"), ("c", "d")]
    assert broken == [(2, "too few cells"), (3, "too few cells"), (4, "too many cells"), (5, "invalid UTF-8")]


@pytest.mark.parametrize(
    "end", [b"\n", b"\r\n", b"\n\n\n", b"\r\n\r\n", b"\n  \n", b"\n\x1a", b"\r\n\x1a\x1a", b"\x1a"]
)
def test_blank_lines_and_the_end_mark_of_dos_are_no_rows(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "a.tsv").write_bytes(b"a\tb\r\nc\td" + end)
    assert list(read_tsv(tmp_path / "a.tsv", [1, 2])) == [("a", "b"), ("c", "d")]


def test_joined_windows_files_lose_line_ends_and_byte_order_marks_in_each_cell(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes("\ufeffone\r\t\ufeffeins\r\ntwo\r\tzwei\ufeff\r\n".encode())
    assert list(read_tsv(tmp_path / "a.tsv", [1, 2])) == [("one", "eins"), ("two", "zwei\ufeff")]
