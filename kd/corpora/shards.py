"""Corpus folders: parallel text in compressed shards of a fixed number of pairs, with an index of counts and hashes.

A shard is one file per column (`00000.id.zst`, `00000.source.zst`, `00000.target.zst`, and more by name), one line per
pair in each; what is read is compared with the index, and nothing goes on where lines are missing.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any

from kd.base.errors import UserError
from kd.corpora.ids import Origin, Pair, check_origins, prefix_of
from kd.corpora.index import (
    Damaged,
    count_of,
    file_entries,
    file_entry,
    read_index,
    shard_name,
    verify_file,
    write_index,
)
from kd.corpora.lines import LineWriter, PathLike, open_aligned

FORMAT, VERSION = "kd.corpus", 1
PAIR_COLUMNS = ("id", "source", "target")
MOST_SHARDS = 100_000

Ends = tuple[str, str] | None  # first and last source of a shard; None for an empty one


def target_columns(targets: int) -> tuple[str, ...]:
    """Return the columns of a corpus with several targets of each source, the first one being its `target`."""
    return ("target", *(f"target_{number}" for number in range(2, targets + 1)))


class CorpusWriter:
    """Writes a corpus folder; a context manager, whose index appears when it is left without an exception.

    languages: codes of source and target. lines_per_shard: pairs after which a new shard begins; None when
    `begin_shard` says so, as a worker does that carries other shards' names on. columns: names of further values per
    pair. keep_groups: a run of equal sources is never cut, so that a shard may hold more pairs. `pairs` and `sources`
    count what was added.
    """

    def __init__(
        self,
        folder: PathLike,
        languages: tuple[str, str],
        lines_per_shard: int | None,
        columns: Sequence[str] = (),
        keep_groups: bool = False,
        origins: Iterable[Origin] = (),
    ) -> None:
        if lines_per_shard is not None and lines_per_shard < 1:
            raise UserError(f"A shard cannot have {lines_per_shard} lines.", "Set shard.lines to 1 or more.")
        if bad := [name for name in columns if name in PAIR_COLUMNS or not re.fullmatch(r"[a-z][a-z0-9_]*", name)]:
            raise ValueError(f"no name for a column: {bad[0]!r}")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.languages = languages
        self.columns = (*PAIR_COLUMNS, *columns)
        self.pairs = 0
        self.sources = 0
        self._limit = lines_per_shard
        self._keep_groups = keep_groups
        self._origins = check_origins(origins)
        self._open: _OpenShard | None = None
        self._shards: list[dict[str, Any]] = []

    def begin_shard(self, name: str) -> None:
        """Finish the shard at hand and begin one of this name, which may stay empty."""
        if any(shard["name"] == name for shard in self._shards) or (self._open and self._open.name == name):
            raise ValueError(f"two shards named {name}")
        self._finish_shard()
        self._open = _OpenShard(self.folder, name, self.columns)

    def add(self, pair: Pair, *values: str) -> None:
        """Write a pair and the values of the further columns. Raises ValueError if a text holds a line break."""
        shard = self._open
        if shard is None or self._is_full(shard, pair.source):
            if self._limit is None:
                raise ValueError("begin_shard comes before the first pair")
            shard = self._begin_next_shard()
        self.sources += shard.add(pair, values)
        self.pairs += 1

    def _begin_next_shard(self) -> _OpenShard:
        number = len(self._shards) + (self._open is not None)
        if number >= MOST_SHARDS:  # names are sorted as text
            raise UserError(f"The corpus has more than {MOST_SHARDS} shards.", "Raise shard.lines.")
        self.begin_shard(f"{number:05d}")
        assert self._open is not None
        return self._open

    def _is_full(self, shard: _OpenShard, source: str) -> bool:
        if self._limit is None or shard.lines < self._limit:
            return False
        return not (self._keep_groups and source == shard.last_source)

    def _finish_shard(self) -> None:
        if self._open is not None:
            self._shards.append(self._open.close())
            self._open = None

    def take(self, corpus: Corpus) -> None:
        """Take over the shards of a finished corpus folder on the same disk: their files move here, names are kept."""
        self._finish_shard()
        if (corpus.languages, corpus.columns) != (self.languages, self.columns):
            raise ValueError(f"{corpus.folder} has other languages or columns than {self.folder}")
        for shard in corpus.shards:
            if any(other["name"] == shard.name for other in self._shards[-1:]):
                raise ValueError(f"two shards named {shard.name}")
            for column in shard.files:
                shard.path(column).replace(self.folder / _file_name(shard.name, column))
            self.count_in(
                {"name": shard.name, "lines": shard.lines, "sources": shard.sources, "files": dict(shard.files)}
            )

    def count_in(self, entry: Mapping[str, Any]) -> None:
        """Count in a shard whose files lie in this folder already (`kd.corpora.finished`), by its entry in an index."""
        self._shards.append(dict(entry))
        self.pairs += entry["lines"]
        self.sources += entry["sources"]

    def close(self) -> None:
        """Finish the last shard and write the index."""
        self._finish_shard()
        content = {
            "source": self.languages[0],
            "target": self.languages[1],
            "lines_per_shard": self._limit,
            "groups_kept": self._keep_groups,
            "columns": list(self.columns),
            "origins": [origin.to_json() for origin in self._origins.values()],
            "shards": self._shards,
        }
        write_index(self.folder, FORMAT, VERSION, content)

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif self._open is not None:
            self._open.abort()


class _OpenShard:
    """The files of a shard while it is written."""

    def __init__(self, folder: Path, name: str, columns: Sequence[str]) -> None:
        self.name = name
        self.lines = 0
        self.sources = 0
        self.last_source: str | None = None
        self._columns = {column: LineWriter(folder / _file_name(name, column)) for column in columns}
        self._write = [writer.write for writer in self._columns.values()]

    def add(self, pair: Pair, values: tuple[str, ...]) -> bool:
        """Write a row; says whether a new run of equal sources begins with it."""
        if pair.id < 0 or pair.id >> 63:
            raise ValueError(f"an id is a positive number of 63 bits: {pair.id}")
        row = (str(pair.id), pair.source, pair.target, *values)
        for write, text in zip(self._write, row, strict=True):
            write(text)
        self.lines += 1
        begins = pair.source != self.last_source
        self.sources += begins
        self.last_source = pair.source
        return begins

    def close(self) -> dict[str, Any]:
        """Finish the files and return the shard's entry in the index."""
        try:
            for writer in self._columns.values():
                writer.close()
        except BaseException:
            self.abort()
            raise
        files = {column: file_entry(writer) for column, writer in self._columns.items()}
        return {"name": self.name, "lines": self.lines, "sources": self.sources, "files": files}

    def abort(self) -> None:
        for writer in self._columns.values():
            writer.abort()


def _file_name(shard: str, column: str) -> str:
    return f"{shard}.{column}.zst"


@dataclass(frozen=True)
class Shard:
    """A piece of a corpus, as its index describes it."""

    folder: Path
    name: str
    lines: int  # pairs
    sources: int  # runs of equal sources
    files: Mapping[str, Mapping[str, Any]]  # column -> bytes and sha256

    def path(self, column: str) -> Path:
        """The file of a column. Raises UserError if the corpus has none of that name."""
        if column not in self.files:
            raise UserError(f"The corpus in {self.folder} has no column {column}.", f"It has {', '.join(self.files)}.")
        return self.folder / _file_name(self.name, column)

    def read(self) -> Iterator[Pair]:
        """Yield the pairs. Raises Damaged, with file and line, where a column is short, broken or holds no id."""
        return map(_first, self.rows())

    def rows(self, *columns: str) -> Iterator[tuple[Pair, tuple[str, ...]]]:
        """Yield each pair with its values in further columns; raises what `read` raises."""
        paths = [self.path(column) for column in (*PAIR_COLUMNS, *columns)]
        for number, (text, source, target, *values) in enumerate(self._counted(paths), 1):
            try:
                pair_id = int(text)  # Python refuses more than 4,300 digits by the same error
            except ValueError:
                raise Damaged(f"{paths[0]}, line {number}: {text[:40]!r} is no id.") from None
            yield Pair(pair_id, source, target), tuple(values)

    def column(self, name: str) -> Iterator[str]:
        """Yield the lines of one column; raises what `read` raises."""
        return (row[0] for row in self._counted([self.path(name)]))

    def _counted(self, paths: Sequence[Path]) -> Iterator[tuple[str, ...]]:
        """The rows of several columns, as many as the index says or an error."""
        number = 0
        try:
            for row in open_aligned(paths):
                number += 1
                yield row
        except UserError as error:
            raise Damaged(error.problem) from None
        if number != self.lines:
            raise Damaged(f"{paths[0]} ends after line {number}, and its index says {self.lines}.")

    def groups(self) -> Iterator[list[Pair]]:
        """Yield the runs of pairs with equal sources, each known by the id of its first pair."""
        return (list(group) for _, group in groupby(self.read(), key=attrgetter("source")))

    def verify(self, origins: Mapping[int, Origin], groups_kept: bool) -> Ends:
        """Read everything; returns the first and the last source, None for an empty shard.

        Raises Damaged, naming file and line, if hashes, counts, ids or runs of equal sources are not as they should be.
        """
        for column, entry in self.files.items():
            verify_file(self.path(column), entry)
        further = [column for column in self.files if column not in PAIR_COLUMNS]
        ids, first_hashes = array("q"), array("q")
        first = previous = None
        for (pair_id, source, _), _values in self.rows(*further):
            if not 0 <= pair_id < 1 << 63:
                raise Damaged(f"{self.path('id')}, line {len(ids) + 1}: {pair_id} is no id.")
            ids.append(pair_id)
            if source != previous:
                first_hashes.append(hash(source))
                first = source if first is None else first
                previous = source
        if len(first_hashes) != self.sources:
            raise Damaged(f"{self.path('source')} has {len(first_hashes)} runs of equal sources, not {self.sources}.")
        if line := _first_repetition(ids):
            raise Damaged(f"{self.path('id')}, line {line}: the id {ids[line - 1]} stands there twice.")
        if groups_kept and _first_repetition(first_hashes):
            self._refuse_split_group()
        if origins and (line := _first_stranger(ids, origins)):
            raise Damaged(f"{self.path('id')}, line {line}: the id {ids[line - 1]} belongs to no corpus of the index.")
        return None if first is None or previous is None else (first, previous)

    def _refuse_split_group(self) -> None:
        """Say where; unless it was two sentences with one hash."""
        seen: set[str] = set()
        previous = None
        for line, source in enumerate(self.column("source"), 1):
            if source != previous and source in seen:
                raise Damaged(f"{self.path('source')}, line {line}: a source returns that stood earlier in the shard.")
            seen.add(source)
            previous = source


def _first(row: tuple[Pair, tuple[str, ...]]) -> Pair:
    return row[0]


def _first_repetition(values: array[int]) -> int:
    """The 1-based place of the first value that was there before, 0 if there is none."""
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
    """The 1-based place of the first id that no origin explains, 0 if there is none."""
    return next((place for place, pair_id in enumerate(ids, 1) if prefix_of(pair_id) not in origins), 0)


class Corpus:
    """A corpus folder, or several of one stage's tasks read as one."""

    def __init__(self, folder: PathLike) -> None:
        """Read the index. Raises Damaged if it is missing, UserError if the folder is none of a corpus."""
        self.folder = Path(folder)
        index = read_index(self.folder, FORMAT, VERSION)
        try:
            self.languages: tuple[str, str] = (index["source"], index["target"])
            self.columns: tuple[str, ...] = tuple(map(str, index["columns"]))
            self.lines_per_shard: int | None = index["lines_per_shard"]
            self.groups_kept: bool = index["groups_kept"]
            self.origins = check_origins(Origin.from_json(entry) for entry in index["origins"])
            shards = [
                Shard(
                    self.folder,
                    shard_name(entry["name"]),
                    count_of(entry["lines"]),
                    count_of(entry["sources"]),
                    file_entries(entry["files"]),
                )
                for entry in index["shards"]
            ]
            if not all(set(PAIR_COLUMNS) <= set(shard.files) for shard in shards):
                raise ValueError("a shard lacks a column")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Damaged(f"The index of {self.folder} is damaged: {error}.") from None
        self.shards: tuple[Shard, ...] = tuple(sorted(shards, key=attrgetter("name")))

    @classmethod
    def join(cls, folders: Iterable[PathLike]) -> Corpus:
        """The folders of one stage's tasks as one corpus, its shards in the order of their names.

        Raises UserError if two folders hold a shard of the same name, or are not of one kind.
        """
        corpora = [cls(folder) for folder in folders]
        if not corpora:
            raise ValueError("no corpus to join")
        joined = corpora[0]
        for corpus in corpora[1:]:
            joined._take(corpus)
        joined.shards = tuple(sorted(joined.shards, key=attrgetter("name")))
        return joined

    def _take(self, other: Corpus) -> None:
        for what in ("languages", "columns", "groups_kept"):
            if getattr(self, what) != getattr(other, what):
                raise UserError(
                    f"The corpora in {self.folder} and {other.folder} differ in {what.replace('_', ' ')}.",
                    "Join what one stage left.",
                )
        folders = {shard.name: shard.folder for shard in self.shards}
        for shard in other.shards:
            if shard.name in folders:
                raise UserError(
                    f"Both {folders[shard.name]} and {shard.folder} hold a shard {shard.name}.",
                    "Join folders of one run of one stage.",
                )
        self.shards += other.shards
        self.origins = check_origins([*self.origins.values(), *other.origins.values()])

    @property
    def pairs(self) -> int:
        """How many there are, as the index says."""
        return sum(shard.lines for shard in self.shards)

    @property
    def sources(self) -> int:
        """How many runs of equal sources there are, as the index says."""
        return sum(shard.sources for shard in self.shards)

    def read(self) -> Iterator[Pair]:
        """Yield all pairs, shard after shard; raises what `Shard.read` raises."""
        for shard in self.shards:
            yield from shard.read()

    def column(self, name: str) -> Iterator[str]:
        """Yield one column of all shards; raises what `Shard.column` raises."""
        for shard in self.shards:
            yield from shard.column(name)

    def groups(self) -> Iterator[list[Pair]]:
        """Yield the runs of pairs with equal sources, shard after shard."""
        for shard in self.shards:
            yield from shard.groups()

    def verify(self) -> None:
        """Read everything back. Raises Damaged, an IncompleteArtifact, naming file and line."""
        self.check_ends(shard.verify(self.origins, self.groups_kept) for shard in self.shards)

    def check_ends(self, ends: Iterable[Ends]) -> None:
        """Compare the ends of neighbouring shards, as `Shard.verify` returns them. Raises Damaged, as `verify` does."""
        last = None
        for shard, sources in zip(self.shards, ends, strict=True):
            if self.groups_kept and sources and sources[0] == last:
                raise Damaged(f"{shard.path('source')}, line 1: the source also ends the shard before it.")
            last = sources[1] if sources else last
