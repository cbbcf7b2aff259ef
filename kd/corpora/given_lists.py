"""N-best lists made elsewhere, matched by their ids to the sources of a shuffled corpus.

The files follow the order of the corpus that was decoded, the shards do not. So both are distributed by id into buckets
on disk, joined bucket by bucket, and written to the shards. Memory holds one bucket or one shard at a time.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import zstandard

from kd.base.errors import UserError
from kd.corpora.ids import PLACE_BITS, Pair, place_of
from kd.corpora.lines import PathLike, open_lines, open_text
from kd.corpora.moses import FORM, PIECES, Hypothesis, given_fields, is_id, parse_score
from kd.corpora.shard import Shard

BUCKET_LISTS = 200_000  # joined in memory at once, by id alone
MOST_BUCKETS = 1024
BUFFER_CHARACTERS = 1 << 25  # of all buckets together, before they go to disk
FEWEST_TO_JUDGE = 100  # lists from which on the fit of lists to sources can be told from chance
MOST_TO_JUDGE = 2_000
LEAST_FIT = 1.2  # times as similar to their own human translations as to the next ones; a very bad system has 1.6

_LN2 = math.log(2)


class GivenList(NamedTuple):
    """An n-best list as given in a file."""

    line: int  # of its first hypothesis
    id: int  # as in the file
    hypotheses: list[Hypothesis]


@dataclass(frozen=True)
class ListsFile:
    """A file of lists, and the meaning of its ids."""

    path: Path
    format: str
    first_id: int | None  # the pair's id that 0 stands for; None: they are ids of pairs
    pairs: int = 0  # of the corpus that was decoded, from `first_id` on
    corpus: str = ""

    def pair_id(self, given: GivenList) -> int:
        """Return the id of the pair that a list belongs to. Raise UserError if the corpus has no such line."""
        if self.first_id is None:
            if given.id >> 63:
                raise UserError(f"{self.path}, line {given.line}: {given.id} is not the id of a pair.", "Use kd's ids.")
            return given.id
        if given.id >= self.pairs:
            raise UserError(
                f"{self.path}, line {given.line}: the id {given.id} is too large: {self.corpus} has "
                f"{self.pairs:,} pairs from `first` on, with the ids 0 to {self.pairs - 1:,}.",
                "Give one list for each line of that corpus, or correct `corpus` and `first`.",
            )
        return self.first_id + given.id


# --- reading ---------------------------------------------------------------------------------------------------------


def read_moses(path: PathLike) -> Iterator[GivenList]:
    """Yield the lists of a file as Moses and Marian write them; fields after the score (alignments) are left out.

    Raises UserError, naming file and line, for a malformed line, for features that differ from the first line's, and
    for hypotheses in sub-words.
    """
    rows = ((number, *_moses_row(line, path, number)) for number, line in enumerate(open_text(path), 1))
    return _lists(rows, path)


def read_fairseq(path: PathLike) -> Iterator[GivenList]:
    """Yield the lists in the output of fairseq-generate: its detokenised lines `D-7<TAB>-0.5<TAB>a hypothesis`.

    Its base-2 logarithms are converted to natural ones. Raises UserError like `read_moses`.
    """
    return _lists(_fairseq_rows(path), path)


READERS: Mapping[str, Callable[[PathLike], Iterator[GivenList]]] = {"moses": read_moses, "fairseq": read_fairseq}


def _lists(rows: Iterator[tuple[int, int, Hypothesis]], path: PathLike) -> Iterator[GivenList]:
    names: list[str] | None = None
    for list_id, group in groupby(rows, key=itemgetter(1)):
        entries = list(group)
        for number, _, hypothesis in entries:
            names = list(hypothesis.features) if names is None else names
            if list(hypothesis.features) != names:
                raise UserError(f"{path}, line {number}: features unlike the first line's.", "Make all alike.")
            if PIECES.search(hypothesis.text):
                raise UserError(
                    f"{path}, line {number}: the hypothesis is in sub-words: {hypothesis.text[:40]!r}.",
                    "Give detokenised text (fairseq-generate: --remove-bpe=sentencepiece).",
                )
        yield GivenList(entries[0][0], list_id, [hypothesis for _, _, hypothesis in entries])


def _moses_row(line: str, path: PathLike, number: int) -> tuple[int, Hypothesis]:
    fields = given_fields(line)
    if len(fields) < 4:
        raise UserError(f"{path}, line {number}: {len(fields)} fields where n-best lists have 4.", FORM)
    try:
        return _id(fields[0]), Hypothesis(fields[1], _features(fields[2]), parse_score(fields[3]))
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}.", FORM) from None


def _fairseq_rows(path: PathLike) -> Iterator[tuple[int, int, Hypothesis]]:
    found = False
    for number, line in enumerate(open_text(path), 1):
        if not line.startswith("D-"):
            continue
        found = True
        fields = line.split("\t", 2)
        try:
            if len(fields) != 3:
                raise ValueError(f"{len(fields)} fields where fairseq-generate prints 3")
            yield number, _id(fields[0][2:]), Hypothesis(fields[2], {}, parse_score(fields[1]) * _LN2)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}.", "Give the output of fairseq-generate.") from None
    if not found:
        raise UserError(f"{path} has no line that begins with D-.", "Give the output of fairseq-generate.")


def _id(text: str) -> int:
    text = text.strip(" ")
    if not is_id(text):
        raise ValueError(f"{text[:40]!r} is not an id")
    return int(text)


def _features(text: str) -> dict[str, tuple[float, ...]]:
    """Parse features leniently, unlike `moses.py`, which checks kd's own output: a name may repeat or lack a value."""
    values: dict[str, list[float]] = {}
    current: list[float] | None = None
    for word in text.split():
        if word.endswith("=") and len(word) > 1:
            current = values.setdefault(word[:-1], [])
        elif current is None:
            raise ValueError(f"a feature's name is missing before {word[:40]!r}")
        else:
            current.append(parse_score(word))
    return {name: tuple(numbers) for name, numbers in values.items() if numbers}


# --- bringing lists and sources together -----------------------------------------------------------------------------


@dataclass
class Joined:
    """The counts of a join."""

    lists: int = 0  # in the files
    unused: int = 0  # of pairs that are in none of these shards: cleaned away, held out, or another worker's
    missing: int = 0  # sources without a list
    first_missing: int | None = None  # a pair's id
    unsorted: int = 0  # lists that were not in the order of their scores, and are now
    features: dict[str, int] | None = None  # of every hypothesis: name -> number of values


def join(
    files: Sequence[ListsFile], shards: Sequence[Shard], folder: PathLike, counts: Joined, most: int = 0
) -> Iterator[tuple[Shard, Iterator[tuple[list[Pair], list[Hypothesis] | None]]]]:
    """Yield each shard with its runs of equal sources and the list of each run, None if there is no list.

    A run's list is that of its first pair with a list. Consume the runs of a shard before requesting the next shard.

    Args:
        files: The files of lists.
        shards: The shards with the sources.
        folder: Place for the buckets, in a hidden folder that is removed afterwards. They take about as many bytes as
            the compressed files.
        counts: Receives the counts.
        most: Hypotheses to keep of each list; 0: all.

    Raises:
        UserError: An id is outside its corpus or occurs twice; the message names file and line.
    """
    with tempfile.TemporaryDirectory(prefix=".given-lists-", dir=folder) as place:
        expected = max(sum(shard.lines for shard in shards), sum(file.pairs for file in files))
        buckets = min(MOST_BUCKETS, -(-expected // BUCKET_LISTS)) or 1
        places = _Buckets(Path(place), "places", buckets)
        for number, shard in enumerate(shards):
            for run, group in enumerate(shard.groups()):
                for rank, pair in enumerate(group):
                    places.add(pair.id % buckets, f"{pair.id}\t{number}\t{run}\t{rank}")
        by_id = _Buckets(Path(place), "lists", buckets)
        for number, file in enumerate(files):
            for given in READERS[file.format](file.path):
                _check_features(file, given, counts)
                counts.unsorted += _sort(given.hypotheses)
                pair_id = file.pair_id(given)
                by_id.add(pair_id % buckets, f"{pair_id}\t{number}\t{given.line}\t{_packed(given.hypotheses, most)}")
                counts.lists += 1
        by_shard = _Buckets(Path(place), "shards", len(shards))
        for bucket in range(buckets):
            _to_shards(files, places.take(bucket), by_id.take(bucket), by_shard, counts)
        for number, shard in enumerate(shards):
            yield shard, _runs(shard, by_shard.take(number), counts)


def _sort(hypotheses: list[Hypothesis]) -> bool:
    """Sort a list by score, the best first. Return whether the order changed."""
    scores = [each.score for each in hypotheses]
    hypotheses.sort(key=lambda each: -each.score)  # equal scores keep their order
    return scores != [each.score for each in hypotheses]


def _check_features(file: ListsFile, given: GivenList, counts: Joined) -> None:
    """Check that all files have the same features; the reader checks this within a file."""
    features = {name: len(values) for name, values in given.hypotheses[0].features.items()}
    if counts.features is None:
        counts.features = features
    elif list(counts.features) != list(features):
        raise UserError(
            f"{file.path}, line {given.line}: features unlike the previous file's.",
            "Give files with the same features.",
        )


def _to_shards(
    files: Sequence[ListsFile], places: Iterator[str], lists: Iterator[str], by_shard: _Buckets, counts: Joined
) -> None:
    """Append the lists of one bucket to their shards."""
    place_of_id = {pair_id: rest for pair_id, _, rest in (line.partition("\t") for line in places)}
    seen: dict[str, tuple[int, int]] = {}
    for row in lists:
        pair_id, number, line, packed = row.split("\t", 3)
        here = int(number), int(line)
        before = seen.setdefault(pair_id, here)
        if before != here:
            raise UserError(
                f"{files[here[0]].path}, line {here[1]}: a list of the same source was there before, "
                f"on line {before[1]} of {files[before[0]].path}.",
                "Each id needs one list, with all its hypotheses one after the other.",
            )
        if pair_id in place_of_id:
            shard, _, run_and_rank = place_of_id[pair_id].partition("\t")
            by_shard.add(int(shard), f"{run_and_rank}\t{packed}")
        else:
            counts.unused += 1


def _runs(shard: Shard, lists: Iterator[str], counts: Joined) -> Iterator[tuple[list[Pair], list[Hypothesis] | None]]:
    found: dict[int, tuple[int, str]] = {}
    for row in lists:
        run, rank, packed = row.split("\t", 2)
        if int(run) not in found or int(rank) < found[int(run)][0]:
            found[int(run)] = int(rank), packed
    for number, group in enumerate(shard.groups()):
        if number in found:
            yield group, _unpacked(found.pop(number)[1])
        else:
            counts.missing += 1
            counts.first_missing = group[0].id if counts.first_missing is None else counts.first_missing
            yield group, None


def _packed(hypotheses: Sequence[Hypothesis], most: int) -> str:
    kept = hypotheses[:most] if most else hypotheses
    return json.dumps([[each.text, each.features, each.score] for each in kept])


def _unpacked(text: str) -> list[Hypothesis]:
    return [
        Hypothesis(text, {name: tuple(values) for name, values in features.items()}, score)
        for text, features, score in json.loads(text)
    ]


class _Buckets:
    """Lines distributed into numbered files as zstandard frames; each file is read once."""

    def __init__(self, folder: Path, name: str, count: int) -> None:
        self._paths = [folder / f"{name}-{number}.zst" for number in range(count)]
        self._lines: list[list[str]] = [[] for _ in range(count)]
        self._characters = [0] * count
        self._most = BUFFER_CHARACTERS // max(1, count)
        self._compressor = zstandard.ZstdCompressor(level=1)

    def add(self, bucket: int, line: str) -> None:
        self._lines[bucket].append(line)
        self._characters[bucket] += len(line)
        if self._characters[bucket] > self._most:
            self._flush(bucket)

    def _flush(self, bucket: int) -> None:
        if self._lines[bucket]:
            text = "\n".join([*self._lines[bucket], ""])
            with self._paths[bucket].open("ab") as file:
                file.write(self._compressor.compress(text.encode("utf-8")))
        self._lines[bucket], self._characters[bucket] = [], 0

    def take(self, bucket: int) -> Iterator[str]:
        """Yield the lines of a bucket and remove its file."""
        self._flush(bucket)
        path = self._paths[bucket]
        if path.exists():
            yield from open_lines(path)
            path.unlink()


def human_list(group: Sequence[Pair], names: Mapping[str, int]) -> list[Hypothesis]:
    """Make a list for a source without one: its human translations, with scores of 0 and the other lists' features."""
    features = {name: (0.0,) * count for name, count in names.items()}
    return [Hypothesis(text, features, 0.0) for text in dict.fromkeys(pair.target for pair in group)]


def list_place(pair_id: int) -> int:
    """Return the 1-based line of a pair in its original corpus."""
    return place_of(pair_id) + 1


def first_id(prefix: int, first: int) -> int:
    """Return the id of the pair at a position in a corpus."""
    return (prefix << PLACE_BITS) + first


# --- do they fit? ----------------------------------------------------------------------------------------------------


@dataclass
class Fit:
    """Checks, using the human translations, whether lists belong to the sources that they were matched to.

    Mismatched lists are as similar to the next source's human translation as to their own source's. Similarity is the
    share of common character trigrams.
    """

    judged: int = 0
    own: float = 0.0
    next_ones: float = 0.0
    _before: str | None = field(default=None, repr=False)

    def add(self, gold: str, hypothesis: str) -> None:
        """Compare a source's human translation with the best hypothesis of its list."""
        if self.judged < MOST_TO_JUDGE:
            if self._before is not None:
                self.judged += 1
                self.own += _similarity(gold, hypothesis)
                self.next_ones += _similarity(gold, self._before)
            self._before = hypothesis

    def refuse(self) -> bool:
        """Return whether the lists certainly belong to other sources."""
        return self.judged >= FEWEST_TO_JUDGE and self.own <= LEAST_FIT * self.next_ones


def _similarity(text: str, other: str) -> float:
    ours, theirs = _trigrams(text), _trigrams(other)
    return len(ours & theirs) / max(1, len(ours | theirs))


def _trigrams(text: str) -> set[str]:
    text = f" {text.casefold()} "
    return {text[start : start + 3] for start in range(len(text) - 2)}
