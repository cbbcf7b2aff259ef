"""Filters that say which pairs are no training material, each a small class with a name under which it counts.

They are asked in a stated order; the first that rejects a pair is the one that is counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from kd.config import CleanConfig
from kd.corpora.ids import Pair


class Filter(Protocol):
    """One reason to leave a pair out."""

    name: str

    def reject(self, pair: Pair) -> bool:
        """Whether the pair goes."""


class Empty:
    """A side without anything but whitespace."""

    name = "empty"

    def reject(self, pair: Pair) -> bool:
        """Whether a side is empty."""
        return not (pair.source.strip() and pair.target.strip())


class Short:
    """A source of too few words: labels and single words, where a recipe wants sentences alone."""

    name = "short"

    def __init__(self, least: int) -> None:
        self.least = least  # separated by whitespace

    def reject(self, pair: Pair) -> bool:
        """Whether the source is too short."""
        return len(pair.source.split()) < self.least


class Words:
    """A side of too many words. Moses' clean-corpus-n.perl is used with 80 to 100, fairseq's recipes have 250."""

    name = "words"

    def __init__(self, most: int) -> None:
        self.most = most  # separated by whitespace

    def reject(self, pair: Pair) -> bool:
        """Whether a side is too long."""
        return len(pair.source.split()) > self.most or len(pair.target.split()) > self.most


class Characters:
    """A side of too many characters: what `Words` misses in scripts without spaces, and long tokens without any."""

    name = "characters"

    def __init__(self, most: int) -> None:
        self.most = most

    def reject(self, pair: Pair) -> bool:
        """Whether a side is too long."""
        return len(pair.source) > self.most or len(pair.target) > self.most


class Ratio:
    """One side much longer than the other, in characters, with some slack since short strings vary more.

    In tokens, without slack, clean-corpus-n.perl allows 9 unless told otherwise, and fairseq's WMT recipe 1.5.
    """

    name = "ratio"

    def __init__(self, most: float, slack: int) -> None:
        self.most = most
        self.slack = slack  # characters added to both sides

    def reject(self, pair: Pair) -> bool:
        """Whether the lengths are too far apart."""
        shorter, longer = sorted((len(pair.source), len(pair.target)))
        return longer + self.slack > self.most * (shorter + self.slack)


class Copy:
    """Both sides the same: a student that sees many learns to copy (Khayrallah and Koehn, 2018)."""

    name = "copy"

    def reject(self, pair: Pair) -> bool:
        """Whether the sides are equal."""
        return pair.source.strip() == pair.target.strip()


class Duplicate:
    """A pair that came before, both sides exactly equal.

    Remembers 64 bits of each pair, some 100 bytes in a Python set: a gigabyte per 10 million distinct pairs. Among 500
    million the odds that any pair at all goes by mistake are below one in a hundred.
    """

    name = "duplicate"

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def reject(self, pair: Pair) -> bool:
        """Whether the pair was there before; it is now."""
        text = f"{pair.source}\n{pair.target}".encode()
        key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        if key in self._seen:
            return True
        self._seen.add(key)
        return False


def filters(config: CleanConfig) -> dict[str, Filter]:
    """The filters of a recipe by name, in the order in which they are asked; the one with a memory comes last."""
    chosen: list[Filter] = [
        Empty(),
        Short(config.min_words),
        Words(config.max_words),
        Characters(config.max_characters),
    ]
    chosen.append(Ratio(config.max_ratio, config.ratio_slack))
    if config.drop_copies:
        chosen.append(Copy())
    if config.drop_duplicates:
        chosen.append(Duplicate())
    return {each.name: each for each in chosen}


def clean(pairs: Iterable[Pair], config: CleanConfig, counts: Counter[str] | None = None) -> Iterator[Pair]:
    """Yield the pairs that no filter rejects; `counts`, if given, takes how many went, by filter."""
    counts = Counter() if counts is None else counts
    chosen = filters(config)
    for name in chosen:
        counts[name] += 0  # a filter that rejected nothing says so
    asked = tuple((name, each.reject) for name, each in chosen.items())
    for pair in pairs:
        for name, reject in asked:
            if reject(pair):
                counts[name] += 1
                break
        else:
            yield pair
