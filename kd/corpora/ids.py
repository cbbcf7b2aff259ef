"""The 64-bit id that a pair keeps from the moment it is read, and the origin that it encodes.

An id is positive: 23 bits for language pair and corpus, then 40 bits for the pair's 0-based position in that corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from kd.base.errors import UserError

PLACE_BITS = 40
PREFIX_BITS = 23
SOURCE_ONLY = "source"  # use of a corpus without translations


class Pair(NamedTuple):
    """A sentence and its translation."""

    id: int
    source: str
    target: str


def origin_prefix(pair: str, corpus: str) -> int:
    """Return the 23-bit number of a corpus in a language pair: the first 24 bits of a SHA-256, minus the top bit."""
    digest = hashlib.sha256(f"{pair}\0{corpus}".encode()).digest()
    return int.from_bytes(digest[:3], "big") & ((1 << PREFIX_BITS) - 1)


@dataclass(frozen=True)
class Origin:
    """The corpus of a pair, as the recipe describes it."""

    pair: str  # language pair, as the recipe names it: en-de
    name: str  # of the corpus
    use: str = "train"  # train | dev | test | source
    licence: str = "unknown"  # as known when the corpus was read
    weight: float = 1.0  # how much it counts when corpora are mixed

    @property
    def prefix(self) -> int:
        """Return the first bits of its pairs' ids."""
        return origin_prefix(self.pair, self.name)

    def to_json(self) -> dict[str, Any]:
        """Return the origin as an entry of an index."""
        return {**asdict(self), "prefix": self.prefix}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Origin:
        """Make an origin from an entry of an index; licence and weight have defaults."""
        origin = cls(**{key: value for key, value in entry.items() if key != "prefix"})
        if not isinstance(origin.pair, str) or not isinstance(origin.name, str):
            raise TypeError("an origin has no name")
        return origin

    def number(self, rows: Iterable[tuple[str, str]]) -> Iterator[Pair]:
        """Yield each pair of texts with its id, counting from 0."""
        return (pair for pair, _ in self.number_rows(rows))

    def number_rows(self, rows: Iterable[tuple[str, ...]]) -> Iterator[tuple[Pair, Sequence[str]]]:
        """Yield each pair of texts with its id, and the additional values of its row."""
        first = self.prefix << PLACE_BITS
        for place, (source, target, *values) in enumerate(rows):
            yield Pair(first + place, source, target), values


def prefix_of(pair_id: int) -> int:
    """Return the prefix of the origin of an id."""
    return pair_id >> PLACE_BITS


def place_of(pair_id: int) -> int:
    """Return the 0-based position of a pair in its corpus."""
    return pair_id & ((1 << PLACE_BITS) - 1)


def check_origins(origins: Iterable[Origin]) -> dict[int, Origin]:
    """Return the origins by prefix. Raises UserError if two origins would produce the same ids."""
    by_prefix: dict[int, Origin] = {}
    for origin in origins:
        other = by_prefix.setdefault(origin.prefix, origin)
        if (other.pair, other.name) != (origin.pair, origin.name):
            raise UserError(
                f"The corpora {other.name} ({other.pair}) and {origin.name} ({origin.pair}) would get the same ids.",
                "Rename one of them in corpus.sources.",
            )
    return by_prefix
