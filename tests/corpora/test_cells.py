"""Cells come back as they were, and a line has one tab between two cells."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from kd.corpora.cells import join_cells, split_cells

nasty = st.lists(st.sampled_from(["\\", "\t", "\n", "\r", "t", "n", "\u2028", " "])).map("".join) | st.text()


@given(st.lists(nasty, min_size=1, max_size=5))
@example(["\\t", "\t", ""])
def test_cells_come_back_as_they_were(cells: list[str]) -> None:
    line = join_cells(cells)
    assert split_cells(line) == cells
    assert line.count("\t") == len(cells) - 1
    assert not {"\n", "\r"} & set(line)


def test_a_line_is_escaped_as_postgresql_does() -> None:
    # PostgreSQL's manual, COPY, text format: backslash, tab, newline and carriage return
    assert join_cells(["a\tb", "c\\d", "e\r\n"]) == r"a\tb" + "\t" + r"c\\d" + "\t" + r"e\r\n"
