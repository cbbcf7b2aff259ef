"""Score n-best lists by COMET: against the human target, without a reference, or by minimum Bayes risk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from kd.base.errors import UserError
from kd.metrics.comet import Comet, segment

ALONE = 1.0  # score by minimum Bayes risk of the only hypothesis of a list: the highest of COMET's nominal range


class ListToScore(NamedTuple):
    """A source with its hypotheses, and the human target of the pair."""

    source: str
    hypotheses: Sequence[str]
    target: str


class ListScorer(Protocol):
    """The interface of scorers of n-best lists: COMET, or for instance a model of the reverse direction."""

    @property
    def signature(self) -> str:
        """The settings that make the scores reproducible, in sacreBLEU's notation."""
        ...

    def scores(self, lists: Sequence[ListToScore]) -> list[list[float]]:
        """Return one score per hypothesis of each list; higher is better."""
        ...


class CometScorer:
    """COMET with the human target as the reference, or without a reference (`with_target` False)."""

    def __init__(self, comet: Comet, *, with_target: bool) -> None:
        """Raise UserError if the model needs a reference and gets none, or ignores the reference that it gets."""
        if with_target and not comet.uses_reference:
            raise UserError(
                f"The COMET model {comet.name} (score.comet.model) is reference-free.",
                f"Set select.metric=qe and score.qe.model={comet.name}, or give a model that reads a reference.",
            )
        if not with_target and comet.needs_reference:
            raise UserError(
                f"The COMET model {comet.name} (score.qe.model) needs a reference.",
                "Give a reference-free model, such as score.qe.model=Unbabel/wmt22-cometkiwi-da.",
            )
        self._comet = comet
        self._with_target = with_target
        self.signature = comet.signature(int(with_target))

    def scores(self, lists: Sequence[ListToScore]) -> list[list[float]]:
        """Score every hypothesis of every list."""
        segments = [
            segment(item.source, hypothesis, item.target if self._with_target else None)
            for item in lists
            for hypothesis in item.hypotheses
        ]
        found = iter(self._comet.segments(segments))
        return [[next(found) for _ in item.hypotheses] for item in lists]


class CometConsensus:
    """Minimum Bayes risk with COMET: the mean score of a hypothesis with every other hypothesis as reference."""

    def __init__(self, comet: Comet) -> None:
        """Raise UserError for a model that ignores references."""
        if not comet.uses_reference:
            raise UserError(
                f"The COMET model {comet.name} (score.comet.model) is reference-free, and mbr_comet needs references.",
                "Give a model that reads a reference, such as score.comet.model=Unbabel/wmt22-comet-da.",
            )
        self._comet = comet
        self.signature = f"mbr|{comet.signature(1)}"

    def scores(self, lists: Sequence[ListToScore]) -> list[list[float]]:
        """Score every hypothesis of every list; equal lists are computed once, as for pairs that share a source."""
        keys = [(item.source, tuple(item.hypotheses)) for item in lists]
        several = [key for key in dict.fromkeys(keys) if len(key[1]) > 1]
        means = self._comet.consensus([source for source, _ in several], [texts for _, texts in several])
        found = dict(zip(several, means, strict=True))
        return [found.get(key, [ALONE]) for key in keys]
