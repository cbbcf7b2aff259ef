"""Filters by external scores: thresholds on a column of the collected corpus, such as Bicleaner, LASER or COMET-QE.

By default, pairs from corpora without the column pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from kd.base.errors import UserError
from kd.corpora.filters.contract import FilterConfig, ScoreFilter


class Unscored(Enum):
    """The treatment of a pair without a score: its corpus lacks the column, or its value is empty or not a number."""

    keep = "keep"
    drop = "drop"
    fail = "fail"  # the stage fails


@dataclass
class ScoreConfig(FilterConfig):
    """Settings of `Score`."""

    order: float = 110
    column: str = ""  # its name in the collected corpus
    least: float | None = None  # value that a pair needs
    most: float | None = None  # value that a pair may have, for scores where less is better
    unscored: Unscored = Unscored.keep


class Score(ScoreFilter[ScoreConfig]):
    """Reject pairs with a value below `least` or above `most`."""

    kind = "score"
    config = ScoreConfig

    def __init__(self, config: ScoreConfig, languages: tuple[str, str]) -> None:
        super().__init__(config, languages)
        self.column = config.column
        self._least = -math.inf if config.least is None else config.least
        self._most = math.inf if config.most is None else config.most

    @classmethod
    def validate(cls, config: ScoreConfig) -> None:
        """Raise ValueError unless a column and a threshold are given."""
        if not config.column:
            raise ValueError("column is not set")
        if config.least is None and config.most is None:
            raise ValueError("neither least nor most is set")

    def rejects_value(self, value: str | None) -> bool:
        """Return whether a pair is rejected for its score."""
        try:
            score = float(value or "nan")
        except ValueError:
            score = math.nan
        if math.isnan(score):
            if self.settings.unscored is Unscored.fail:
                what = f"has {value[:40]!r}" if value else "has nothing"
                raise UserError(
                    f"A pair {what} in the column {self.column}.", "Score it, or set unscored to keep or drop."
                )
            return self.settings.unscored is Unscored.drop
        return not self._least <= score <= self._most
