"""Minimum Bayes risk over an n-best list: each hypothesis is scored against the others, and no human target is needed.

Kumar and Byrne (2004); as a way to choose what a student learns, Finkelstein and Freitag (2024, arXiv 2309.10966).
"""

from __future__ import annotations

from collections.abc import Sequence

from kd.metrics.sentence import Candidates, SentenceMetric

ALONE = 100.0  # of the only hypothesis of a list: it agrees with all there is


class Consensus:
    """The expected score of a hypothesis if one of the others of its list, each as likely, is the right one."""

    def __init__(self, metric: SentenceMetric) -> None:
        """Use a metric as the utility: one that compares a hypothesis with a reference, on a scale up to 100."""
        self._metric = metric
        self.name = f"mbr_{metric.name}"
        self.signature = f"mbr|{metric.signature}"
        self.bin_width = metric.bin_width

    def scores(self, lists: Sequence[Candidates]) -> list[list[float]]:
        """Score each hypothesis by its mean score against every other one of its list."""
        # A list for each hypothesis as the reference, all of them scored in one call.
        against = [
            item._replace(reference=reference)
            for item in lists
            for reference in item.hypotheses
            if len(item.hypotheses) > 1
        ]
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
