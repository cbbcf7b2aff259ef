"""Suspects of noise: the pairs of a corpus whose translations by the teachers hint at a mistake of the pair.

`gold`: the teachers agree on a translation far from the human one. `members`: the teachers disagree with each other, as
on broken or unusual sources. `suspects.tsv.zst` has the worst pairs of each, one per line, in the columns id, reason,
suspicion, distance, disagreement, source, target, hypothesis, escaped as in `kd.corpora.cells`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kd.corpora.cells import join_cells, split_cells
from kd.corpora.ids import Pair
from kd.corpora.lines import PathLike, open_lines
from kd.corpora.writing import LineWriter

FILE = "suspects.tsv.zst"
PART = ".suspects.zst"  # of a shard
GOLD, MEMBERS = "gold", "members"


class Suspect(NamedTuple):
    """A pair, with the reason to doubt it."""

    reason: str
    suspicion: float  # gold: distance minus disagreement; members: disagreement
    id: int
    distance: float | None  # of the preferred hypothesis from the human target, from 0 to 1; None: not known
    disagreement: float | None  # from 0 to 1; None: of a single hypothesis
    source: str
    target: str
    hypothesis: str


class Suspects:
    """The `most` worst pairs for each reason; among equal ones, those with the lower ids."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heaps: dict[str, list[tuple[float, int, Suspect]]] = {GOLD: [], MEMBERS: []}

    def consider(self, pair: Pair, hypothesis: str, distance: float | None, disagreement: float | None) -> None:
        """Consider a pair for each reason that its figures allow."""
        if distance is not None:
            self._offer(GOLD, distance - (disagreement or 0.0), pair, hypothesis, distance, disagreement)
        if disagreement is not None:
            self._offer(MEMBERS, disagreement, pair, hypothesis, distance, disagreement)

    def _offer(
        self, reason: str, suspicion: float, pair: Pair, hypothesis: str, distance: float | None, apart: float | None
    ) -> None:
        self.add(Suspect(reason, suspicion, pair.id, distance, apart, pair.source, pair.target, hypothesis))

    def add(self, suspect: Suspect) -> None:
        """Consider a pair for one reason."""
        heap, entry = self._heaps[suspect.reason], (suspect.suspicion, -suspect.id, suspect)
        if len(heap) < self._most:
            heapq.heappush(heap, entry)
        elif heap and entry[:2] > heap[0][:2]:
            heapq.heapreplace(heap, entry)

    def __iter__(self) -> Iterator[Suspect]:
        for heap in self._heaps.values():
            yield from (suspect for *_, suspect in sorted(heap, key=lambda entry: entry[:2], reverse=True))

    def write(self, path: PathLike) -> str:
        """Write the pairs, the worst of each reason first; return the SHA-256 of the file."""
        with LineWriter(path) as file:
            for each in self:
                figures = (_shown(each.suspicion), _shown(each.distance), _shown(each.disagreement))
                texts = (each.source, each.target, each.hypothesis)
                file.write(join_cells((str(each.id), each.reason, *figures, *texts)))
        return file.sha256


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def read_suspects(path: PathLike) -> Iterator[Suspect]:
    """Yield the pairs of a file that `Suspects.write` wrote."""
    for line in open_lines(path):
        number, reason, suspicion, distance, disagreement, *texts = split_cells(line)
        first, second = (float(value) if value else None for value in (distance, disagreement))
        yield Suspect(reason, float(suspicion), int(number), first, second, *texts)


def merge_suspects(parts: Iterable[Path], path: PathLike, most: int) -> None:
    """Write the worst pairs of several files into one."""
    suspects = Suspects(most)
    for part in parts:
        for suspect in read_suspects(part):
            suspects.add(suspect)
    suspects.write(path)
