"""Held-out sets drawn by a seeded hash of the source sentence: a sentence meets the same fate in every language pair.

One pass over each pair's corpus chooses sources with a bounded heap, a second one takes the pairs apart; memory holds
the held-out sentences alone.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from kd.corpora.hashing import sentence_hash
from kd.corpora.ids import Pair
from kd.errors import UserError

PURPOSE = "kd.split"


@dataclass(frozen=True)
class HeldOut:
    """The source sentences that one language pair holds out."""

    dev: frozenset[str] = frozenset()
    test: frozenset[str] = frozenset()

    @property
    def all(self) -> frozenset[str]:
        """Both sets."""
        return self.dev | self.test


def choose(
    pairs: Iterable[Pair],
    *,
    dev: int,
    test: int,
    min_words: int,
    seed: int,
    given: Collection[str] = (),
    name: str = "The corpus",
) -> HeldOut:
    """Choose so many distinct sources of at least `min_words` words (separated by whitespace), in one pass.

    Each set takes the smallest hashes: dev of the odd ones, test of the even ones, so that what one language pair tests
    on no other validates on. `given` are the sources of sets that come as files, which are not chosen again. Raises
    UserError, beginning with `name`, if there are too few.
    """
    given = frozenset(given)
    wanted = (_Smallest(test), _Smallest(dev))
    hash_of = sentence_hash(seed, PURPOSE)
    for pair in pairs:
        value = hash_of(pair.source)
        smallest = wanted[value & 1]
        if smallest.wants(value) and pair.source not in given and len(pair.source.split()) >= min_words:
            smallest.add(value, pair.source)
    for use, smallest in zip(("test", "dev"), wanted, strict=True):
        if len(smallest.texts) < smallest.size:
            raise UserError(
                f"{name} has only {len(smallest.texts)} distinct sources of {min_words} words or more in the half "
                f"that the {smallest.size} of split.{use} are drawn from.",
                f"Lower split.{use} or split.min_words.",
            )
    test_set, dev_set = (frozenset(smallest.texts.values()) for smallest in wanted)
    return HeldOut(dev=dev_set, test=test_set)


class _Smallest:
    """The texts with the smallest hashes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.texts: dict[int, str] = {}
        self._heap: list[int] = []  # negated: the largest hash comes first

    def wants(self, value: int) -> bool:
        """Whether a text with this hash would be taken."""
        return (len(self._heap) < self.size or (self.size > 0 and value < -self._heap[0])) and value not in self.texts

    def add(self, value: int, text: str) -> None:
        """Take a text, and let go of the one with the largest hash if they are too many."""
        self.texts[value] = text
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, -value)
        else:
            del self.texts[-heapq.heapreplace(self._heap, -value)]


@dataclass
class Split:
    """The second pass over one language pair's corpus.

    own: what this pair holds out. elsewhere: sources that other pairs, or sets that come as files, hold out. `counts`
    says what became of each pair of sentences: train, dev, test, `repeats a held-out source`, `held out elsewhere`.
    """

    own: HeldOut
    elsewhere: Collection[str] = frozenset()
    seed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _kept: dict[str, Pair] = field(default_factory=dict)

    def train(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Yield what is trained on; of each held-out source the first pair is kept in its set, the others go."""
        counts, held_out = self.counts, self.own.all
        elsewhere = frozenset(self.elsewhere)
        for pair in pairs:
            if pair.source in held_out:
                if pair.source in self._kept:
                    counts["repeats a held-out source"] += 1
                else:
                    self._kept[pair.source] = pair
                    counts["dev" if pair.source in self.own.dev else "test"] += 1
            elif pair.source in elsewhere:
                counts["held out elsewhere"] += 1
            else:
                counts["train"] += 1
                yield pair

    @property
    def dev(self) -> list[Pair]:
        """The validation set after `train` has run to its end, in a seeded order: its beginning is a random sample."""
        return self._ordered(self.own.dev)

    @property
    def test(self) -> list[Pair]:
        """The test set, likewise."""
        return self._ordered(self.own.test)

    def _ordered(self, sources: Collection[str]) -> list[Pair]:
        hash_of = sentence_hash(self.seed, PURPOSE)
        kept = [pair for pair in self._kept.values() if pair.source in sources]
        return sorted(kept, key=lambda pair: (hash_of(pair.source), pair.id))
