"""Scores of a whole system output against one or several references: sacreBLEU's, unrounded, with their signatures.

What is compared must be aligned: sides of unequal length are refused, since sacreBLEU would cut the longer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from kd.errors import UserError

METRICS: dict[str, type[Metric]] = {"bleu": BLEU, "chrf": CHRF, "ter": TER}
"""The metrics by the names that recipes give them; what a score is called ("BLEU", "chrF2", "TER") sacreBLEU says."""


@dataclass(frozen=True)
class Score:
    """A score of one system on one test set."""

    metric: str  # BLEU | chrF2 | TER
    value: float  # unrounded; 0 to 100 for BLEU and chrF2, TER may exceed 100
    signature: str  # sacreBLEU's


def corpus_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], metrics: Iterable[str] = ("bleu", "chrf")
) -> list[Score]:
    """Score a system's detokenised output, one line a segment, against references of one line a segment each.

    Raises UserError for an unknown metric, an empty output, no reference, or sides of unequal length.
    """
    check_aligned({"output": hypotheses}, references)
    scores = []
    for metric in sacrebleu_metrics(metrics).values():
        score = metric.corpus_score(hypotheses, references)
        scores.append(Score(score.name, score.score, metric.get_signature().format()))
    return scores


def sacrebleu_metrics(names: Iterable[str]) -> dict[str, Metric]:
    """Make sacreBLEU's metrics with its defaults, by name. Raises UserError for an unknown name."""
    made = {}
    for name in names:
        if name not in METRICS:
            raise UserError(f"There is no metric {name!r}.", f"Choose among: {', '.join(METRICS)}.")
        made[name] = METRICS[name]()
    return made


def check_aligned(systems: dict[str, Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    """Refuse what does not align line by line: each system's output and each reference have one line a segment."""
    if not references:
        raise UserError("There is no reference to score against.", "Give at least one.")
    segments = len(references[0])
    if not segments:
        raise UserError("The reference is empty.", "Give one with a line for each segment.")
    for number, reference in enumerate(references[1:], start=2):
        if len(reference) != segments:
            raise UserError(
                f"Reference {number} has {len(reference):,} lines, the first has {segments:,}.",
                "Give references that are aligned line by line.",
            )
    for name, hypotheses in systems.items():
        if len(hypotheses) != segments:
            raise UserError(
                f"{name} has {len(hypotheses):,} lines, the reference has {segments:,}.",
                "Give one line of output for each segment; lines end at \\n alone.",
            )
