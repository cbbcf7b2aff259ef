"""N-best lists in the Moses format, `id ||| hypothesis ||| F0= -1.2 F1= -1.3 ||| -1.25`, pieces in a sidecar.

Text is detokenised and `|||` in it is escaped reversibly; scores are natural logarithms and print as what they are, so
that reading back gives the same bits.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat, zip_longest
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from kd.corpora.ids import Pair
from kd.corpora.index import INDEX, Damaged, file_entry, read_index, read_json, verify_file, write_index, write_json
from kd.corpora.lines import LineWriter, PathLike, open_aligned, open_lines
from kd.corpora.shards import Shard
from kd.errors import UserError

FORMAT, VERSION = "kd.nbest", 1
SEPARATOR = " ||| "
RECORD = ".shard.json"  # suffix of what a finished shard leaves until the folder has its index
_ESCAPED = re.compile(r"&((?:amp;)*)#124;")


class Hypothesis(NamedTuple):
    """A translation with its scores (natural logarithms)."""

    text: str
    features: Mapping[str, tuple[float, ...]]  # name -> values; a member's score is F0, F1 …
    score: float
    pieces: str | None = None  # as the model emitted them, joined by spaces; None where they were not read


class NBestList(NamedTuple):
    """The translations of one source, best first; `id` is that of the first pair with this source."""

    id: int
    hypotheses: Sequence[Hypothesis]


def member_features(scores: Iterable[float]) -> dict[str, tuple[float, ...]]:
    """The scores of an ensemble's members as features: F0, F1 …"""
    return {f"F{member}": (score,) for member, score in enumerate(scores)}


def escape(text: str) -> str:
    """Make text safe between separators: `|||` becomes `&#124;&#124;&#124;`; what looks like that gains an `amp;`."""
    if "#124;" in text:
        text = _ESCAPED.sub(r"&amp;\1#124;", text)
    return text.replace("|||", "&#124;&#124;&#124;")


def unescape(text: str) -> str:
    """Undo `escape`."""
    if "#124;" not in text:
        return text
    return _ESCAPED.sub(lambda match: f"&{match[1][4:]}#124;" if match[1] else "|", text)


class NBestWriter:
    """Writes n-best lists to a file, and their pieces to another; a context manager.

    After `close`: `lists`, `lines`, and the writers `text` and `pieces` with their hashes.
    """

    def __init__(self, path: PathLike, pieces_path: PathLike | None = None) -> None:
        self.lists = 0
        self.lines = 0
        self.text = LineWriter(path)
        self.pieces = None if pieces_path is None else LineWriter(pieces_path)
        self._seen = _SeenIds()

    def add(self, nbest: NBestList) -> None:
        """Write a list. Raises ValueError if it is empty, its id was there before, or a score is not a number."""
        if not nbest.hypotheses:
            raise ValueError(f"the list of {nbest.id} is empty")
        if nbest.id < 0 or not self._seen.add(nbest.id):
            raise ValueError(f"the id {nbest.id} stands there twice or is negative")
        for hypothesis in nbest.hypotheses:
            self._write(nbest.id, hypothesis)
        self.lists += 1
        self.lines += len(nbest.hypotheses)

    def _write(self, list_id: int, hypothesis: Hypothesis) -> None:
        features = " ".join(f"{name}= {_numbers(values)}" for name, values in hypothesis.features.items())
        self.text.write(
            SEPARATOR.join((str(list_id), escape(hypothesis.text), features, _numbers((hypothesis.score,))))
        )
        if self.pieces is not None:
            if hypothesis.pieces is None:
                raise ValueError(f"a hypothesis of {list_id} comes without its pieces")
            self.pieces.write(f"{list_id}{SEPARATOR}{hypothesis.pieces}")

    def close(self) -> None:
        """Finish the files."""
        for writer in self._writers():
            writer.close()

    def abort(self) -> None:
        """Remove what was written."""
        for writer in self._writers():
            writer.abort()

    def _writers(self) -> list[LineWriter]:
        return [self.text] if self.pieces is None else [self.text, self.pieces]

    def __enter__(self) -> NBestWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _numbers(values: Sequence[float]) -> str:
    if any(map(math.isnan, values)):
        raise ValueError("a score is not a number")
    return " ".join(repr(float(value)) for value in values)


class _SeenIds:
    """Which ids came; a run of consecutive ones, as line numbers are, takes no memory."""

    def __init__(self) -> None:
        self._first = self._next = -1
        self._others: set[int] = set()

    def add(self, list_id: int) -> bool:
        """Note an id; says whether it is new."""
        if self._first <= list_id < self._next or list_id in self._others:
            return False
        if self._next < 0:
            self._first = self._next = list_id
        if list_id == self._next:
            self._next += 1
        else:
            self._others.add(list_id)
        return True


def read_nbest(path: PathLike, pieces_path: PathLike | None = None, escaped: bool = True) -> Iterator[NBestList]:
    """Yield the lists of a file in the Moses format, with the pieces of a sidecar if one is given.

    `escaped=False` leaves `&#124;` alone in lists made elsewhere. Raises UserError, naming file and line, for a line of
    another form, an id that comes back after another, and a sidecar whose ids or number of lines differ.
    """
    lines = open_lines(path)
    rows: Iterator[tuple[str, str | None]] = zip(lines, repeat(None))
    if pieces_path is not None:
        rows = ((text, pieces) for text, pieces in open_aligned([path, pieces_path]))
    return _lists(rows, Path(path), pieces_path, escaped)


def _lists(
    rows: Iterable[tuple[str, str | None]], path: Path, pieces_path: PathLike | None, escaped: bool
) -> Iterator[NBestList]:
    seen = _SeenIds()
    list_id = -1
    hypotheses: list[Hypothesis] = []
    for number, (line, pieces_line) in enumerate(rows, 1):
        found, hypothesis = _parsed(line, path, number, escaped)
        if pieces_line is not None:
            pieces_id, separator, pieces = pieces_line.partition(SEPARATOR)
            if not separator or pieces_id != str(found):
                raise UserError(f"{pieces_path}, line {number}: the pieces are not those of {found}.", _MAKE_AGAIN)
            hypothesis = hypothesis._replace(pieces=pieces)
        if found != list_id:
            if hypotheses:
                yield NBestList(list_id, hypotheses)
            list_id, hypotheses = found, []
            if not seen.add(found):
                raise UserError(f"{path}, line {number}: the id {found} returns after another.", "Sort the file by id.")
        hypotheses.append(hypothesis)
    if hypotheses:
        yield NBestList(list_id, hypotheses)


_MAKE_AGAIN = "Make the file again."
_FORM = "A line looks like this: 7 ||| a hypothesis ||| F0= -1.2 ||| -1.2"


def _parsed(line: str, path: Path, number: int, escaped: bool) -> tuple[int, Hypothesis]:
    fields = line.split(SEPARATOR)
    if len(fields) != 4:
        raise UserError(f"{path}, line {number}: {len(fields)} fields where n-best lists have 4.", _FORM)
    number_text, text, features, total = fields
    if not (number_text.isascii() and number_text.isdigit()):
        raise UserError(f"{path}, line {number}: {number_text[:40]!r} is no id.", _FORM)
    try:
        hypothesis = Hypothesis(unescape(text) if escaped else text, _features(features), _number(total))
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}.", _FORM) from None
    return int(number_text), hypothesis


def _features(text: str) -> dict[str, tuple[float, ...]]:
    """`F0= -1.2 Lexical0= -1 -2` by name."""
    values: dict[str, list[float]] = {}
    current: list[float] | None = None
    for word in text.split():
        if word.endswith("="):
            if word == "=" or word[:-1] in values:
                raise ValueError(f"{word!r} is no feature's name, or there twice")
            current = values[word[:-1]] = []
        elif current is None:
            raise ValueError(f"a feature's name is missing before {word!r}")
        else:
            current.append(_number(word))
    if empty := [name for name, numbers in values.items() if not numbers]:
        raise ValueError(f"the feature {empty[0]} has no value")
    return {name: tuple(numbers) for name, numbers in values.items()}


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(f"{text[:40]!r} is no score")
    return value


# --- folders of shards -------------------------------------------------------------------------------------------


class NBestShardWriter(NBestWriter):
    """Writes the n-best lists of one shard; the shard counts as finished once it is closed without an exception.

    A worker that dies keeps its finished shards (`finished_shards`); `write_nbest_index` completes the folder. Lists
    made elsewhere have no `pieces`.
    """

    def __init__(self, folder: PathLike, name: str, pieces: bool = True) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
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
        }
        write_json(self.folder / (self.name + RECORD), record)


def _path(folder: Path, name: str, column: str) -> Path:
    return folder / f"{name}.{column}.zst"


def finished_shards(folder: PathLike) -> set[str]:
    """The names of the shards that are whole in a folder without an index yet."""
    return {path.name.removesuffix(RECORD) for path in Path(folder).glob("*" + RECORD)}


def adopt_shards(other: PathLike, folder: PathLike, names: Collection[str]) -> None:
    """Take over another worker's finished shards of these names, as hard links, where the folder has none of its own.

    The other may be complete, or have been left in the middle of its work.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, record in _records(Path(other)).items():
        if name in names and not (place / (name + RECORD)).exists():
            for column in record["files"]:
                _link(_path(Path(other), name, column), _path(place, name, column))
            write_json(place / (name + RECORD), record)


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    """What is known of the finished shards of a folder, with an index or without."""
    if (folder / INDEX).is_file():
        entries = read_index(folder, FORMAT, VERSION)["shards"]
    else:
        entries = [read_json(path) for path in sorted(folder.glob("*" + RECORD))]
    return {entry["name"]: entry for entry in entries}


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


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
            raise Damaged(error.what) from None
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


class NBestCorpus:
    """The folder that a decoding worker leaves, or those of several workers as one."""

    def __init__(self, folder: PathLike) -> None:
        """Read the index. Raises Damaged if it is missing, UserError if the folder is none of n-best lists."""
        self.folder = Path(folder)
        index = read_index(self.folder, FORMAT, VERSION)
        try:
            self.facts: Mapping[str, Any] = index["facts"]
            shards = [
                NBestShard(self.folder, entry["name"], entry["lists"], entry["lines"], entry["files"])
                for entry in index["shards"]
            ]
        except (KeyError, TypeError) as error:
            raise Damaged(f"The index of {self.folder} lacks something: {error}.") from None
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
