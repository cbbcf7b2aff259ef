"""Finds the pairs of a corpus with the lowest scores: an exact share of all shards, in constant memory.

Scores are compared as 32-bit floats, the precision that models compute them in; among equal scores, the hash of a
pair's text decides, then its id. The pairs that are found therefore depend neither on the order nor on the number of
shards. Two passes over the scores find the score at the cut, 16 bits of it in each; then only the pairs with exactly
that score are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from kd.base.processes import Tick, Workers
from kd.corpora.hashing import sentence_hash
from kd.corpora.ids import Pair
from kd.corpora.index import Damaged
from kd.corpora.scores import ScoreShard
from kd.corpora.shard import Shard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BITS = 16  # of a score's order, counted in one pass
_AT_ONCE = 100_000  # scores in memory
_FLOAT, _UNSIGNED = Struct("<f"), Struct("<I")
_text_hash = sentence_hash(0, "kd.worst")


@dataclass(frozen=True)
class RankedShard:
    """A shard and the scores of its pairs."""

    corpus: Shard
    scores: ScoreShard
    metric: str

    def values(self) -> Iterator[float]:
        """Yield the score of each pair."""
        return (scores[0] for _, scores in self.scores.read(self.metric))

    def rows(self, *columns: str) -> Iterator[tuple[Pair, tuple[str, ...], float]]:
        """Yield each pair with its values in some columns and its score. Raise Damaged if their ids differ."""
        scores = self.scores.read(self.metric)
        for pair, values in self.corpus.rows(*columns):
            pair_id, found = next(scores, (None, [0.0]))
            if pair_id != pair.id:
                raise Damaged(f"{self.scores.path} has {pair_id} where {pair.id} of {self.corpus.path} belongs.")
            yield pair, values, found[0]


class Rank(NamedTuple):
    """The place of a pair among all pairs; the worst come first."""

    order: int  # of its score
    text: int  # hash of its text
    id: int


class Cut(NamedTuple):
    """The pairs to leave out: those of at most a rank."""

    pairs: int  # ranked
    dropped: int
    last: Rank | None  # of the best pair among them; None: no pair

    @property
    def score(self) -> float | None:
        """The highest score that is dropped, as a 32-bit float; None if no pair is."""
        if self.last is None:
            return None
        order = self.last.order
        (score,) = _FLOAT.unpack(_UNSIGNED.pack(order ^ (1 << 31 if order >> 31 else 0xFFFFFFFF)))
        return float(score)

    def drops(self, pair: Pair, score: float) -> bool:
        """Return whether a pair is among the worst."""
        if self.last is None:
            return False
        order = _order(score)
        return order < self.last.order or (order == self.last.order and rank(pair, score) <= self.last)


def rank(pair: Pair, score: float) -> Rank:
    """Return the rank of a pair."""
    return Rank(_order(score), _text_hash(f"{pair.source}\t{pair.target}"), pair.id)


def _order(score: float) -> int:
    """Return the number of `_orders` for one score."""
    (bits,) = _UNSIGNED.unpack(_FLOAT.pack(score))
    return int(bits ^ 0xFFFFFFFF if bits >> 31 else bits | 1 << 31)


def _orders(scores: Sequence[float]) -> NDArray[np.uint32]:
    """Return a number per score that has the same order as its 32-bit float (Herf, 2001, "Radix tricks")."""
    import numpy as np

    bits = np.asarray(scores, np.float32).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint32)


def dropped_of(pairs: int, share: float) -> int:
    """Return the number of pairs that a share is, rounded down; 0.29 of 100 are 29."""
    return int(Fraction(repr(share)) * pairs)


def find_cut(
    shards: Sequence[RankedShard], share: float, processes: int, tell: Callable[[str, int], None] = lambda *_: None
) -> Cut:
    """Return the cut below which a share of all pairs lies.

    Args:
        shards: All shards of the text.
        share: Share of the pairs, from 0 to less than 1.
        processes: Number of processes.
        tell: Called with the name of the current step and the number of pairs that it has read.
    """
    pairs = sum(shard.corpus.lines for shard in shards)
    count = dropped_of(pairs, share)
    if not count:
        return Cut(pairs, 0, None)
    with Workers(min(processes, len(shards)), _Pass) as workers:
        below = 0
        high, below = _pass(workers, shards, None, count, below, lambda done: tell("ranking, first pass", done))
        low, below = _pass(workers, shards, high, count, below, lambda done: tell("ranking, second pass", done))
        order = high << _BITS | low
        ties: list[Rank] = []
        for found in workers.map(_Pass.ties, [(shard, order) for shard in shards], lambda _: None):
            ties += found
    ties.sort()
    return Cut(pairs, count, ties[count - below - 1])


def _pass(
    workers: Workers[_Pass], shards: Sequence[RankedShard], high: int | None, count: int, below: int, tick: Tick
) -> tuple[int, int]:
    """Return the 16 bits at which `count` pairs are reached, and the number of pairs that are certainly below."""
    import numpy as np

    total = np.zeros(1 << _BITS, np.int64)
    for counts in workers.map(_Pass.count, [(shard, high) for shard in shards], tick):
        total += counts
    sums = below + np.cumsum(total)
    place = int(np.searchsorted(sums, count))
    return place, int(sums[place] - total[place])


class _Pass:
    """The work of a process on a shard."""

    def count(self, item: tuple[RankedShard, int | None], tick: Tick) -> NDArray[np.int64]:
        """Count the scores by their upper 16 bits; with those given, by the lower bits of the scores that have them."""
        import numpy as np

        shard, high = item
        total = np.zeros(1 << _BITS, np.int64)
        values = shard.values()
        while block := list(islice(values, _AT_ONCE)):
            orders = _orders(block)
            upper = orders >> _BITS
            wanted = upper if high is None else orders[upper == high] & ((1 << _BITS) - 1)
            total += np.bincount(wanted.astype(np.int64), minlength=1 << _BITS)
            tick(len(block))
        return total

    def ties(self, item: tuple[RankedShard, int], tick: Tick) -> list[Rank]:
        """Return the ranks of the pairs with the score at the cut; the text is read only if there are any."""
        shard, order = item
        values, has = shard.values(), False
        while not has and (block := list(islice(values, _AT_ONCE))):
            has = bool((_orders(block) == order).any())
        if not has:
            return []
        return [rank(pair, score) for pair, _, score in shard.rows() if _order(score) == order]
