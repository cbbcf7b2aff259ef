"""Minimum Bayes risk over an n-best list: each hypothesis is scored against the others, and no human target is needed.

Kumar and Byrne (2004); as a way to choose what a student learns, Finkelstein and Freitag (2024, arXiv 2309.10966).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

ALONE = 100.0  # of the only hypothesis of a list: it agrees with all there is


class Utility(Protocol):
    """A metric that compares hypotheses with a reference, up to 100: `kd.metrics.sentence.SentenceMetric`."""

    @property
    def name(self) -> str:
        """The name that a recipe gives it."""
        ...

    @property
    def signature(self) -> str:
        """What makes the scores reproducible."""
        ...

    @property
    def bin_width(self) -> float:
        """Of histograms of its scores."""
        ...

    def scores(self, lists: Sequence[Any]) -> list[list[float]]:
        """Score every hypothesis of every list against the list's reference."""
        ...


class Consensus:
    """The expected score of a hypothesis if one of the others of its list, each as likely, is the right one."""

    def __init__(self, metric: Utility) -> None:
        """Use a metric as the utility."""
        self._metric = metric
        self.name = f"mbr_{metric.name}"
        self.signature = f"mbr|{metric.signature}"
        self.bin_width = metric.bin_width

    def scores(self, lists: Sequence[Any]) -> list[list[float]]:
        """Score each hypothesis by its mean score against every other one of its list.

        Args:
            lists: `kd.metrics.sentence.Candidates`, whose references are not read.
        """
        # A list for each hypothesis as the reference, all of them scored in one call.
        several = [item for item in lists if len(item.hypotheses) > 1]
        against = [item._replace(reference=reference) for item in several for reference in item.hypotheses]
        columns = iter(self._metric.scores(against))
        return [
            _means([next(columns) for _ in item.hypotheses]) if len(item.hypotheses) > 1 else [ALONE] for item in lists
        ]


def _means(columns: Sequence[Sequence[float]]) -> list[float]:
    """The mean score of each row over all columns but its own; a column holds the scores against one reference."""
    others = len(columns) - 1
    return [
        sum(column[row] for number, column in enumerate(columns) if number != row) / others
        for row in range(len(columns))
    ]
