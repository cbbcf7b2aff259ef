"""Source-only text in stages: the stages that read it, settings that need human translations, its part of the data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kd.base.errors import UserError
from kd.pipeline.model import Kind, Stage
from kd.recipe.schema import OnGuard, SelectConfig, SelectMetric, SourceMetric, Variant
from kd.report.source_only import SOURCE_ONLY

NEED_GOLD = frozenset((SelectMetric.bleu, SelectMetric.chrf, SelectMetric.comet))


def collects_source_only(kind: Kind[Any]) -> bool:
    """Return whether stages of a kind read the corpora with `use: source` from their files."""
    return bool(getattr(kind, "source_only", False))


def reads_source_only(stage: Stage) -> bool:
    """Return whether the corpus that a stage reads, directly or through other stages, has source-only text."""
    return any(
        collects_source_only(other.kind) or reads_source_only(other) for _, other in stage.inputs.get("corpus", [])
    )


def check_gold(stage: Stage) -> None:
    """Raise UserError for selection from lists of source-only text by a score that needs human translations."""
    config: SelectConfig = stage.config
    if not reads_source_only(stage):
        return
    where = f"chain.{stage.spec.name}.changes"
    mixed = config.mix if config.metric is SelectMetric.mix else {}
    for metric in (config.metric, *(SelectMetric(name) for name in mixed)):
        if metric in NEED_GOLD:
            raise UserError(
                f"{stage.name} selects by {metric.value}, which needs human translations, but its text has none.",
                f"Set {where}.metric to one of {', '.join(SourceMetric)}.",
            )
    if config.variant in (Variant.gold, Variant.best_and_gold):
        raise UserError(
            f"{stage.name} has variant={config.variant.value}, but its text has no human translations.",
            f"Set {where}.variant=best.",
        )
    if config.on_guard is OnGuard.gold:
        raise UserError(
            f"{stage.name} has on_guard=gold, but its text has no human translations.", f"Set {where}.on_guard=drop."
        )
    if config.max_ter is not None:
        raise UserError(
            f"{stage.name} has max_ter={config.max_ter:g}, but its text has no human translations.",
            f"Set {where}.max_ter=null.",
        )


def check_tops(stage: Stage, tops: Collection[int]) -> None:
    """Raise UserError for a stage that joins source-only text with text that has more targets per source.

    Args:
        stage: The stage.
        tops: Numbers of targets per source in its corpora.
    """
    if len(tops) > 1 and reads_source_only(stage):
        raise UserError(
            f"{stage.name} joins text with {max(tops)} hypotheses per source (select.variant=top) and source-only text "
            "with one.",
            "Set select.variant=best, or leave out the corpora with use: source.",
        )


def source_only_facts(found: Mapping[str, int], sums: Mapping[str, int]) -> dict[str, Any]:
    """Return the sentences and target tokens of source-only text, and a sentence on its part of the corpus."""
    sentences, tokens = found["pairs"], found["target"]
    share = tokens / max(1, sums["target"])
    others = f"{sums['target'] - tokens:,} in {sums['pairs'] - sentences:,}"
    note = f"source-only text: {share:.1%} of target tokens ({tokens:,} in {sentences:,} sentences; the rest: {others})"
    part = {"sentences": sentences, "target tokens": tokens, "target tokens of all": sums["target"]}
    return {SOURCE_ONLY: part, "note": note}
