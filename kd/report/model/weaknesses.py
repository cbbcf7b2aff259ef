"""Records of what averages hide, by language pair: counts of each system, and where each falls furthest behind.

The counts themselves are those of `kd/metrics/segments.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kd.metrics.segments import Behind, Weaknesses


@dataclass(frozen=True)
class WeaknessesOfPair:
    """What goes wrong on the test set of a language pair."""

    systems: dict[str, Weaknesses] = field(default_factory=dict)  # by name, as in the table of results
    baseline: str = ""  # what the segments below are furthest behind of
    worst: list[Behind] = field(default_factory=list)
    name: str = ""  # language pair, where there are several


@dataclass(frozen=True)
class Example:
    """A test segment in every system's words."""

    source: str
    reference: str
    outputs: dict[str, str]  # by system
    pair: str = ""
