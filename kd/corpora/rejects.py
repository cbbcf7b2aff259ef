"""Sample the pairs that each filter rejected, for inspection: `rejected.tsv.zst`, one pair per line.

Columns: id, filter, source, target, escaped as in `kd.corpora.cells`. A side of more than 4,000 characters is cut, with
a note of how much is missing.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kd.corpora.cells import join_cells, split_cells
from kd.corpora.ids import Pair
from kd.corpora.lines import PathLike, open_lines
from kd.corpora.writing import LineWriter

FILE = "rejected.tsv.zst"
LONGEST = 4000  # characters of a side
_PURPOSE = b"kd.rejects"


class Reject(NamedTuple):
    """A pair that was left out. The pairs with the lowest `chance` form the sample."""

    chance: int
    id: int
    filter: str
    source: str
    target: str


class Sample:
    """A bounded number of pairs per filter, each drawn with the same probability by a hash of its id.

    The sample therefore depends neither on the order of the pairs nor on how processes share them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heaps: dict[str, list[tuple[int, Reject]]] = {}

    def add(self, label: str, pair: Pair) -> None:
        """Consider a rejected pair."""
        if self._most:
            digest = hashlib.blake2b(pair.id.to_bytes(8, "big"), digest_size=8, person=_PURPOSE).digest()
            chance = int.from_bytes(digest, "big")
            heap = self._heaps.get(label, [])
            if len(heap) < self._most or -heap[0][0] > chance:
                self.merge((Reject(chance, pair.id, label, _cut(pair.source), _cut(pair.target)),))

    def merge(self, rejects: Iterable[Reject]) -> None:
        """Consider the pairs of another sample."""
        for reject in rejects:
            heap = self._heaps.setdefault(reject.filter, [])
            heapq.heappush(heap, (-reject.chance, reject))
            if len(heap) > self._most:
                heapq.heappop(heap)

    def rejects(self) -> list[Reject]:
        """Return the sample, ordered by filter and id."""
        found = (reject for heap in self._heaps.values() for _, reject in heap)
        return sorted(found, key=lambda reject: (reject.filter, reject.id))

    def write(self, path: PathLike) -> None:
        """Write the sample; the file is empty if nothing was rejected."""
        with LineWriter(path) as writer:
            for reject in self.rejects():
                writer.write(join_cells((str(reject.id), reject.filter, reject.source, reject.target)))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text) - LONGEST} characters more)"


def read_rejects(path: PathLike) -> Iterator[tuple[str, Pair]]:
    """Yield label and pair of each line of a file that `Sample.write` wrote."""
    for line in open_lines(path):
        number, label, source, target = split_cells(line)
        yield label, Pair(int(number), source, target)
