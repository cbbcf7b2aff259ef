"""The Moses format of n-best lists, `id ||| hypothesis ||| F0= -1.2 F1= -1.3 ||| -1.25`, read and written.

Text is detokenised and `|||` in it is escaped reversibly; scores are natural logarithms and print as what they are, so
that reading back gives the same bits. Lists made elsewhere are read more leniently (`group_given`, `given_lists.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from kd.base.errors import UserError
from kd.corpora.lines import LineWriter, PathLike, open_aligned, open_lines, open_text

MOST_DIGITS = 19  # of an id: 63 bits
SEPARATOR = " ||| "
_ESCAPED = re.compile(r"&((?:amp;)*)#124;")
_ONE_VALUE_EACH = re.compile(r"(?:[^\s=]+= -?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?(?: (?=[^\s])|$))+")


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
    """Return the scores of an ensemble's members as the features F0, F1, and so on."""
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
FORM = "A line looks like this: 7 ||| a hypothesis ||| F0= -1.2 ||| -1.2"


def _parsed(line: str, path: Path, number: int, escaped: bool) -> tuple[int, Hypothesis]:
    fields = line.split(SEPARATOR)
    if len(fields) != 4:
        raise UserError(f"{path}, line {number}: {len(fields)} fields where n-best lists have 4.", FORM)
    number_text, text, features, total = fields
    if not (number_text.isascii() and number_text.isdigit()):
        raise UserError(f"{path}, line {number}: {number_text[:40]!r} is no id.", FORM)
    try:
        hypothesis = Hypothesis(unescape(text) if escaped else text, _features(features), parse_score(total))
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}.", FORM) from None
    return int(number_text), hypothesis


def _features(text: str) -> dict[str, tuple[float, ...]]:
    """`F0= -1.2 Lexical0= -1 -2` by name."""
    words = text.split()
    if _ONE_VALUE_EACH.fullmatch(text):  # as nearly all have it; what looks unlike it is looked at word by word
        plain: dict[str, tuple[float, ...]] = {
            name[:-1]: (float(value),) for name, value in zip(words[::2], words[1::2], strict=True)
        }
        if 2 * len(plain) == len(words):
            return plain
    values: dict[str, list[float]] = {}
    current: list[float] | None = None
    for word in words:
        if word.endswith("="):
            if word == "=" or word[:-1] in values:
                raise ValueError(f"{word!r} is no feature's name, or there twice")
            current = values[word[:-1]] = []
        elif current is None:
            raise ValueError(f"a feature's name is missing before {word!r}")
        else:
            current.append(parse_score(word))
    if empty := [name for name, numbers in values.items() if not numbers]:
        raise ValueError(f"the feature {empty[0]} has no value")
    return {name: tuple(numbers) for name, numbers in values.items()}


def parse_score(text: str) -> float:
    """A score, infinite ones too. Raises ValueError where the text is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(f"{text[:40]!r} is no score")
    return value


# --- lists made elsewhere -----------------------------------------------------------------------------------------


class UnreadList(NamedTuple):
    """A list as it stands in somebody's file, its lines not looked into yet."""

    id: int  # what the file calls it
    line: int  # 1-based, of its first hypothesis
    lines: Sequence[str]


def is_id(text: str) -> bool:
    """Tell whether a text is a number of at most `MOST_DIGITS` European digits."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def group_given(path: PathLike) -> Iterator[UnreadList]:
    """Yield the lists of a file in the Moses format, with as few fields as `id ||| hypothesis`.

    Raises UserError, naming file and line, for a line that does not begin with an id.
    """
    beginning, first = None, 0
    lines: list[str] = []
    for number, line in enumerate(open_text(path), 1):
        text = line[: line.find(SEPARATOR)]
        if text != beginning:
            if beginning is not None:
                yield UnreadList(int(beginning), first, lines)
            if SEPARATOR not in line or not is_id(text.strip(" ")):
                raise UserError(f"{path}, line {number}: it does not begin with an id: {line[:40]!r}.", FORM)
            beginning, first, lines = text, number, []
        lines.append(line)
    if beginning is not None:
        yield UnreadList(int(beginning), first, lines)


def parse_given(line: str) -> tuple[str, float]:
    """A hypothesis and its score out of a line: `id ||| hypothesis [||| features] [||| score [||| anything]]`.

    A line without a score gets 0. The hypothesis stands as it is. Raises ValueError saying what is wrong.
    """
    _, text, *rest = line.split(SEPARATOR)
    if not rest:
        return text, 0.0
    if len(rest) == 1:  # features or a score
        if "=" in rest[0]:
            _features(rest[0])
            return text, 0.0
        return text, parse_score(rest[0])
    if rest[0].strip() and not _ONE_VALUE_EACH.fullmatch(rest[0]):
        _features(rest[0])  # what is shifted by a separator within the text is noticed here
    return text, parse_score(rest[1])


def group_fairseq(path: PathLike) -> Iterator[UnreadList]:
    """Yield the lists in what `fairseq-generate` prints, in the order of their ids; all are held in memory.

    Hypotheses are its `D-` lines (detokenised), and where there are none its `H-` lines. Raises UserError, naming file
    and line, for another form, or if there is no hypothesis.
    """
    found: dict[str, dict[int, tuple[int, list[str]]]] = {"D-": {}, "H-": {}}
    for number, line in enumerate(open_text(path), 1):
        lists = found.get(line[:2])
        if lists is None:
            continue
        text = line[2 : line.find("\t")]
        if line.count("\t") < 2 or not is_id(text):
            raise UserError(f"{path}, line {number}: no hypothesis looks like this: {line[:40]!r}.", _FAIRSEQ_FORM)
        lists.setdefault(int(text), (number, []))[1].append(line)
    chosen = found["D-"] or found["H-"]
    if not chosen:
        raise UserError(f"{path} has no line that begins with D- or H-.", _FAIRSEQ_FORM)
    for list_id in sorted(chosen):
        yield UnreadList(list_id, *chosen[list_id])


def parse_fairseq(line: str) -> tuple[str, float]:
    """A hypothesis and its score (to base 2) out of a `D-` or `H-` line. Raises ValueError saying what is wrong."""
    _, score, text = line.split("\t", 2)
    return text, parse_score(score)


_FAIRSEQ_FORM = "Give what fairseq-generate printed: D-7, a score and a hypothesis, with tabs between them."
