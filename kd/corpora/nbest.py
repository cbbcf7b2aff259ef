"""N-best lists of a corpus: folders of shards in the Moses format, the pieces that the models emitted in a sidecar.

The format itself, with the names that it shares with lists made elsewhere, is in `moses.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.corpora.finished import link_or_copy
from kd.corpora.ids import Pair
from kd.corpora.index import (
    INDEX,
    Damaged,
    count_of,
    file_entries,
    file_entry,
    read_index,
    read_json,
    shard_name,
    verify_file,
    write_index,
    write_json,
)
from kd.corpora.lines import PathLike
from kd.corpora.moses import Hypothesis, NBestList, NBestWriter, escape, member_features, read_nbest, unescape
from kd.corpora.shards import Shard

__all__ = [
    "Hypothesis",
    "NBestCorpus",
    "NBestList",
    "NBestShard",
    "NBestShardWriter",
    "NBestWriter",
    "adopt_shards",
    "escape",
    "finished_shards",
    "member_features",
    "read_nbest",
    "unescape",
    "write_nbest_index",
]

FORMAT, VERSION = "kd.nbest", 1
RECORD = ".shard.json"  # suffix of what a finished shard leaves until the folder has its index


class NBestShardWriter(NBestWriter):
    """Writes the n-best lists of one shard; the shard counts as finished once it is closed without an exception.

    A worker that dies keeps its finished shards (`finished_shards`); `write_nbest_index` completes the folder. Lists
    made elsewhere have no `pieces`.
    """

    def __init__(self, folder: PathLike, name: str, pieces: bool = True) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.facts: dict[str, int] = {}  # counts that the shard's record shall keep
        super().__init__(_path(self.folder, name, "nbest"), _path(self.folder, name, "pieces") if pieces else None)

    def close(self) -> None:
        """Finish the files, then say that the shard is whole."""
        super().close()
        files = {"nbest": self.text} | ({"pieces": self.pieces} if self.pieces is not None else {})
        record = {
            "name": self.name,
            "lists": self.lists,
            "lines": self.lines,
            "files": {column: file_entry(writer) for column, writer in files.items()},
            "facts": self.facts,
        }
        write_json(self.folder / (self.name + RECORD), record)


def _path(folder: Path, name: str, column: str) -> Path:
    return folder / f"{name}.{column}.zst"


def finished_shards(folder: PathLike) -> set[str]:
    """The names of the shards that are whole in a folder without an index yet."""
    return {path.name.removesuffix(RECORD) for path in Path(folder).glob("*" + RECORD)}


def salvage_shards(folder: PathLike, shards: Mapping[str, Shard]) -> dict[str, str]:
    """Read back what is finished in a folder that was left, complete or not, and remove what is not what it should be.

    A shard stays if it is whole and its ids are those of the shard of its name in `shards`; others are removed. What
    stays is finished in the sense of `finished_shards`, and the folder has no index any more. Returns why each of the
    removed had to go.
    """
    place = Path(folder)
    try:
        records = _records(place)
    except UserError as error:  # the index itself is damaged, or a record
        records, removed = {}, {INDEX: error.problem}
    else:
        removed = {}
    (place / INDEX).unlink(missing_ok=True)
    for name, record in records.items():
        write_json(place / (name + RECORD), record)
        try:
            if name not in shards:
                raise Damaged(f"{_path(place, name, 'nbest')} belongs to no shard of the decoded corpus.")
            _shard(place, record).verify(shards[name])
        except Damaged as error:
            removed[name] = error.problem
    for path in place.glob(f"*{RECORD}"):
        if (name := path.name.removesuffix(RECORD)) not in records or name in removed:
            path.unlink()
    return removed


def adopt_shards(other: PathLike, folder: PathLike, names: Collection[str]) -> None:
    """Take over another worker's finished shards of these names, as hard links, where the folder has none of its own.

    The other may be complete, or have been left in the middle of its work.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, record in _records(Path(other)).items():
        if name in names and not (place / (name + RECORD)).exists():
            for column in record["files"]:
                link_or_copy(_path(Path(other), name, column), _path(place, name, column))
            write_json(place / (name + RECORD), record)


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    """What is known of the finished shards of a folder, with an index or without."""
    if (folder / INDEX).is_file():
        entries = read_index(folder, FORMAT, VERSION)["shards"]
    else:
        entries = [read_json(path) for path in sorted(folder.glob("*" + RECORD))]
    return {_shard(folder, entry).name: entry for entry in entries}


def write_nbest_index(folder: PathLike, facts: Mapping[str, Any]) -> None:
    """Complete a folder of finished shards: its index takes their records and `facts` (how scores are normalised …)."""
    records = sorted(Path(folder).glob("*" + RECORD))
    write_index(folder, FORMAT, VERSION, {"facts": dict(facts), "shards": [read_json(path) for path in records]})
    for path in records:
        path.unlink()


@dataclass(frozen=True)
class NBestShard:
    """The n-best lists of one shard, as their index describes them."""

    folder: Path
    name: str
    lists: int
    lines: int
    files: Mapping[str, Mapping[str, Any]]  # nbest, and pieces where a model of ours wrote it -> bytes and sha256
    facts: Mapping[str, int]  # what its writer counted

    def path(self, column: str) -> Path:
        """The file of `nbest` or `pieces`."""
        return _path(self.folder, self.name, column)

    def read(self, pieces: bool = False) -> Iterator[NBestList]:
        """Yield the lists, with the models' pieces if asked for. Raises Damaged, naming file and line."""
        lists = lines = 0
        try:
            for nbest in read_nbest(self.path("nbest"), self.path("pieces") if pieces else None):
                lists += 1
                lines += len(nbest.hypotheses)
                yield nbest
        except UserError as error:
            raise Damaged(error.problem) from None
        if (lists, lines) != (self.lists, self.lines):
            raise Damaged(
                f"{self.path('nbest')} ends after line {lines}, with {lists} lists; "
                f"its index says {self.lines} and {self.lists}."
            )

    def beside(self, shard: Shard) -> Iterator[tuple[list[Pair], NBestList]]:
        """Yield each run of pairs with equal sources together with its n-best list, which carries its first pair's id.

        Raises Damaged, naming file and line, at the first list that is missing, too many, or another's.
        """
        line = 1
        for number, (group, nbest) in enumerate(zip_longest(shard.groups(), self.read()), 1):
            if group is None or nbest is None:
                where = self.path("nbest") if nbest is None else shard.path("source")
                raise Damaged(f"{where} ends after {number - 1} sources, and its partner goes on.")
            if nbest.id != group[0].id:
                raise Damaged(
                    f"{self.path('nbest')}, line {line}: the list of {nbest.id} stands where {group[0].id} belongs."
                )
            yield group, nbest
            line += len(nbest.hypotheses)

    def verify(self, shard: Shard | None = None) -> None:
        """Read everything back, and compare it with the shard that was decoded. Raises Damaged."""
        for column, entry in self.files.items():
            verify_file(self.path(column), entry)
        names: list[str] | None = None
        line = 1
        for nbest in self.read(pieces="pieces" in self.files):
            for hypothesis in nbest.hypotheses:
                names = names or list(hypothesis.features)
                if list(hypothesis.features) != names:
                    raise Damaged(f"{self.path('nbest')}, line {line}: other features than on line 1.")
                line += 1
        if shard is not None:
            for _ in self.beside(shard):
                pass


def _shard(folder: Path, entry: Mapping[str, Any]) -> NBestShard:
    try:
        return NBestShard(
            folder,
            shard_name(entry["name"]),
            count_of(entry["lists"]),
            count_of(entry["lines"]),
            file_entries(entry["files"]),
            dict(entry.get("facts", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"The record of a shard in {folder} is damaged: {error}.") from None


class NBestCorpus:
    """The folder that a decoding worker leaves, or those of several workers as one."""

    def __init__(self, folder: PathLike) -> None:
        """Read the index. Raises Damaged if it is missing, UserError if the folder is none of n-best lists."""
        self.folder = Path(folder)
        index = read_index(self.folder, FORMAT, VERSION)
        try:
            self.facts: Mapping[str, Any] = dict(index["facts"])
            shards = [_shard(self.folder, entry) for entry in index["shards"]]
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(f"The index of {self.folder} is damaged: {error}.") from None
        self.shards: tuple[NBestShard, ...] = tuple(sorted(shards, key=attrgetter("name")))

    @classmethod
    def join(cls, folders: Iterable[PathLike]) -> NBestCorpus:
        """Several workers' folders as one, shards by name. Raises UserError if a name comes twice."""
        corpora = [cls(folder) for folder in folders]
        if not corpora:
            raise ValueError("no n-best lists to join")
        joined = corpora[0]
        by_name = {shard.name: shard for shard in joined.shards}
        for shard in (shard for corpus in corpora[1:] for shard in corpus.shards):
            if shard.name in by_name:
                raise UserError(
                    f"Both {by_name[shard.name].folder} and {shard.folder} hold a shard {shard.name}.",
                    "Join folders of one run of one stage.",
                )
            by_name[shard.name] = shard
        joined.shards = tuple(by_name[name] for name in sorted(by_name))
        return joined

    @property
    def lists(self) -> int:
        """How many there are, as the index says."""
        return sum(shard.lists for shard in self.shards)

    @property
    def lines(self) -> int:
        """How many hypotheses there are, as the index says."""
        return sum(shard.lines for shard in self.shards)

    def verify(self, shards: Mapping[str, Shard] | None = None) -> None:
        """Read everything back, and compare it with the decoded shards, given by name. Raises Damaged."""
        for shard in self.shards:
            if shards is not None and shard.name not in shards:
                raise Damaged(f"{shard.path('nbest')} belongs to no shard of the decoded corpus.")
            shard.verify(shards[shard.name] if shards is not None else None)
