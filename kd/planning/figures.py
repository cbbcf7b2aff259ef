"""A number with where it comes from: nothing in a forecast is shown without it.

What nobody measured, counted or assumed is None, and stays None through every sum that it enters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

UNKNOWN = "unknown"
ASSUMED = "assumed by you"


@dataclass(frozen=True)
class Figure:
    """A value, None where it is unknown, and its source in words (where unknown: what would tell it)."""

    value: float | None
    source: str = UNKNOWN
    least: float = 0.0  # of a sum that is unknown: what its known parts come to

    def times(self, other: Figure | float | None) -> Figure:
        """The product, from both sources."""
        if not isinstance(other, Figure):
            other = Figure(other, "")
        sources = joined([self.source, other.source])
        if other.value is None:
            return Figure(None, sources)
        if self.value is None:
            return Figure(None, sources, self.least * other.value)
        return Figure(self.value * other.value, sources)

    def __bool__(self) -> bool:
        """Whether it is known."""
        return self.value is not None


NOTHING = Figure(None, UNKNOWN)


def total(figures: Iterable[Figure]) -> Figure:
    """The sum; unknown as soon as a part is."""
    parts = list(figures)
    known = [part.least if part.value is None else part.value for part in parts]
    sources = joined(part.source for part in parts)
    if any(part.value is None for part in parts):
        return Figure(None, sources, sum(known))
    return Figure(sum(known), sources)


def joined(sources: Iterable[str]) -> str:
    """Several sources as one, each once, in order."""
    return "; ".join(dict.fromkeys(part for source in sources for part in source.split("; ") if part))
