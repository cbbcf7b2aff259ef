"""One shard of a corpus: a compressed file, `00000.tsv.zst`, with one pair per line.

The columns are id, source, target and additional columns named in the index of the corpus. Cells are escaped as in
`kd.corpora.cells`. Every read is checked against the index.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any

from kd.base.errors import UserError
from kd.corpora.cells import join_cells, split_cells
from kd.corpora.ids import Origin, Pair, prefix_of
from kd.corpora.index import Damaged, file_entry, verify_file
from kd.corpora.lines import PathLike, open_lines
from kd.corpora.writing import LineWriter

PAIR_COLUMNS = ("id", "source", "target")
SUFFIX = ".tsv.zst"  # of a shard's file


class ShardWriter:
    """Write the file of one shard, which gets its final name when it is complete; a context manager.

    Attributes:
        name: The name of the shard.
        lines: Number of pairs added.
        sources: Number of runs of equal sources among them.
        last_source: The source of the last pair.
    """

    def __init__(self, folder: PathLike, name: str, columns: Sequence[str] = ()) -> None:
        """Begin the file of the shard `name`; `columns`: names of additional values of each pair."""
        self.name = name
        self.lines = 0
        self.sources = 0
        self.last_source: str | None = None
        self._width = len(columns)
        self._file = LineWriter(Path(folder, name + SUFFIX))

    def add(self, pair: Pair, values: Sequence[str] = ()) -> bool:
        """Write a pair with its values; return whether it begins a new run of equal sources."""
        if pair.id < 0 or pair.id >> 63:
            raise ValueError(f"an id must be a positive number of at most 63 bits: {pair.id}")
        if len(values) != self._width:
            raise ValueError(f"{len(values)} values given for {self._width} columns")
        if broken := next((text for text in (pair.source, pair.target, *values) if "\n" in text), None):
            raise ValueError(f"a text of {self._file.path} would hold a line break: {broken[:80]!r}")
        self._file.write(join_cells((str(pair.id), pair.source, pair.target, *values)))
        self.lines += 1
        begins = pair.source != self.last_source
        self.sources += begins
        self.last_source = pair.source
        return begins

    def close(self) -> None:
        """Finish the file."""
        try:
            self._file.close()
        except BaseException:
            self.abort()
            raise

    @property
    def entry(self) -> dict[str, Any]:
        """Return the closed shard's entry for an index."""
        return {"name": self.name, "lines": self.lines, "sources": self.sources, **file_entry(self._file)}

    def abort(self) -> None:
        """Remove the partial file."""
        self._file.abort()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


@dataclass(frozen=True)
class Shard:
    """A piece of a corpus, as its index describes it.

    Attributes:
        folder: The corpus folder.
        name: The name of the shard.
        columns: The names of the file's columns: `PAIR_COLUMNS`, then additional ones.
        lines: Number of pairs.
        sources: Number of runs of equal sources.
        file: Size (`bytes`) and `sha256` of the file.
    """

    folder: Path
    name: str
    columns: tuple[str, ...]
    lines: int
    sources: int
    file: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Return the path of the file."""
        return self.folder / (self.name + SUFFIX)

    def read(self) -> Iterator[Pair]:
        """Yield the pairs. Raises Damaged, with file and line, if the file is short or broken or holds a wrong id."""
        return map(_first, self.rows())

    def rows(self, *columns: str) -> Iterator[tuple[Pair, tuple[str, ...]]]:
        """Yield each pair with its values in additional columns; raises the errors of `read`."""
        places = self._places(columns)
        for number, cells in enumerate(self._cells(), 1):
            try:
                pair_id = int(cells[0])  # Python refuses more than 4,300 digits by the same error
            except ValueError:
                raise Damaged(f"{self.path}, line {number}: {cells[0][:40]!r} is not an id.") from None
            yield Pair(pair_id, cells[1], cells[2]), tuple([cells[place] for place in places])

    def texts(self, *columns: str) -> Iterator[tuple[str, ...]]:
        """Yield the values of each pair in some columns; raises the errors of `read`."""
        places = self._places(columns)
        return (tuple([cells[place] for place in places]) for cells in self._cells())

    def column(self, name: str) -> Iterator[str]:
        """Yield the values of one column; raises the errors of `read`."""
        (place,) = self._places([name])
        return (cells[place] for cells in self._cells())

    def _places(self, columns: Sequence[str]) -> list[int]:
        """Return the positions of columns in a line. Raises UserError for a column that the corpus does not have."""
        if unknown := next((name for name in columns if name not in self.columns), None):
            has = ", ".join(self.columns)
            raise UserError(f"The corpus in {self.folder} has no column {unknown}.", f"It has {has}.")
        return [self.columns.index(name) for name in columns]

    def _cells(self) -> Iterator[list[str]]:
        """Yield the cells of each line. Raise Damaged if the number of lines or of cells differs from the index."""
        number, width = 0, len(self.columns)
        try:
            for line in open_lines(self.path):
                number += 1
                cells = split_cells(line)
                if len(cells) != width:
                    raise Damaged(f"{self.path}, line {number}: {len(cells)} columns instead of {width}.")
                yield cells
        except UserError as error:
            raise Damaged(error.problem) from None
        if number != self.lines:
            raise Damaged(f"{self.path} ends after line {number}, but its index states {self.lines} lines.")

    def groups(self) -> Iterator[list[Pair]]:
        """Yield the runs of pairs with equal sources, each identified by the id of its first pair."""
        return (list(group) for _, group in groupby(self.read(), key=attrgetter("source")))

    def verify(self, origins: Mapping[int, Origin], groups_kept: bool) -> tuple[str, str] | None:
        """Verify the whole shard; return its first and last source, None for an empty shard.

        Raises Damaged, naming file and line, if hash, counts, ids or runs of equal sources are wrong.
        """
        verify_file(self.path, self.file)
        ids, first_hashes = array("q"), array("q")
        first = previous = None
        for pair_id, source, _ in self.read():
            if not 0 <= pair_id < 1 << 63:
                raise Damaged(f"{self.path}, line {len(ids) + 1}: {pair_id} is not an id.")
            ids.append(pair_id)
            if source != previous:
                first_hashes.append(hash(source))
                first = source if first is None else first
                previous = source
        if len(first_hashes) != self.sources:
            raise Damaged(f"{self.path} has {len(first_hashes)} runs of equal sources, not {self.sources}.")
        if line := _first_repetition(ids):
            raise Damaged(f"{self.path}, line {line}: the id {ids[line - 1]} occurs twice.")
        if groups_kept and _first_repetition(first_hashes):
            self._refuse_split_group()
        if origins and (line := _first_stranger(ids, origins)):
            raise Damaged(f"{self.path}, line {line}: the id {ids[line - 1]} belongs to no corpus of the index.")
        return None if first is None or previous is None else (first, previous)

    def _refuse_split_group(self) -> None:
        """Raise Damaged if a source occurs in two separate runs, unless two different sentences share a hash."""
        seen: set[str] = set()
        previous = None
        for line, source in enumerate(self.column("source"), 1):
            if source != previous and source in seen:
                raise Damaged(f"{self.path}, line {line}: a source from an earlier run returns.")
            seen.add(source)
            previous = source


def _first(row: tuple[Pair, tuple[str, ...]]) -> Pair:
    return row[0]


def _first_repetition(values: array[int]) -> int:
    """Return the 1-based position of the first repeated value, 0 if all are distinct."""
    import numpy

    if len(values) < 2 or len(numpy.unique(numpy.frombuffer(values, dtype=numpy.int64))) == len(values):
        return 0
    seen: set[int] = set()
    for place, value in enumerate(values, 1):
        if value in seen:
            return place
        seen.add(value)
    return 0


def _first_stranger(ids: array[int], origins: Mapping[int, Origin]) -> int:
    """Return the 1-based position of the first id with an unknown origin, 0 if all origins are known."""
    return next((place for place, pair_id in enumerate(ids, 1) if prefix_of(pair_id) not in origins), 0)
