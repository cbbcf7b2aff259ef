"""Which hypothesis of a list is learnt: the order of preference, the variants for ablation, the guards.

`Chooser` is all that the stage and the command share: candidates in, choices out, statistics kept as it goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

from kd.metrics.sentence import Candidates, sentence_metric
from kd.metrics.statistics import Choice, Statistics
from kd.recipe.schema import Below, OnGuard, SelectConfig, Variant


class Guard(Protocol):
    """What tells bad hypotheses: `kd.corpora.guards.Guards`."""

    def check(self, source: str, hypothesis: str) -> str | None:
        """The name of the first guard that a hypothesis trips, None where it is fine."""
        ...


def select(
    hypotheses: Sequence[str], scores: Sequence[float], model_scores: Sequence[float], reference: str | None = None
) -> int:
    """Give the rank (from 0) of the hypothesis to learn: the one with the highest score.

    Among equal scores a hypothesis with text in it goes before an empty one, then one that is `reference` itself (where
    that is given: `Yes.` and `Yes .` are the same to a tokeniser), then the one with the higher model score, then the
    one of lower rank. So a list in which every score is 0 yields the model's best.

    Raises ValueError for an empty list, lists of unequal length, or a score that is not a number.
    """
    if not len(hypotheses) == len(scores) == len(model_scores) > 0:
        raise ValueError(f"{len(hypotheses)} hypotheses, {len(scores)} scores, {len(model_scores)} model scores")
    # NaN compares as neither less nor greater: it would win or lose by its place in the list.
    if math.isnan(sum(scores) + sum(model_scores)) and any(map(math.isnan, (*scores, *model_scores))):
        raise ValueError(f"a score is not a number: {list(scores)}, model {list(model_scores)}")
    best = max(scores)
    if scores.count(best) == 1:
        return scores.index(best)
    return next(preferences(hypotheses, scores, model_scores, reference))


def preferences(
    hypotheses: Sequence[str], scores: Sequence[float], model_scores: Sequence[float], reference: str | None
) -> Iterator[int]:
    """Yield the ranks in the order in which `select` prefers them."""

    def preference(rank: int) -> tuple[float, bool, bool, float, int]:
        text = hypotheses[rank]
        return scores[rank], bool(text.strip()), text == reference, model_scores[rank], -rank

    yield from sorted(range(len(hypotheses)), key=preference, reverse=True)


class Chooser:
    """Judges lists by a config's metric and chooses by its variant; keeps statistics of what it chose."""

    def __init__(self, config: SelectConfig, guards: Guard | None = None) -> None:
        """Raises UserError for what `sentence_metric` raises it."""
        self.metric = sentence_metric(config)
        self._config = config
        self._guards = guards
        self.statistics = Statistics(self.metric.name, self.metric.signature, self.metric.bin_width)

    def choose(self, lists: Sequence[Candidates], sources: Sequence[str] | None = None) -> list[Choice]:
        """Choose of each list; sources are what guards compare with. Raises ValueError as `select` does."""
        choices = []
        for place, (item, scores) in enumerate(zip(lists, self.metric.scores(lists), strict=True)):
            source = sources[place] if sources is not None else ""
            choice = self._choose(item, scores, source)
            self.statistics.add(source, item, scores, choice)
            choices.append(choice)
        return choices

    def _choose(self, item: Candidates, scores: list[float], source: str) -> Choice:
        config = self._config
        best = 0
        if config.variant is not Variant.first:
            best = select(item.hypotheses, scores, item.model_scores, item.reference)
        if config.variant is Variant.gold:
            return Choice(None, scores[best], scores[0])
        if self._guards is not None and (guard := self._check(item, source, best)):
            passing = self._passing(item, scores, source, best)
            if passing is None:
                if config.on_guard is not OnGuard.keep:
                    return Choice(None, scores[best], scores[0], guard, config.on_guard is OnGuard.drop)
                return Choice(best, scores[best], scores[0], guard)
            self.statistics.set_aside[guard] += 1
            best = passing
        if config.variant is Variant.threshold and not scores[best] >= config.threshold:
            return Choice(None, scores[best], scores[0], dropped=config.below is Below.drop, below=True)
        return Choice(best, scores[best], scores[0])

    def _passing(self, item: Candidates, scores: list[float], source: str, best: int) -> int | None:
        """The preferred one of the others that trip no guard."""
        order: Iterator[int] = iter(range(len(scores)))
        if self._config.variant is not Variant.first:
            order = preferences(item.hypotheses, scores, item.model_scores, item.reference)
        return next((rank for rank in order if rank != best and not self._check(item, source, rank)), None)

    def _check(self, item: Candidates, source: str, rank: int) -> str | None:
        # What a human wrote as the translation cannot be a bad one: `OK` is a copy, and right.
        if item.hypotheses[rank] == item.reference or self._guards is None:
            return None
        return self._guards.check(source, item.hypotheses[rank])
