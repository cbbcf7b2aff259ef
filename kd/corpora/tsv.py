r"""Read tab-separated text: one pair per line, with any number of additional columns.

Nothing is quoted or escaped, as in the TSV files of statmt, ParaCrawl and Bicleaner: a tab ends a cell, `\n` a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kd.base.errors import UserError
from kd.corpora.archives import Member
from kd.corpora.lines import BYTE_ORDER_MARK, Broken, BrokenRow, PathLike, check_file, open_marked, open_text

FEW, MANY = "too few cells", "too many cells"


def read_tsv(
    path: PathLike | Member, columns: Sequence[int], header: bool = False, broken: Broken | None = None
) -> Iterator[tuple[str, ...]]:
    r"""Yield the cells of the given columns of each row. Blank lines at the end are left out.

    A `\r` at the end of a cell and a byte order mark at the start of the first row's cells are not content.

    Args:
        path: The file.
        columns: Numbers of columns, counted from 1.
        header: Leave out the first line.
        broken: Receives each broken row: a row with another number of cells than the first, or an unreadable line.
            Without it, such a row raises BrokenRow.

    Raises:
        UserError: Immediately, for a missing file or a column number below 1; while reading, the errors of `open_text`.
    """
    if not columns or min(columns) < 1:
        raise UserError("Columns are counted from 1.", "Correct the columns of the corpus.")
    place = check_file(path)
    lines = open_text(place) if broken is None else open_marked(place)
    return _rows(str(place), lines, [column - 1 for column in columns], header, broken or refuse)


def refuse(error: BrokenRow, _texts: Sequence[str]) -> None:
    """Raise the error of a broken row."""
    raise error


def _rows(
    label: str, lines: Iterator[str | BrokenRow], places: Sequence[int], header: bool, broken: Broken
) -> Iterator[tuple[str, ...]]:
    needed, width = max(places) + 1, 0
    blank: list[BrokenRow] = []
    for number, line in enumerate(lines, 1):
        if header and number == 1:
            continue
        if isinstance(line, BrokenRow):
            broken(line, [line.text])
            continue
        cells = line.split("\t")
        if not width and len(cells) >= needed:
            width = len(cells)
        if len(cells) != width:
            error = _wrong_width(label, number, line, len(cells), width, needed)
            if not line.strip():
                blank.append(error)  # broken only if a row follows
                continue
            _give(broken, [*blank, error])
            blank = []
            continue
        if blank:
            _give(broken, blank)
            blank = []
        row = tuple([cells[place] for place in places])
        if "\r" in line or number == 1:  # as where `paste` joined files with the line ends of Windows
            row = tuple([cell.rstrip("\r").lstrip(BYTE_ORDER_MARK if number == 1 else "") for cell in row])
        yield row


def _give(broken: Broken, errors: Sequence[BrokenRow]) -> None:
    for error in errors:
        broken(error, [error.text])


def _wrong_width(label: str, number: int, line: str, cells: int, width: int, needed: int) -> BrokenRow:
    if cells < needed:
        what = f"{cells} columns where {needed} are needed"
    else:
        what = f"{cells} columns where the first row has {width}"
    return BrokenRow(
        f"{label}, line {number}: {what}.",
        "Correct the line, or the columns of the corpus.",
        FEW if cells < (width or needed) else MANY,
        number,
        line,
    )
