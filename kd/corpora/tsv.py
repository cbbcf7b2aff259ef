"""Tab-separated text: a pair a line, with as many further columns as there are.

Nothing is quoted or escaped, as in the TSV files of statmt, ParaCrawl and Bicleaner: a tab ends a cell, `\\n` a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kd.base.errors import UserError
from kd.corpora.archives import Member
from kd.corpora.lines import BrokenText, PathLike, check_file, open_lines


def read_tsv(path: PathLike | Member, columns: Sequence[int], header: bool = False) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the given columns (counted from 1) of each row. header: the first line is left out.

    Raises UserError for a missing file or a column before the first, and in reading BrokenText, with file and line, for
    a row with too few cells, invalid UTF-8 or a broken archive.
    """
    if not columns or min(columns) < 1:
        raise UserError("Columns are counted from 1.", "Correct the columns of the corpus.")
    place = check_file(path)
    lines = open_lines(place)
    return _rows(str(place), lines, [column - 1 for column in columns], header)


def _rows(label: str, lines: Iterator[str], places: Sequence[int], header: bool) -> Iterator[tuple[str, ...]]:
    most = max(places)
    if header:
        next(lines, None)
    for number, line in enumerate(lines, 1 + header):
        cells = line.split("\t", most + 1)
        if len(cells) <= most:
            raise BrokenText(
                f"{label}, line {number}: {len(cells)} columns where {most + 1} are needed.",
                "Mend the line, or correct the columns of the corpus.",
            )
        yield tuple([cells[place] for place in places])
