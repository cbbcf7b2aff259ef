"""Scores given translations with models of any engine that can: the mean log-probability of a translation's tokens.

The text is split into tokens as the model's own training text was, which may differ from the tokens of a search. Of a
text that is longer than a model allows, the beginning is scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kd.engines.hypotheses import Counts
from kd.models.description import tag_for
from kd.models.folder import ModelFolder

Progress = Callable[[int], None]  # called with the number of further sources that are done


class Scorer(Protocol):
    """Loaded models that score translations."""

    def score(self, sources: Sequence[str], targets: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return the score of each target of each source: natural logarithms, divided by tokens + 1.

        Scores of a blank source are 0. Those of a model that computed NaN raise NaNScores.
        """
        ...


@dataclass(frozen=True)
class Scoring:
    """Settings of scoring."""

    languages: tuple[str, str]  # of source and target
    max_pieces: int  # longest target, in tokens
    batch_tokens: int  # source tokens per batch, padding included
    precision: str  # fp32, fp16 or bf16, for models of fairseq
    threads: int
    device: str


def load_scorer(folders: Sequence[Path], scoring: Scoring) -> Scorer:
    """Load a converted model, or an ensemble of fairseq's models, to score translations.

    Raises:
        UserError: A folder is damaged, or the models do not belong together.
    """
    if ModelFolder.open(folders[0]).tokenizer:
        return _ConvertedScorer(folders, scoring)
    return _EnsembleScorer(folders, scoring)


class _EnsembleScorer:
    """At each token the members' probabilities are averaged, as in the ensemble's search."""

    def __init__(self, folders: Sequence[Path], scoring: Scoring) -> None:
        from kd.engines.fairseq.stock import ForcedScorer
        from kd.engines.fairseq.translate import Ensemble, Preparation
        from kd.models.vocabulary import Vocabulary

        self._vocabulary = Vocabulary(folders[0])
        self._counts = Counts()
        self._ensemble = ensemble = Ensemble(
            folders,
            self._vocabulary,
            threads=scoring.threads,
            device=scoring.device,
            precision=scoring.precision,
        )
        tag = tag_for(ModelFolder.open(folders[0]).languages, scoring.languages[1], folders[0])
        self._prepare = Preparation(
            self._vocabulary, ensemble.limit_source(None), self._counts, 0, skip=False, tag=tag, frame=ensemble.frame
        )
        self._longest = ensemble.limit_output(scoring.max_pieces)
        self._batch_tokens = scoring.batch_tokens
        self._scorer = ForcedScorer(
            ensemble.models, ensemble.dictionary, length_penalty=1.0, start=ensemble.frame.target_start
        )

    def score(self, sources: Sequence[str], targets: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return the score of each target of each source."""
        from kd.engines.fairseq.translate import Source, batches, halving

        scores = [[0.0] * len(each) for each in targets]
        ordered = sorted(self._prepare(sources).pending, key=lambda source: -len(source.ids))

        def work(batch: list[Source]) -> list[list[float]]:
            ids = [self._ids(targets[source.number]) for source in batch]
            found = self._scorer.score(self._ensemble.matrix([source.ids for source in batch]), ids)
            return [[self._finite(each.score, each.member_scores) for each in row] for row in found]

        for batch in batches(ordered, lambda source: len(source.ids), self._batch_tokens):
            for source, found in zip(batch, halving(work, batch, self._counts), strict=True):
                scores[source.number] = found
        return scores

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        frame = self._ensemble.frame
        end = self._ensemble.dictionary.eos()
        return [[*frame.target_first, *ids[: self._longest], end] for ids in self._vocabulary.encode_targets(texts)]

    def _finite(self, score: float, members: Sequence[float]) -> float:
        if math.isnan(score):
            raise self._ensemble.nan([number for number, each in enumerate(members) if math.isnan(each)])
        return score


class _ConvertedScorer:
    """A model of Hugging Face by CTranslate2."""

    def __init__(self, folders: Sequence[Path], scoring: Scoring) -> None:
        from kd.engines.converted import ConvertedTranslator, require_one

        self._translator = ConvertedTranslator(
            require_one(folders),
            max_pieces=scoring.max_pieces,
            batch_tokens=scoring.batch_tokens,
            threads=scoring.threads,
            device=scoring.device,
        )

    def score(self, sources: Sequence[str], targets: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return the score of each target of each source."""
        rows = [(source, text) for source, texts in zip(sources, targets, strict=True) for text in texts]
        wanted = [number for number, (source, _) in enumerate(rows) if source.strip()]
        found = dict.fromkeys(range(len(rows)), 0.0)
        found |= zip(wanted, self._translator.score([rows[number] for number in wanted]), strict=True)
        rest = iter(found.values())
        return [[next(rest) for _ in texts] for texts in targets]
