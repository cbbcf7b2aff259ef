r"""Read and write lines of tab-separated cells, as in shards and samples of rejected pairs.

A backslash, tab, carriage return or line break in a cell is written as `\\`, `\t`, `\r` or `\n`, as in Linear TSV
(https://github.com/solidsnack/tsv) and PostgreSQL's COPY. Thus every line has the same number of tabs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\r": "\\r", "\n": "\\n"})
_ESCAPED = re.compile(r"\\([\\trn])")
_CHARACTERS: Mapping[str, str] = {"\\": "\\", "t": "\t", "r": "\r", "n": "\n"}


def join_cells(cells: Sequence[str]) -> str:
    """Join cells into a line."""
    line = "\t".join(cells)
    if "\\" in line or "\r" in line or "\n" in line or line.count("\t") != len(cells) - 1:
        return "\t".join(cell.translate(_ESCAPES) for cell in cells)
    return line


def split_cells(line: str) -> list[str]:
    """Split a line that `join_cells` made into its cells."""
    cells = line.split("\t")
    return [_ESCAPED.sub(_unescaped, cell) for cell in cells] if "\\" in line else cells


def _unescaped(match: re.Match[str]) -> str:
    return _CHARACTERS[match[1]]
