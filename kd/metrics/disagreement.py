"""Disagreement of an ensemble: how far apart the translations of one source are, without the human target."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from sacrebleu.metrics.chrf import CHRF

from kd.metrics.sentence import Candidates, SentenceChrf

_MEMBER = re.compile(r"F\d+")  # name of a feature: the score of a member


class Scored(Protocol):
    """A hypothesis of an n-best list, with the scores of each member."""

    @property
    def text(self) -> str:
        """The detokenised text."""
        ...

    @property
    def features(self) -> Mapping[str, tuple[float, ...]]:
        """Features by name."""
        ...


def opinions(hypotheses: Sequence[Scored]) -> list[str]:
    """Return the text that each member of an ensemble prefers in a list; all texts of a list of a single model."""
    members = [name for name in hypotheses[0].features if _MEMBER.fullmatch(name)]
    if len(members) < 2:
        return [each.text for each in hypotheses]
    return [max(hypotheses, key=lambda each: each.features[name]).text for name in members]


class Disagreement:
    """The mean distance, 1 - chrF / 100, of each of several texts from each other one, from 0 to 1."""

    def __init__(self) -> None:
        """Make sacreBLEU's chrF2, counted by compiled code."""
        self._metric = SentenceChrf(CHRF())

    def scores(self, lists: Sequence[Sequence[str]]) -> list[float | None]:
        """Return the disagreement of each list of texts; None for a list of one text."""
        counted = [Counter(texts) for texts in lists]
        # Each distinct text as the reference of all: chrF is not symmetric.
        against = [Candidates(list(each), text) for each in counted if len(each) > 1 for text in each]
        columns = iter(self._metric.scores(against) if against else ())
        found: list[float | None] = []
        for texts, counts in zip(lists, counted, strict=True):
            if len(texts) < 2:
                found.append(None)
                continue
            weights = list(counts.values())
            apart = 0.0
            for reference, weight in enumerate(weights if len(counts) > 1 else ()):
                similar = next(columns)
                for place, other in enumerate(weights):
                    if place != reference:
                        apart += weight * other * (1 - similar[place] / 100)
            found.append(apart / (len(texts) * (len(texts) - 1)))
        return found
