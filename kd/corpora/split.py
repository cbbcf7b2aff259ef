"""Draw held-out sets by a seeded hash of a sentence, so that a sentence is held out in every language pair or in none.

The parts of a corpus are processed independently, each in one pass; memory holds only the candidates.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
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
    """The held-out pairs of a language pair, in a seeded order, so the beginning of a set is a random sample of it."""

    dev: list[Pair] = field(default_factory=list)
    test: list[Pair] = field(default_factory=list)


def held_side(by: str, languages: tuple[str, str], name: str) -> str:
    """Return the side, `source` or `target`, that `split.by` selects in a language pair.

    Args:
        by: A side, or a language code, which selects the side in that language (`en` also matches `en-GB`).
        languages: The codes of source and target.
        name: The language pair, for the message.

    Raises:
        UserError: Neither side is in the language, or both are.
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
            "Set split.by to source, to target, or to the language of one side of every pair.",
        )
    return found[0]


@dataclass(frozen=True)
class Draw:
    """The settings of a draw from a corpus.

    Attributes:
        dev: Number of distinct sentences in the dev set.
        test: Number of distinct sentences in the test set.
        min_words: Least number of words, separated by whitespace, in a sentence.
        seed: Seed of the hash.
        side: The side whose sentences count: `source` or `target`.
        given: Sentences of sets given as files, which are not drawn again.
    """

    dev: int
    test: int
    min_words: int
    seed: int
    side: str = "source"
    given: frozenset[str] = frozenset()


Candidates = tuple[dict[int, Pair], dict[int, Pair]]  # by hash, of test and of dev


def candidates(pairs: Iterable[Pair], draw: Draw, guard: Guard | None = None) -> Candidates:
    """Return the pairs of one part of a corpus that may be drawn, in one pass; `merged` combines several parts.

    Each set takes the smallest hashes, dev among the odd and test among the even ones, so that no language pair
    validates on a test sentence of another. Of a repeated sentence, the first pair is taken. Pairs that `guard` finds
    in a given set, for instance in capitals, are not drawn.
    """
    wanted = (_Smallest(draw.test), _Smallest(draw.dev))
    hash_of = sentence_hash(draw.seed, PURPOSE)
    text_of = attrgetter(draw.side)
    for pair in pairs:
        text = text_of(pair)
        value = hash_of(text)
        smallest = wanted[value & 1]
        if (
            smallest.wants(value)
            and text not in draw.given
            and len(text.split()) >= draw.min_words
            and not (guard and guard.match(pair.source, pair.target))
        ):
            smallest.add(value, pair)
    return wanted[0].pairs, wanted[1].pairs


def merged(parts: Iterable[Candidates], draw: Draw, name: str = "The corpus") -> Drawn:
    """Draw from the candidates of all parts of a corpus, given in corpus order.

    Raises UserError, with `name` as its subject, if there are too few.
    """
    wanted = (_Smallest(draw.test), _Smallest(draw.dev))
    for part in parts:
        for smallest, found in zip(wanted, part, strict=True):
            for value, pair in found.items():
                if smallest.wants(value):
                    smallest.add(value, pair)
    for use, smallest in zip(("test", "dev"), wanted, strict=True):
        if len(smallest.pairs) < smallest.size:
            long = f" of {draw.min_words} words or more" if draw.min_words > 1 else ""
            raise UserError(
                f"{name} has only {len(smallest.pairs)} distinct {draw.side}s{long} from which "
                f"split.{use}={smallest.size} can be drawn: one half of the corpus is for dev, the other for test.",
                _smaller(len(smallest.pairs), draw),
            )
    test_set, dev_set = (smallest.in_order() for smallest in wanted)
    return Drawn(dev=dev_set, test=test_set)


def _smaller(found: int, draw: Draw) -> str:
    """Propose sizes of the drawn sets: a tenth of the corpus, which has about twice the `found` sentences."""
    if not found:
        return "Lower split.min_words, or add text." if draw.min_words > 1 else "Add text."
    tenth = max(1, found // 5)
    rounded = tenth - tenth % 10 ** (len(str(tenth)) - 1)
    sizes = {"dev": draw.dev, "test": draw.test}
    settings = " ".join(f"split.{use}={min(size, rounded)}" for use, size in sizes.items() if size)
    return f"Add {settings}."


class _Smallest:
    """The pairs whose sentences have the smallest hashes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pairs: dict[int, Pair] = {}
        self._heap: list[int] = []  # negated: the largest hash comes first

    def wants(self, value: int) -> bool:
        """Return whether a pair with this hash would be taken; a removed pair never returns."""
        return (len(self._heap) < self.size or (self.size > 0 and value < -self._heap[0])) and value not in self.pairs

    def add(self, value: int, pair: Pair) -> None:
        """Take a pair, and remove the one with the largest hash if there are too many."""
        self.pairs[value] = pair
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, -value)
        else:
            del self.pairs[-heapq.heapreplace(self._heap, -value)]

    def in_order(self) -> list[Pair]:
        """Return the pairs in the order of their hashes."""
        return [pair for _, pair in sorted(self.pairs.items())]
