"""Corpus folders: parallel text in compressed shards of a fixed number of pairs, with an index of counts and hashes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any

from kd.base.errors import UserError
from kd.corpora.ids import SOURCE_ONLY, Origin, Pair, check_origins
from kd.corpora.index import Damaged, count_of, entry_of_file, read_index, shard_name, write_index
from kd.corpora.lines import PathLike
from kd.corpora.shard import PAIR_COLUMNS, Shard, ShardWriter

FORMAT, VERSION = "kd.corpus", 2
MOST_SHARDS = 100_000

Ends = tuple[str, str] | None  # first and last source of a shard; None for an empty one


def target_columns(targets: int) -> tuple[str, ...]:
    """Return the names of the target columns of a corpus with several targets per source; the first is `target`."""
    return ("target", *(f"target_{number}" for number in range(2, targets + 1)))


class CorpusWriter:
    """Write a corpus folder; a context manager that writes the index when it exits without an exception.

    Attributes:
        pairs: Number of pairs added.
        sources: Number of runs of equal sources among them.
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
        """Begin a folder.

        Args:
            folder: The folder, which is made if it is missing.
            languages: Codes of source and target.
            lines_per_shard: Number of pairs after which a new shard begins; None if the caller begins each shard by
                `begin_shard`.
            columns: Names of additional values of each pair.
            keep_groups: Never split a run of equal sources; a shard may then hold more pairs.
            origins: The corpora that the pairs come from.
        """
        if lines_per_shard is not None and lines_per_shard < 1:
            raise UserError(f"A shard cannot have {lines_per_shard} lines.", "Set shard.lines to 1 or more.")
        if bad := [name for name in columns if name in PAIR_COLUMNS or not re.fullmatch(r"[a-z][a-z0-9_]*", name)]:
            raise ValueError(f"{bad[0]!r} cannot be the name of a column")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.languages = languages
        self.columns = (*PAIR_COLUMNS, *columns)
        self.pairs = 0
        self.sources = 0
        self._limit = lines_per_shard
        self._keep_groups = keep_groups
        self._origins = check_origins(origins)
        self._open: ShardWriter | None = None
        self._shards: list[dict[str, Any]] = []

    def begin_shard(self, name: str) -> None:
        """Finish the open shard and begin a shard of this name, which may stay empty."""
        if any(shard["name"] == name for shard in self._shards) or (self._open and self._open.name == name):
            raise ValueError(f"two shards named {name}")
        self._finish_shard()
        self._open = ShardWriter(self.folder, name, self.columns[len(PAIR_COLUMNS) :])

    def add(self, pair: Pair, *values: str) -> None:
        """Write a pair and the values of the additional columns. Raises ValueError if a text holds a line break."""
        shard = self._open
        if shard is None or self._is_full(shard, pair.source):
            if self._limit is None:
                raise ValueError("call begin_shard before the first pair")
            shard = self._begin_next_shard()
        self.sources += shard.add(pair, values)
        self.pairs += 1

    def _begin_next_shard(self) -> ShardWriter:
        number = len(self._shards) + (self._open is not None)
        if number >= MOST_SHARDS:  # names are sorted as text
            raise UserError(f"The corpus has more than {MOST_SHARDS} shards.", "Raise shard.lines.")
        self.begin_shard(f"{number:05d}")
        assert self._open is not None
        return self._open

    def _is_full(self, shard: ShardWriter, source: str) -> bool:
        if self._limit is None or shard.lines < self._limit:
            return False
        return not (self._keep_groups and source == shard.last_source)

    def _finish_shard(self) -> None:
        if self._open is not None:
            self._open.close()
            self._shards.append(self._open.entry)
            self._open = None

    def take(self, corpus: Corpus) -> None:
        """Take over the shards of a finished corpus folder on the same disk: move their files and keep their names."""
        self._finish_shard()
        if (corpus.languages, corpus.columns) != (self.languages, self.columns):
            raise ValueError(f"{corpus.folder} has other languages or columns than {self.folder}")
        for shard in corpus.shards:
            if any(other["name"] == shard.name for other in self._shards[-1:]):
                raise ValueError(f"two shards named {shard.name}")
            shard.path.replace(self.folder / shard.path.name)
            self.count_in({"name": shard.name, "lines": shard.lines, "sources": shard.sources, **shard.file})

    def count_in(self, entry: Mapping[str, Any]) -> None:
        """Add a shard whose file is already in this folder, by its entry in an index or journal."""
        self._shards.append({key: entry[key] for key in ("name", "lines", "sources", "bytes", "sha256")})
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


class Corpus:
    """A corpus folder, or the folders of one stage's tasks read as one corpus."""

    def __init__(self, folder: PathLike) -> None:
        """Read the index. Raises Damaged if it is missing, UserError if the folder does not hold a corpus."""
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
                    self.columns,
                    count_of(entry["lines"]),
                    count_of(entry["sources"]),
                    entry_of_file(entry),
                )
                for entry in index["shards"]
            ]
            if self.columns[: len(PAIR_COLUMNS)] != PAIR_COLUMNS:
                raise ValueError("a column is missing")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Damaged(f"The index of {self.folder} is damaged: {error}.") from None
        self.shards: tuple[Shard, ...] = tuple(sorted(shards, key=attrgetter("name")))

    @classmethod
    def join(cls, folders: Iterable[PathLike]) -> Corpus:
        """Join the folders of one stage's tasks into one corpus, with shards sorted by name.

        Raises UserError if two folders hold a shard of the same name, or differ in languages or columns.
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
                    "Give only folders that one run of one stage wrote.",
                )
        folders = {shard.name: shard.folder for shard in self.shards}
        for shard in other.shards:
            if shard.name in folders:
                raise UserError(
                    f"Both {folders[shard.name]} and {shard.folder} hold a shard {shard.name}.",
                    "Give only folders that one run of one stage wrote.",
                )
        self.shards += other.shards
        self.origins = check_origins([*self.origins.values(), *other.origins.values()])

    @property
    def pairs(self) -> int:
        """Return the number of pairs that the index states."""
        return sum(shard.lines for shard in self.shards)

    @property
    def source_only(self) -> bool:
        """Return whether the corpus is text with `use: source`; before it is selected, its targets are empty."""
        return bool(self.origins) and all(origin.use == SOURCE_ONLY for origin in self.origins.values())

    @property
    def sources(self) -> int:
        """Return the number of runs of equal sources that the index states."""
        return sum(shard.sources for shard in self.shards)

    def read(self) -> Iterator[Pair]:
        """Yield all pairs, shard after shard; raises the errors of `Shard.read`."""
        for shard in self.shards:
            yield from shard.read()

    def column(self, name: str) -> Iterator[str]:
        """Yield one column of all shards; raises the errors of `Shard.column`."""
        for shard in self.shards:
            yield from shard.column(name)

    def texts(self, *columns: str) -> Iterator[tuple[str, ...]]:
        """Yield the values of each pair in some columns; raises the errors of `Shard.texts`."""
        for shard in self.shards:
            yield from shard.texts(*columns)

    def groups(self) -> Iterator[list[Pair]]:
        """Yield the runs of pairs with equal sources, shard after shard."""
        for shard in self.shards:
            yield from shard.groups()

    def verify(self) -> None:
        """Read all shards back and check them. Raises Damaged, an IncompleteArtifact that names file and line."""
        self.check_ends(shard.verify(self.origins, self.groups_kept) for shard in self.shards)

    def check_ends(self, ends: Iterable[Ends]) -> None:
        """Check that no source spans two shards, from the results of `Shard.verify`. Raises Damaged if one does."""
        last = None
        for shard, sources in zip(self.shards, ends, strict=True):
            if self.groups_kept and sources and sources[0] == last:
                raise Damaged(f"{shard.path}, line 1: its source also ends the previous shard.")
            last = sources[1] if sources else last
