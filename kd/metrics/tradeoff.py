"""The trade-off of quality and speed: the Pareto front, and the rule that chooses a search's winner.

The same candidates always give the same choice, since ties are broken in a fixed order. Doubts name differences that
may be due to chance.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_ROUNDING = 1e-9  # smaller differences come from floating-point arithmetic


@dataclass(frozen=True)
class Candidate:
    """An architecture or system with its quality and speed."""

    name: str
    quality: tuple[float, ...]  # one score a seed; more is better
    rate: float  # how fast; more is better
    parameters: int = 0

    @property
    def mean(self) -> float:
        """Mean quality over seeds."""
        return statistics.fmean(self.quality)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the quality over seeds (of a sample, n - 1); None with one seed."""
        return statistics.stdev(self.quality) if len(self.quality) > 1 else None


@dataclass(frozen=True)
class Choice:
    """The outcome of the rule."""

    chosen: Candidate
    best: Candidate  # by quality
    limit: float  # quality that it allows at least
    doubts: tuple[str, ...]  # sentences: where the spread over seeds is larger than the difference that decided


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the Pareto front of quality and speed, fastest first.

    Of several equally good and fast candidates, only the one with the fewest parameters is included, then the first by
    name.
    """
    found: list[Candidate] = []
    for each in sorted(candidates, key=_by_rate):
        if not found or each.mean > found[-1].mean:
            found.append(each)
    return found


def choose(candidates: Sequence[Candidate], loss_allowed: float, unit: str = "points") -> Choice:
    """Choose the fastest candidate whose mean is at most `loss_allowed` below the best mean.

    Ties go to the higher mean, then to fewer parameters, then to the first by name.

    Args:
        candidates: At least one.
        loss_allowed: Largest loss, in units of the quality.
        unit: Name of the unit, for sentences.

    Raises:
        ValueError: There are no candidates.
    """
    best = min(candidates, key=lambda each: (-each.mean, -each.rate, each.parameters, each.name))
    limit = best.mean - loss_allowed
    chosen = min((each for each in candidates if each.mean >= limit - _ROUNDING), key=_by_rate)
    return Choice(chosen, best, limit, tuple(_doubts(candidates, chosen, best, limit, unit)))


def precise(value: float, metric: str) -> str:
    """Format a score or difference with one decimal more than in tables: two, or four for COMET."""
    return f"{value:.4f}" if metric.startswith("COMET") else f"{value:.2f}"


def _by_rate(each: Candidate) -> tuple[float, float, int, str]:
    return -each.rate, -each.mean, each.parameters, each.name


def _doubts(
    candidates: Sequence[Candidate], chosen: Candidate, best: Candidate, limit: float, unit: str
) -> Iterator[str]:
    """Yield sentences on where other seeds might have led to another choice."""
    if any(each.spread is None for each in candidates):
        yield "Some cells were trained from one seed: it is unknown how much of the differences is due to chance."
    for other in sorted(candidates, key=lambda each: (-each.mean, each.name)):
        spread = max(chosen.spread or 0.0, other.spread or 0.0)
        told = f"the spread over seeds is {precise(spread, unit)}"
        apart = abs(other.mean - chosen.mean)
        if other is best and other is not chosen and spread > apart:
            lost = f"{precise(apart, unit)} {unit} below {other.name}, the best"
            yield f"{chosen.name} is {lost}, and {told}: it may be as good."
        elif other is not chosen and other.rate == chosen.rate and spread > apart:
            gap = f"{precise(apart, unit)} {unit} apart"
            yield f"{other.name} is as fast and {gap}, and {told}: either may be better."
        elif other.mean < limit and other.rate > chosen.rate and (other.spread or 0.0) > limit - other.mean:
            missed = limit - other.mean
            yield (
                f"{other.name} is faster but misses the limit by {precise(missed, unit)} {unit}, and its spread over "
                f"seeds is {precise(other.spread or 0, unit)}: with other seeds it might have been chosen."
            )
