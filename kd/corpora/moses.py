"""Read and write n-best lists in the Moses format: `id ||| hypothesis ||| F0= -1.2 F1= -1.3 ||| -1.25`.

The text is detokenised, and `|||` in it is escaped reversibly. Scores are natural logarithms, written so that reading
them back gives the same bits. A fifth field may hold the tokens that the model emitted, where Moses itself has word
alignments. Lists made elsewhere are read more leniently (`group_given`, `given_lists.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from kd.base.errors import UserError
from kd.corpora.lines import PathLike, open_lines, open_text
from kd.corpora.writing import LineWriter

MOST_DIGITS = 19  # of an id: 63 bits
SEPARATOR = " ||| "
PIECES = re.compile(r"^▁.* ▁|\w@@ \w")  # text that is still in pieces, of sentencepiece or BPE
_SQUEEZED = re.compile(r"(?<=\|\|\|) (?=\|\|\|)")  # an empty field whose two blanks became one
_LETTER = re.compile(r"[^\W\d_]")
_WORD_SCORES = "WordScores="  # of marian-decoder --word-scores
_ESCAPED = re.compile(r"&((?:amp;)*)#124;")
_ONE_VALUE_EACH = re.compile(r"(?:[^\s=]+= -?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?(?: (?=[^\s])|$))+")


class Hypothesis(NamedTuple):
    """A translation with its scores (natural logarithms)."""

    text: str
    features: Mapping[str, tuple[float, ...]]  # name -> values; a member's score is F0, F1 …
    score: float
    pieces: str | None = None  # the tokens that the model emitted, joined by spaces; None if unknown


class NBestList(NamedTuple):
    """The translations of one source, best first; `id` is the id of the first pair with this source."""

    id: int
    hypotheses: Sequence[Hypothesis]


def member_features(scores: Iterable[float]) -> dict[str, tuple[float, ...]]:
    """Return the scores of an ensemble's members as the features F0, F1, and so on."""
    return {f"F{member}": (score,) for member, score in enumerate(scores)}


def escape(text: str) -> str:
    """Make text safe between separators: `|||` becomes `&#124;&#124;&#124;`; text like that gains an `amp;`."""
    if "#124;" in text:
        text = _ESCAPED.sub(r"&amp;\1#124;", text)
    return text.replace("|||", "&#124;&#124;&#124;")


def unescape(text: str) -> str:
    """Undo `escape`."""
    if "#124;" not in text:
        return text
    return _ESCAPED.sub(lambda match: f"&{match[1][4:]}#124;" if match[1] else "|", text)


class NBestWriter:
    """Write n-best lists to a file; a context manager.

    Attributes:
        lists: Number of lists added.
        lines: Number of hypotheses added.
        text: The writer of the file; it has the hash after `close`.
    """

    def __init__(self, path: PathLike, pieces: bool = False) -> None:
        """Begin a file. `pieces`: also write the tokens; every hypothesis must then have them."""
        self.lists = 0
        self.lines = 0
        self.text = LineWriter(path)
        self._pieces = pieces
        self._seen = _SeenIds()

    def add(self, nbest: NBestList) -> None:
        """Write a list. Raises ValueError if it is empty, its id is not new, a score is NaN or tokens are missing."""
        if not nbest.hypotheses:
            raise ValueError(f"the list of {nbest.id} is empty")
        if nbest.id < 0 or not self._seen.add(nbest.id):
            raise ValueError(f"the id {nbest.id} is negative or occurs twice")
        for hypothesis in nbest.hypotheses:
            self._write(nbest.id, hypothesis)
        self.lists += 1
        self.lines += len(nbest.hypotheses)

    def _write(self, list_id: int, hypothesis: Hypothesis) -> None:
        features = " ".join(f"{name}= {_numbers(values)}" for name, values in hypothesis.features.items())
        fields = [str(list_id), escape(hypothesis.text), features, _numbers((hypothesis.score,))]
        if self._pieces:
            if hypothesis.pieces is None:
                raise ValueError(f"a hypothesis of {list_id} has no tokens")
            fields.append(hypothesis.pieces)
        self.text.write(SEPARATOR.join(fields))

    def close(self) -> None:
        """Finish the file."""
        self.text.close()

    def abort(self) -> None:
        """Remove the partial file."""
        self.text.abort()

    def __enter__(self) -> NBestWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _numbers(values: Sequence[float]) -> str:
    if any(map(math.isnan, values)):
        raise ValueError("a score is NaN")
    return " ".join(repr(float(value)) for value in values)


class _SeenIds:
    """Remember ids; a run of consecutive ids, such as line numbers, takes no memory."""

    def __init__(self) -> None:
        self._first = self._next = -1
        self._others: set[int] = set()

    def add(self, list_id: int) -> bool:
        """Add an id; return whether it is new."""
        if self._first <= list_id < self._next or list_id in self._others:
            return False
        if self._next < 0:
            self._first = self._next = list_id
        if list_id == self._next:
            self._next += 1
        else:
            self._others.add(list_id)
        return True


def read_nbest(path: PathLike, escaped: bool = True) -> Iterator[NBestList]:
    """Yield the lists of a file in the Moses format.

    Args:
        path: The file.
        escaped: Whether `escape` was applied to the text; lists made elsewhere may contain `&#124;` as text.

    Raises:
        UserError: Naming file and line, for a malformed line, or an id that occurs again after another id.
    """
    place, seen, list_id = Path(path), _SeenIds(), -1
    hypotheses: list[Hypothesis] = []
    for number, line in enumerate(open_lines(place), 1):
        found, hypothesis = _parsed(line, place, number, escaped)
        if found != list_id:
            if hypotheses:
                yield NBestList(list_id, hypotheses)
            list_id, hypotheses = found, []
            if not seen.add(found):
                raise UserError(f"{place}, line {number}: the id {found} occurs again after another id.", _SORT)
        hypotheses.append(hypothesis)
    if hypotheses:
        yield NBestList(list_id, hypotheses)


_SORT = "Sort the file by id."
FORM = "A line looks like this: 7 ||| a hypothesis ||| F0= -1.2 ||| -1.2"


def _parsed(line: str, path: Path, number: int, escaped: bool) -> tuple[int, Hypothesis]:
    fields = line.split(SEPARATOR, 4)  # tokens may hold a separator
    if len(fields) < 4:
        raise UserError(f"{path}, line {number}: {len(fields)} fields where n-best lists have 4 or 5.", FORM)
    number_text, text, features, total, *pieces = fields
    if not is_id(number_text):
        raise UserError(f"{path}, line {number}: {number_text[:40]!r} is not an id.", FORM)
    try:
        text = unescape(text) if escaped else text
        hypothesis = Hypothesis(text, _features(features), parse_score(total), pieces[0] if pieces else None)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}.", FORM) from None
    return int(number_text), hypothesis


def _features(text: str) -> dict[str, tuple[float, ...]]:
    """Parse features such as `F0= -1.2 Lexical0= -1 -2`."""
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
                raise ValueError(f"{word!r} is not a feature's name, or occurs twice")
            current = values[word[:-1]] = []
        elif current is None:
            raise ValueError(f"a feature's name is missing before {word!r}")
        else:
            current.append(parse_score(word))
    if empty := [name for name, numbers in values.items() if not numbers]:
        raise ValueError(f"the feature {empty[0]} has no value")
    return {name: tuple(numbers) for name, numbers in values.items()}


def parse_score(text: str) -> float:
    """Parse a score, which may be infinite. Raises ValueError for NaN and for other text."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(f"{text[:40]!r} is not a score")
    return value


# --- lists made elsewhere -----------------------------------------------------------------------------------------


class UnreadList(NamedTuple):
    """A list from a file made elsewhere; its lines have not been parsed."""

    id: int  # in the file
    line: int  # 1-based, of its first hypothesis
    lines: Sequence[str]
    numbers: Sequence[int] = ()  # 1-based, of each; empty if they follow one another

    def numbered(self) -> Iterator[tuple[int, str]]:
        """Yield each line with its line number."""
        return zip(self.numbers or range(self.line, self.line + len(self.lines)), self.lines, strict=True)


def is_id(text: str) -> bool:
    """Return whether a text is a number of at most `MOST_DIGITS` ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def group_given(path: PathLike) -> Iterator[UnreadList]:
    """Yield the lists of a file in the Moses format, which needs only the fields `id ||| hypothesis`.

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


def given_fields(line: str) -> list[str]:
    """Split a line of a list made elsewhere into `id, hypothesis[, features][, score][, others]`.

    Marian's alignments and word scores, which stand before the features, are left out, and so are blanks around the
    hypothesis.
    """
    number, *rest = _SQUEEZED.sub("  ", f"{line} " if line.endswith("|||") else line).split(SEPARATOR)
    if not rest:
        return [number]
    text = rest.pop(0)
    while rest and any("=" in field for field in rest[1:]) and _precedes_features(rest[0]):
        del rest[0]
    return [number, text.strip(" "), *rest]


def _precedes_features(field: str) -> bool:
    """Return whether a field holds Marian's word scores or an alignment, and so neither features nor letters."""
    return field.startswith(_WORD_SCORES) or (bool(field) and "=" not in field and not _LETTER.search(field))


def parse_given(line: str) -> tuple[str, float]:
    """Return the hypothesis and the score of a line; the score is 0 if the line has none.

    Raises:
        ValueError: The line is malformed; the message says how.
    """
    _, text, *rest = given_fields(line)
    if not rest:
        return text, 0.0
    if len(rest) == 1:  # features or a score
        if "=" in rest[0]:
            _features(rest[0])
            return text, 0.0
        return text, parse_score(rest[0])
    if rest[0].strip() and not _ONE_VALUE_EACH.fullmatch(rest[0]):
        _features(rest[0])  # raises if a separator within the text has shifted the fields
    return text, parse_score(rest[1])


def group_fairseq(path: PathLike) -> Iterator[UnreadList]:
    """Yield the lists in the output of `fairseq-generate`, in the order of their ids; all are held in memory.

    Hypotheses are its `D-` lines (detokenised), or its `H-` lines if it has no `D-` lines.

    Raises:
        UserError: A line is malformed, an id occurs again after another id, or there is no hypothesis; the message
            names file and line.
    """
    found: dict[str, dict[int, tuple[list[int], list[str]]]] = {"D-": {}, "H-": {}}
    last = {"D-": "", "H-": ""}
    for number, line in enumerate(open_text(path), 1):
        lists = found.get(line[:2])
        if lists is None:
            continue
        text = line[2 : line.find("\t")]
        if line.count("\t") < 2 or not is_id(text):
            raise UserError(f"{path}, line {number}: {line[:40]!r} is not a hypothesis.", _FAIRSEQ_FORM)
        if text != last[line[:2]] and int(text) in lists:
            raise UserError(
                f"{path}, line {number}: the id {text} occurs again after another id.",
                "Give the output of one run of fairseq-generate.",
            )
        last[line[:2]] = text
        numbers, entries = lists.setdefault(int(text), ([], []))
        numbers.append(number)
        entries.append(line)
    chosen = found["D-"] or found["H-"]
    if not chosen:
        raise UserError(f"{path} has no line that begins with D- or H-.", _FAIRSEQ_FORM)
    for list_id in sorted(chosen):
        numbers, entries = chosen[list_id]
        yield UnreadList(list_id, numbers[0], entries, numbers)


def parse_fairseq(line: str) -> tuple[str, float]:
    """Parse the hypothesis and score (to base 2) of a `D-` or `H-` line. Raises ValueError for a malformed line."""
    _, score, text = line.split("\t", 2)
    return text, parse_score(score)


_FAIRSEQ_FORM = "Give the output of fairseq-generate: lines of D-7, a score and a hypothesis, with tabs between them."
