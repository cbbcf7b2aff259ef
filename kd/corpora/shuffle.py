"""Shuffle a corpus larger than memory: a seeded hash of the source orders the pairs, so equal sources are adjacent.

A first pass writes pairs to buckets on disk by the first bits of the hash; a second sorts ranges of hashes in memory.
Several processes can share both passes; the order depends neither on their number nor on the number of buckets. A range
that is far too large, because one source occurs in it millions of times, is sorted in runs that are merged.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import zstandard

from kd.corpora.hashing import HASH_BITS, sentence_hash
from kd.corpora.ids import Pair
from kd.corpora.lines import PathLike, open_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

PURPOSE = "kd.shuffle"
BUCKET_PAIRS = 200_000  # held in memory at once, some 100 MB of ordinary sentences
MOST_BUCKETS = 4096
BUFFER_CHARACTERS = 1 << 26  # of all buckets of a process together, before they go to disk
RUN_CHARACTERS = 1 << 16  # of a run before it goes to disk, and of each run in memory while they are merged
END = 1 << HASH_BITS

_Row = tuple[int, str, int, str]  # hash, source, id, target: sorting rows gives the order


def shuffle(
    pairs: Iterable[Pair], seed: int, folder: PathLike, expected: int, buckets: int | None = None
) -> Iterator[Pair]:
    """Yield the pairs by the hash of their source, then by id.

    Args:
        pairs: The corpus.
        seed: Seed of the order.
        folder: Place for the buckets, in a hidden folder that is removed afterwards, even if the caller stops early.
            They take about one and a half times the bytes of the compressed corpus; each is removed once it is read.
        expected: Estimated number of pairs, which determines the number of buckets.
        buckets: Number of buckets; overrides the estimate.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".shuffle-", dir=folder) as place:
        scattered = Scattered(Path(place), ("all",), buckets or buckets_for(expected))
        scatter(pairs, seed, scattered, "all")
        for number in range(scattered.buckets):
            first, end = (-(-(bucket << HASH_BITS) // scattered.buckets) for bucket in (number, number + 1))
            for _, source, pair_id, target in scattered.in_order(first, end, len(scattered.hashes(number))):
                yield Pair(pair_id, source, target)
            scattered.remove(number)


def buckets_for(pairs: int) -> int:
    """Return the number of buckets for an estimated number of pairs."""
    return max(1, min(MOST_BUCKETS, -(-pairs // BUCKET_PAIRS)))


def scatter(pairs: Iterable[Pair], seed: int, scattered: Scattered, name: str) -> None:
    """Write pairs to buckets, as one of the writers in `scattered.names`."""
    hash_of, buckets = sentence_hash(seed, PURPOSE), scattered.buckets
    files = [_Bucket(scattered.path(number, name), BUFFER_CHARACTERS // buckets) for number in range(buckets)]
    for pair in pairs:
        value = hash_of(pair.source)
        files[value * buckets >> HASH_BITS].add(value, pair)  # ranges of hashes: bucket after bucket is in order
    for bucket in files:
        bucket.flush()


class Range(NamedTuple):
    """Neighbouring shards of the shuffled corpus."""

    number: int  # of the first shard
    starts: tuple[int, ...]  # hash at which each shard begins
    end: int  # hash at which the next range begins
    pairs: int


@dataclass(frozen=True)
class Scattered:
    """A corpus in buckets, written by several processes."""

    folder: Path
    names: Sequence[str]  # of the writers
    buckets: int

    def path(self, number: int, name: str) -> Path:
        """Return the file of a bucket that one writer writes, without its ending."""
        return self.folder / f"{number:04d}-{name}"

    def hashes(self, number: int) -> NDArray[Any]:
        """Return the hashes in a bucket, in ascending order."""
        import numpy

        files = [self.path(number, name).with_suffix(HASHES) for name in self.names]
        return numpy.sort(numpy.concatenate([_Bucket.read_hashes(file) for file in files]))

    def in_order(self, first: int, end: int, pairs: int) -> Iterator[_Row]:
        """Yield in order the rows with hashes from `first` up to `end`, given their number."""
        numbers = range(first * self.buckets >> HASH_BITS, ((end - 1) * self.buckets >> HASH_BITS) + 1)
        buckets = (_Bucket(self.path(number, name)) for number in numbers for name in self.names)
        rows = (row for bucket in buckets for row in bucket.read() if first <= row[0] < end)
        if pairs <= 2 * BUCKET_PAIRS:
            yield from sorted(rows)
        else:
            yield from _in_runs(rows, self.folder / f"range-{first:016x}")

    def remove(self, number: int) -> None:
        """Remove the files of a bucket."""
        for name in self.names:
            for ending in (ROWS, HASHES):
                self.path(number, name).with_suffix(ending).unlink(missing_ok=True)

    def cut(self, lines: int) -> Iterator[Range]:
        """Yield the shards of `lines` pairs, without separating equal sources, in ranges of about `BUCKET_PAIRS`."""
        number, pairs = 0, 0
        starts: list[int] = []
        for start, size in self._shards(lines):
            if pairs >= BUCKET_PAIRS:
                yield Range(number, tuple(starts), start, pairs)
                number, starts, pairs = number + len(starts), [], 0
            starts.append(start)
            pairs += size
        if starts:
            yield Range(number, tuple(starts), END, pairs)

    def _shards(self, lines: int) -> Iterator[tuple[int, int]]:
        """Yield the first hash and the number of pairs of each shard; a shard ends after the source that fills it."""
        import numpy

        first, size = -1, 0
        for number in range(self.buckets):
            values, counts = numpy.unique(self.hashes(number), return_counts=True)
            ends = numpy.cumsum(counts)
            place = 0  # the first group that belongs to the shard at hand
            while place < len(values):
                if first < 0:
                    first = int(values[place])
                before = int(ends[place - 1]) if place else 0
                full = int(numpy.searchsorted(ends, before + lines - size))
                if full >= len(values):
                    size += int(ends[-1]) - before
                    break
                yield first, size + int(ends[full]) - before
                first, size, place = -1, 0, full + 1
        if first >= 0:
            yield first, size


def _in_runs(rows: Iterator[_Row], place: Path) -> Iterator[_Row]:
    runs: list[_Bucket] = []
    while rows_of_run := sorted(islice(rows, BUCKET_PAIRS)):
        run = _Bucket(place.with_name(f"{place.name}-{len(runs)}"), RUN_CHARACTERS)
        for value, source, pair_id, target in rows_of_run:
            run.add(value, Pair(pair_id, source, target))
        run.flush()
        runs.append(run)
    yield from merge(*(run.read() for run in runs))
    for run in runs:
        run.remove()


ROWS, HASHES = ".zst", ".hashes"


class _Bucket:
    """Pairs with nearby hashes: four lines each, appended to a file as zstandard frames, with the hashes beside it."""

    compressor = zstandard.ZstdCompressor(level=1)

    def __init__(self, path: Path, most_characters: int = 0) -> None:
        self._rows, self._values_file = path.with_suffix(ROWS), path.with_suffix(HASHES)
        self._most = most_characters
        self._lines: list[str] = []
        self._values = array("Q")
        self._characters = 0

    def add(self, value: int, pair: Pair) -> None:
        self._lines += (str(value), pair.source, str(pair.id), pair.target)
        self._values.append(value)
        self._characters += len(pair.source) + len(pair.target) + 40
        if self._characters > self._most:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._lines.append("")
            with self._rows.open("ab") as file:
                file.write(self.compressor.compress("\n".join(self._lines).encode("utf-8")))
            with self._values_file.open("ab") as file:
                self._values.tofile(file)
        self._lines = []
        self._values = array("Q")
        self._characters = 0

    def read(self) -> Iterator[_Row]:
        if self._rows.exists():
            lines = open_lines(self._rows)
            for value, source, pair_id, target in zip(lines, lines, lines, lines, strict=True):
                yield int(value), source, int(pair_id), target

    def remove(self) -> None:
        self._rows.unlink(missing_ok=True)
        self._values_file.unlink(missing_ok=True)

    @staticmethod
    def read_hashes(path: Path) -> NDArray[Any]:
        import numpy

        return numpy.fromfile(path, numpy.uint64) if path.exists() else numpy.zeros(0, numpy.uint64)
