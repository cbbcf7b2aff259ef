"""Choose the hypotheses that the student learns from an n-best list: order of preference, variants, guards.

The stage `select` and `kd select` share `Chooser`, which also counts its choices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from sacrebleu.metrics.ter import TER

from kd.metrics.sentence import Candidates, sentence_metric
from kd.metrics.statistics import Choice, Statistics
from kd.recipe.schema import Below, OnGuard, SelectConfig, Variant


class Guard(Protocol):
    """Recognise bad hypotheses: `kd.corpora.guards.Guards`."""

    def check(self, source: str, hypothesis: str, limited: bool = False) -> str | None:
        """Return the name of the first guard that a hypothesis trips; None if it trips none."""
        ...


def select(
    hypotheses: Sequence[str], scores: Sequence[float], model_scores: Sequence[float], reference: str | None = None
) -> int:
    """Return the rank (from 0) of the hypothesis to learn: the one with the highest score.

    Among equal scores, a hypothesis with text precedes an empty one; then one that equals `reference`, if given (a
    tokeniser does not distinguish `Yes.` and `Yes .`); then the one with the higher model score; then the one of lower
    rank. So a list in which every score is 0 yields the model's best.

    Raises:
        ValueError: The list is empty, the lengths differ, or a score is NaN.
    """
    if not len(hypotheses) == len(scores) == len(model_scores) > 0:
        raise ValueError(f"{len(hypotheses)} hypotheses, {len(scores)} scores, {len(model_scores)} model scores")
    # A comparison with NaN is always false, so NaN would win or lose by its position in the list.
    if math.isnan(sum(scores) + sum(model_scores)) and any(map(math.isnan, (*scores, *model_scores))):
        raise ValueError(f"a score is not a number: {list(scores)}, model {list(model_scores)}")
    best = max(scores)
    if scores.count(best) == 1:
        return scores.index(best)
    return next(preferences(hypotheses, scores, model_scores, reference))


def preferences(
    hypotheses: Sequence[str], scores: Sequence[float], model_scores: Sequence[float], reference: str | None
) -> Iterator[int]:
    """Yield all ranks in the order in which `select` prefers them."""

    def preference(rank: int) -> tuple[float, bool, bool, float, int]:
        text = hypotheses[rank]
        return scores[rank], bool(text.strip()), text == reference, model_scores[rank], -rank

    yield from sorted(range(len(hypotheses)), key=preference, reverse=True)


class Chooser:
    """Score lists by a config's metric, choose by its variant, and count its choices."""

    def __init__(
        self, config: SelectConfig, guards: Guard | None = None, signatures: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Make the metric. `signatures`: of metrics with given scores. Raises the errors of `sentence_metric`."""
        self.metric = sentence_metric(config, signatures)
        self._config = config
        self._guards = guards
        self._ter = TER()
        self.statistics = Statistics(self.metric.name, self.metric.signature, self.metric.bin_width)

    def choose(self, lists: Sequence[Candidates], sources: Sequence[str] | None = None) -> list[Choice]:
        """Choose from each list.

        Args:
            lists: N-best lists, with the scores given for them.
            sources: One per list, for the guards.

        Raises:
            ValueError: As in `select`.
        """
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
            return Choice(None, scores[best], scores[0], preferred=best)
        if self._guards is not None and (guard := self._check(item, source, best)):
            passing = self._passing(item, scores, source, best)
            if passing is None:
                if config.on_guard is not OnGuard.keep:
                    dropped = config.on_guard is OnGuard.drop
                    return Choice(None, scores[best], scores[0], guard, dropped, preferred=best)
                return Choice(best, scores[best], scores[0], guard)
            self.statistics.set_aside[guard] += 1
            best = passing
        below = config.variant is Variant.threshold and not scores[best] >= config.threshold
        distant = not below and self._is_distant(item, best)
        if below or distant:
            dropped = config.below is Below.drop
            return Choice(None, scores[best], scores[0], dropped=dropped, below=below, distant=distant, preferred=best)
        return Choice(best, scores[best], scores[0], further=self._further(item, scores, source, best))

    def _is_distant(self, item: Candidates, rank: int) -> bool:
        """Return whether the TER of a hypothesis is above the limit (Freitag et al., 2017, arXiv 1702.01802)."""
        limit, text = self._config.max_ter, item.hypotheses[rank]
        if limit is None or text == item.reference:
            return False
        return bool(self._ter.sentence_score(text, [item.reference]).score > 100 * limit)

    def _further(self, item: Candidates, scores: list[float], source: str, best: int) -> tuple[int, ...]:
        """Return the next best hypotheses with distinct texts that pass the guards and the TER limit."""
        if self._config.variant is not Variant.top:
            return ()
        found: dict[str, int] = {item.hypotheses[best]: best}
        for rank in preferences(item.hypotheses, scores, item.model_scores, item.reference):
            if len(found) >= self._config.top:
                break
            if item.hypotheses[rank] in found or self._check(item, source, rank) or self._is_distant(item, rank):
                continue
            found[item.hypotheses[rank]] = rank
        return tuple(found.values())[1:]

    def _passing(self, item: Candidates, scores: list[float], source: str, best: int) -> int | None:
        """Return the rank of the next hypothesis by preference that trips no guard; None if all others do."""
        order: Iterator[int] = iter(range(len(scores)))
        if self._config.variant is not Variant.first:
            order = preferences(item.hypotheses, scores, item.model_scores, item.reference)
        return next((rank for rank in order if rank != best and not self._check(item, source, rank)), None)

    def _check(self, item: Candidates, source: str, rank: int) -> str | None:
        # A hypothesis that equals the human target is right, even where it is a copy of the source, such as `OK`.
        if item.hypotheses[rank] == item.reference or self._guards is None:
            return None
        return self._guards.check(source, item.hypotheses[rank], bool(item.limited) and item.limited[rank])
