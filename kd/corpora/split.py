"""Held-out sets drawn by a seeded hash of a sentence: it meets the same fate in every language pair.

One pass over each pair's corpus, with a bounded heap: memory holds the held-out pairs alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from kd.base.errors import UserError
from kd.corpora.hashing import sentence_hash
from kd.corpora.ids import Pair
from kd.corpora.leakage import Guard
from kd.models.languages import primary

PURPOSE = "kd.split"
SIDES = ("source", "target")


@dataclass(frozen=True)
class Drawn:
    """What one language pair holds out, in a seeded order: the beginning of a set is a random sample of it."""

    dev: list[Pair] = field(default_factory=list)
    test: list[Pair] = field(default_factory=list)


def held_side(by: str, languages: tuple[str, str], name: str) -> str:
    """The side, `source` or `target`, that `split.by` means in a language pair.

    by: a side, or the code of a language, which means whichever side is in it (`en` also one in `en-GB`). Raises
    UserError, naming the pair, if neither is, or both are.
    """
    if by in SIDES:
        return by
    exact = [side for side, code in zip(SIDES, languages, strict=True) if code.lower() == by.lower()]
    near = [side for side, code in zip(SIDES, languages, strict=True) if primary(code) == by.lower()]
    found = exact or near
    if len(found) != 1:
        which = "Both sides" if found else "No side"
        raise UserError(
            f"{which} of {name} ({languages[0]} to {languages[1]}) {'are' if found else 'is'} in {by}, "
            "the language of split.by.",
            "Set split.by to source, target, or a language that one side of every pair is in.",
        )
    return found[0]


def choose(
    pairs: Iterable[Pair],
    *,
    dev: int,
    test: int,
    min_words: int,
    seed: int,
    side: str = "source",
    given: Collection[str] = (),
    guard: Guard | None = None,
    name: str = "The corpus",
) -> Drawn:
    """Draw pairs with so many distinct sentences of at least `min_words` words (separated by whitespace), in one pass.

    Each set takes the smallest hashes: dev of the odd ones, test of the even ones, so that what one language pair tests
    on no other validates on. Of a sentence that returns the first pair is taken. side: `source` or `target`, whose
    sentences count. `given` are sentences of sets that come as files, which are not drawn again; nor are pairs that
    `guard` finds in them, in capitals for instance. Raises UserError, beginning with `name`, if there are too few.
    """
    given = frozenset(given)
    wanted = (_Smallest(test), _Smallest(dev))
    hash_of = sentence_hash(seed, PURPOSE)
    text_of = attrgetter(side)
    for pair in pairs:
        text = text_of(pair)
        value = hash_of(text)
        smallest = wanted[value & 1]
        if (
            smallest.wants(value)
            and text not in given
            and len(text.split()) >= min_words
            and not (guard and guard.match(pair.source, pair.target))
        ):
            smallest.add(value, pair)
    for use, smallest in zip(("test", "dev"), wanted, strict=True):
        if len(smallest.pairs) < smallest.size:
            raise UserError(
                f"{name} has only {len(smallest.pairs)} distinct {side}s of {min_words} words or more in the half "
                f"that the {smallest.size} of split.{use} are drawn from.",
                f"Lower split.{use} or split.min_words.",
            )
    test_set, dev_set = (smallest.in_order() for smallest in wanted)
    return Drawn(dev=dev_set, test=test_set)


class _Smallest:
    """The pairs whose sentences have the smallest hashes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pairs: dict[int, Pair] = {}
        self._heap: list[int] = []  # negated: the largest hash comes first

    def wants(self, value: int) -> bool:
        """Whether a pair with this hash would be taken; one that was let go of never returns."""
        return (len(self._heap) < self.size or (self.size > 0 and value < -self._heap[0])) and value not in self.pairs

    def add(self, value: int, pair: Pair) -> None:
        """Take a pair, and let go of the one with the largest hash if they are too many."""
        self.pairs[value] = pair
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, -value)
        else:
            del self.pairs[-heapq.heapreplace(self._heap, -value)]

    def in_order(self) -> list[Pair]:
        """The pairs by hash."""
        return [pair for _, pair in sorted(self.pairs.items())]
