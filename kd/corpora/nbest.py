"""N-best lists of a corpus: folders of shards in the Moses format, with an index of counts and hashes.

A shard is one file, `00000.nbest.zst`. `moses.py` implements the format, also for lists made elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.corpora.finished import Entry, complete, note_finished, resume
from kd.corpora.ids import Pair
from kd.corpora.index import (
    Damaged,
    count_of,
    entry_of_file,
    file_entry,
    read_index,
    shard_name,
    verify_file,
    write_index,
)
from kd.corpora.lines import PathLike
from kd.corpora.moses import Hypothesis, NBestList, NBestWriter, escape, member_features, read_nbest, unescape
from kd.corpora.shard import Shard

__all__ = [
    "Hypothesis",
    "NBestCorpus",
    "NBestList",
    "NBestShard",
    "NBestShardWriter",
    "NBestWriter",
    "escape",
    "member_features",
    "read_nbest",
    "resume_lists",
    "unescape",
    "write_nbest_index",
]

FORMAT, VERSION = "kd.nbest", 2
SUFFIX = ".nbest.zst"  # of a shard's file
LIMIT = "longest output in tokens"  # among the facts of a shard


class NBestShardWriter(NBestWriter):
    """Write the n-best lists of one shard; the shard is finished once it is closed without an exception.

    A worker that dies keeps its finished shards (`resume_lists`); `write_nbest_index` completes the folder.

    Attributes:
        facts: Counts to keep in the index.
    """

    def __init__(self, folder: PathLike, name: str, pieces: bool = True) -> None:
        """Begin the shard `name`. `pieces`: also write the tokens, which lists made elsewhere lack."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.facts: dict[str, int] = {}
        super().__init__(self.folder / (name + SUFFIX), pieces)

    def close(self) -> None:
        """Finish the file and record the shard."""
        super().close()
        entry = {"name": self.name, "lists": self.lists, "lines": self.lines, **file_entry(self.text)}
        note_finished(self.folder, {**entry, "facts": self.facts})


def resume_lists(
    folder: PathLike, others: Iterable[PathLike], shards: Mapping[str, Shard]
) -> tuple[set[str], dict[str, str]]:
    """Prepare a folder for the shards that are still to be decoded; afterwards the folder has no index.

    Every existing shard is read back and kept if it is complete and has the ids of the decoded shard.

    Args:
        folder: The folder, new or with shards of an earlier attempt.
        others: Folders of the same work with another share of the corpus; their shards are taken over as hard links.
        shards: The shards to decode, by name.

    Returns:
        The names of the finished shards, and the reason for each shard that has to be decoded again.
    """
    damaged: dict[str, str] = {}

    def accept(place: Path, entry: Entry) -> bool:
        name = entry["name"]
        if name not in shards:
            return False
        try:
            _shard(place, entry).verify(shards[name])
        except Damaged as error:
            damaged[name] = error.problem
            return False
        return True

    done = set(resume(folder, others, lambda entry: [entry["name"] + SUFFIX], accept))
    return done, {name: problem for name, problem in damaged.items() if name not in done}


def write_nbest_index(folder: PathLike, facts: Mapping[str, Any]) -> None:
    """Complete a folder of finished shards by an index; `facts` apply to all shards (how scores are normalised …)."""
    entries = complete(folder)
    write_index(folder, FORMAT, VERSION, {"facts": dict(facts), "shards": list(entries.values())})


@dataclass(frozen=True)
class NBestShard:
    """The n-best lists of one shard, as their index describes them.

    Attributes:
        folder: The folder of the file.
        name: The name of the shard, equal to that of the decoded shard.
        lists: Number of lists, one for each distinct source.
        lines: Number of hypotheses.
        file: Size (`bytes`) and `sha256` of the file.
        facts: Counts of the writer.
    """

    folder: Path
    name: str
    lists: int
    lines: int
    file: Mapping[str, Any]
    facts: Mapping[str, int]

    @property
    def path(self) -> Path:
        """Return the path of the file."""
        return self.folder / (self.name + SUFFIX)

    def read(self) -> Iterator[NBestList]:
        """Yield the lists. Raises Damaged, naming file and line."""
        lists = lines = 0
        try:
            for nbest in read_nbest(self.path):
                lists += 1
                lines += len(nbest.hypotheses)
                yield nbest
        except UserError as error:
            raise Damaged(error.problem) from None
        if (lists, lines) != (self.lists, self.lines):
            raise Damaged(
                f"{self.path} ends after line {lines}, with {lists} lists; "
                f"its index states {self.lines} and {self.lists}."
            )

    def beside(self, shard: Shard) -> Iterator[tuple[list[Pair], NBestList]]:
        """Yield each run of pairs with equal sources together with its n-best list, whose id is that of the first pair.

        Raises Damaged, naming file and line, at the first list that is missing, superfluous or of another source.
        """
        line = 1
        for number, (group, nbest) in enumerate(zip_longest(shard.groups(), self.read()), 1):
            if group is None or nbest is None:
                ended, other = (self.path, shard.path) if nbest is None else (shard.path, self.path)
                raise Damaged(f"{ended} ends after {number - 1} sources, but {other} has more.")
            if nbest.id != group[0].id:
                raise Damaged(f"{self.path}, line {line}: the list of {nbest.id} is in the place of {group[0].id}.")
            yield group, nbest
            line += len(nbest.hypotheses)

    def verify(self, shard: Shard | None = None) -> None:
        """Read the shard back and compare it with the decoded shard. Raises Damaged if it is damaged or differs."""
        verify_file(self.path, self.file)
        first: tuple[list[str], bool] | None = None
        line = 1
        for nbest in self.read():
            for hypothesis in nbest.hypotheses:
                form = list(hypothesis.features), hypothesis.pieces is None
                first = first or form
                if form != first:
                    raise Damaged(f"{self.path}, line {line}: features unlike those of line 1.")
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
            entry_of_file(entry),
            dict(entry.get("facts", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"The record of a shard in {folder} is damaged: {error}.") from None


class NBestCorpus:
    """The folder of a decoding worker, or the joined folders of several workers."""

    def __init__(self, folder: PathLike) -> None:
        """Read the index. Raises Damaged if it is missing, UserError if the folder does not hold n-best lists."""
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
        """Join the folders of several workers, shards by name. Raises UserError if a name occurs twice."""
        corpora = [cls(folder) for folder in folders]
        if not corpora:
            raise ValueError("no n-best lists to join")
        joined = corpora[0]
        by_name = {shard.name: shard for shard in joined.shards}
        for shard in (shard for corpus in corpora[1:] for shard in corpus.shards):
            if shard.name in by_name:
                raise UserError(
                    f"Both {by_name[shard.name].folder} and {shard.folder} hold a shard {shard.name}.",
                    "Give only folders that one run of one stage wrote.",
                )
            by_name[shard.name] = shard
        joined.shards = tuple(by_name[name] for name in sorted(by_name))
        return joined

    @property
    def lists(self) -> int:
        """Return the number of lists that the index states."""
        return sum(shard.lists for shard in self.shards)

    @property
    def lines(self) -> int:
        """Return the number of hypotheses that the index states."""
        return sum(shard.lines for shard in self.shards)

    def verify(self, shards: Mapping[str, Shard] | None = None) -> None:
        """Read all shards back and compare them with the decoded shards, given by name; see `NBestShard.verify`."""
        for shard in self.shards:
            if shards is not None and shard.name not in shards:
                raise Damaged(f"{shard.path} belongs to no shard of the decoded corpus.")
            shard.verify(shards[shard.name] if shards is not None else None)
