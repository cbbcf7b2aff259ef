"""An estimated number together with its source: `Estimate`, and sums of estimates.

An unknown estimate stays unknown through every sum and product that it enters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

UNKNOWN = "unknown"
ASSUMED = "assumed by you"


@dataclass(frozen=True)
class Estimate:
    """A value, None if unknown, and its source in words (if unknown: how to find it out)."""

    value: float | None
    source: str = UNKNOWN
    at_least: float = 0.0  # of an unknown sum: the sum of its known parts

    def times(self, other: Estimate | float | None) -> Estimate:
        """Return the product, with the sources of both factors."""
        if not isinstance(other, Estimate):
            other = Estimate(other, "")
        sources = joined([self.source, other.source])
        if other.value is None:
            return Estimate(None, sources)
        if self.value is None:
            return Estimate(None, sources, self.at_least * other.value)
        return Estimate(self.value * other.value, sources)

    def __bool__(self) -> bool:
        """Return whether the value is known."""
        return self.value is not None


NOT_KNOWN = Estimate(None, UNKNOWN)
NOTHING = Estimate(0.0, "")
ALL = Estimate(1.0, "")


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Return the sum; it is unknown if any part is unknown."""
    parts = list(estimates)
    known = [part.at_least if part.value is None else part.value for part in parts]
    sources = joined(part.source for part in parts)
    if any(part.value is None for part in parts):
        return Estimate(None, sources, sum(known))
    return Estimate(sum(known), sources)


def joined(sources: Iterable[str]) -> str:
    """Join several sources into one string, each once, in order."""
    return "; ".join(dict.fromkeys(part for source in sources for part in source.split("; ") if part))
