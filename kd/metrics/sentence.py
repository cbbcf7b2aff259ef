"""Scores of single sentences, by which one hypothesis of each n-best list is selected for the student to learn.

Every score equals sacreBLEU's to the last bit and carries sacreBLEU's signature, so that a selection can be reproduced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from kd.config import SelectConfig
from kd.errors import UserError

Value = TypeVar("Value")


class SentenceMetric(Protocol):
    """What selection needs of a metric; a faster one, or another, replaces these by having the same members."""

    @property
    def name(self) -> str:
        """The name a recipe gives it: `select.metric`."""
        ...

    @property
    def signature(self) -> str:
        """What makes the scores reproducible, in sacreBLEU's notation."""
        ...

    def scores(self, hypotheses: Sequence[str], reference: str) -> list[float]:
        """Score each detokenised hypothesis of one list against one reference; higher is better."""
        ...


class SacrebleuSentenceMetric:
    """A metric of sacreBLEU applied to sentences; its object is made once, its tokeniser remembers what it saw."""

    def __init__(self, name: str, metric: BLEU | CHRF) -> None:
        self.name = name
        self._metric = metric
        # sacreBLEU knows the number of references, which is part of the signature, only after it has scored something.
        metric.sentence_score("a", ["a"])
        self.signature = metric.get_signature().format()

    def scores(self, hypotheses: Sequence[str], reference: str) -> list[float]:
        """Score each hypothesis against the reference, from 0 to 100."""
        references = [reference]
        return [self._metric.sentence_score(hypothesis, references).score for hypothesis in hypotheses]


def sentence_metric(config: SelectConfig) -> SentenceMetric:
    """Make the metric that `select` asks for.

    Raises UserError for an unknown metric, tokeniser or smoothing, or a tokeniser that cannot be had here.
    """
    return _choice(_METRICS, config.metric, "select.metric")(config)


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
    if any(map(math.isnan, scores)) or any(map(math.isnan, model_scores)):
        raise ValueError(f"a score is not a number: {list(scores)}, model {list(model_scores)}")

    def preference(rank: int) -> tuple[float, bool, bool, float, int]:
        text = hypotheses[rank]
        return scores[rank], bool(text.strip()), text == reference, model_scores[rank], -rank

    return max(range(len(hypotheses)), key=preference)


def _bleu(config: SelectConfig) -> SentenceMetric:
    """Sentence BLEU with effective order: n-gram orders that a short hypothesis cannot have do not count."""
    _choice(BLEU.SMOOTH_DEFAULTS, config.smoothing, "select.smoothing")
    _choice(dict.fromkeys(BLEU.TOKENIZERS), config.tokenizer, "select.tokenizer")
    try:
        metric = BLEU(effective_order=True, smooth_method=config.smoothing, tokenize=config.tokenizer)
    except (ImportError, RuntimeError, OSError) as error:  # a missing package, or a model that cannot be downloaded
        reason = " ".join(str(error).split())
        raise UserError(
            f"sacreBLEU's tokeniser {config.tokenizer!r} (select.tokenizer) cannot be used here: {reason}",
            "Install or download what it needs, or set select.tokenizer=13a.",
        ) from error
    return SacrebleuSentenceMetric("bleu", metric)


def _chrf(config: SelectConfig) -> SentenceMetric:
    """Sentence chrF2: F-score of character n-grams up to 6 (Popović, 2015)."""
    return SacrebleuSentenceMetric("chrf", CHRF())


_METRICS: dict[str, Callable[[SelectConfig], SentenceMetric]] = {"bleu": _bleu, "chrf": _chrf}


def _choice(choices: Mapping[str, Value], name: str, key: str) -> Value:
    """Look a setting up among those there are."""
    if name not in choices:
        raise UserError(f"There is no {key}={name}.", f"Choose one of: {', '.join(choices)}.")
    return choices[name]
