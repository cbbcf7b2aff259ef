"""Minimum Bayes risk over an n-best list: score each hypothesis against the others, without the human target.

Kumar and Byrne (2004); for students' training text, Finkelstein and Freitag (2024, arXiv 2309.10966).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

ALONE = 100.0  # score of the only hypothesis of a list


class Utility(Protocol):
    """A metric that compares hypotheses with a reference, with scores up to 100, such as a `SentenceMetric`."""

    @property
    def name(self) -> str:
        """The metric's name in a recipe."""
        ...

    @property
    def signature(self) -> str:
        """The settings that make the scores reproducible, in sacreBLEU's notation."""
        ...

    @property
    def bin_width(self) -> float:
        """The width of a histogram's bins, in units of its scores."""
        ...

    def scores(self, lists: Sequence[Any]) -> list[list[float]]:
        """Return the scores of each list's hypotheses against the list's reference."""
        ...


class Consensus:
    """The expected score of a hypothesis, if all other hypotheses of its list are equally likely to be right."""

    def __init__(self, metric: Utility) -> None:
        """Set the metric to use as the utility."""
        self._metric = metric
        self.name = f"mbr_{metric.name}"
        self.signature = f"mbr|{metric.signature}"
        self.bin_width = metric.bin_width

    def scores(self, lists: Sequence[Any]) -> list[list[float]]:
        """Return the mean score of each hypothesis against every other hypothesis of its list.

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
    """Return the mean of each row over all columns except its own; a column has the scores against one reference."""
    others = len(columns) - 1
    return [
        sum(column[row] for number, column in enumerate(columns) if number != row) / others
        for row in range(len(columns))
    ]
