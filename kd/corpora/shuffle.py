"""Shuffling of a corpus larger than memory: a seeded hash of the source orders the pairs, equal sources adjacent.

A first pass throws pairs into buckets on disk by the first bits of the hash, a second sorts one bucket at a time; the
order does not depend on how many buckets there were. A bucket that is much too large, since one source stands in it
millions of times, is sorted in runs that are merged: memory stays the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from pathlib import Path

import zstandard

from kd.corpora.hashing import HASH_BITS, sentence_hash
from kd.corpora.ids import Pair
from kd.corpora.lines import PathLike, open_lines

PURPOSE = "kd.shuffle"
BUCKET_PAIRS = 200_000  # held in memory at once, some 100 MB of ordinary sentences
MOST_BUCKETS = 4096
BUFFER_CHARACTERS = 1 << 25  # of all buckets together, before they go to disk
RUN_CHARACTERS = 1 << 16  # of a run before it goes to disk, and so what is in memory of each when they are merged

_Row = tuple[int, str, int, str]  # hash, source, id, target: sorting rows gives the order


def shuffle(
    pairs: Iterable[Pair], seed: int, folder: PathLike, expected: int, buckets: int | None = None
) -> Iterator[Pair]:
    """Yield the pairs by the hash of their source, then by id.

    expected: about how many there are, from which the number of buckets follows. folder: where the buckets lie
    meanwhile, in a hidden folder that is removed, also when the caller stops early: about one and a half times the
    bytes of the compressed corpus (1.3 to 1.6 measured). A bucket goes as soon as it is read, so that what is written
    of the result hardly adds to it. A process that is killed leaves the hidden folder behind. One bucket needs no disk.
    """
    buckets = buckets or min(MOST_BUCKETS, -(-expected // BUCKET_PAIRS)) or 1
    hash_of = sentence_hash(seed, PURPOSE)
    if buckets == 1:
        return _sorted((hash_of(pair.source), pair.source, pair.id, pair.target) for pair in pairs)
    return _through_buckets(pairs, seed, Path(folder), buckets)


def _sorted(rows: Iterable[_Row]) -> Iterator[Pair]:
    for _, source, pair_id, target in sorted(rows):
        yield Pair(pair_id, source, target)


def _through_buckets(pairs: Iterable[Pair], seed: int, folder: Path, buckets: int) -> Iterator[Pair]:
    hash_of = sentence_hash(seed, PURPOSE)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".shuffle-", dir=folder) as place:
        files = [_Bucket(Path(place) / f"{number}.zst", BUFFER_CHARACTERS // buckets) for number in range(buckets)]
        for pair in pairs:
            value = hash_of(pair.source)
            files[value * buckets >> HASH_BITS].add(value, pair)  # ranges of hashes: bucket after bucket is in order
        for bucket in files:
            bucket.flush()
        for bucket in files:
            yield from _in_order(bucket)
            bucket.path.unlink(missing_ok=True)


def _in_order(bucket: _Bucket) -> Iterator[Pair]:
    if bucket.pairs <= 2 * BUCKET_PAIRS:
        yield from _sorted(bucket.read())
        return
    rows = bucket.read()
    runs: list[_Bucket] = []
    while rows_of_run := sorted(islice(rows, BUCKET_PAIRS)):
        run = _Bucket(bucket.path.with_name(f"{bucket.path.stem}.run-{len(runs)}.zst"), RUN_CHARACTERS)
        for value, source, pair_id, target in rows_of_run:
            run.add(value, Pair(pair_id, source, target))
        run.flush()
        runs.append(run)
    for _, source, pair_id, target in merge(*(run.read() for run in runs)):
        yield Pair(pair_id, source, target)
    for run in runs:
        run.path.unlink()


class _Bucket:
    """Pairs with nearby hashes: four lines each, appended to a file as frames of zstandard."""

    compressor = zstandard.ZstdCompressor(level=1)

    def __init__(self, path: Path, most_characters: int) -> None:
        self.path = path
        self.pairs = 0
        self._most = most_characters
        self._lines: list[str] = []
        self._characters = 0

    def add(self, value: int, pair: Pair) -> None:
        self.pairs += 1
        self._lines += (str(value), pair.source, str(pair.id), pair.target)
        self._characters += len(pair.source) + len(pair.target) + 40
        if self._characters > self._most:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._lines.append("")
            with self.path.open("ab") as file:
                file.write(self.compressor.compress("\n".join(self._lines).encode("utf-8")))
        self._lines = []
        self._characters = 0

    def read(self) -> Iterator[_Row]:
        if self.path.exists():
            lines = open_lines(self.path)
            for value, source, pair_id, target in zip(lines, lines, lines, lines, strict=True):
                yield int(value), source, int(pair_id), target
