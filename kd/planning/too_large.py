"""Warn of held-out sets and vocabularies that are too large for the corpora of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kd.models.known import Known
from kd.pipeline.model import Stage
from kd.planning.sample import Pairs
from kd.recipe.schema import CorpusConfig, SplitConfig, Use, VocabularyConfig

# Distinct words grow with the text to the power of about 0.5 (Heaps' law; Manning, Raghavan and Schütze, 2008,
# Introduction to Information Retrieval, section 5.1.1, have 0.49 for Reuters-RCV1).
GROWTH = 0.5
BYTES = 256  # tokens of byte_fallback
# Scripts without spaces, where words cannot be counted: Thai, Lao, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def warnings(stages: Iterable[Stage], known: Known, sample: Pairs) -> Iterator[str]:
    """Yield a warning for each set of held-out sentences, and each vocabulary, that is too large.

    Args:
        stages: The stages of the plan.
        known: The sizes of the recipe, with the texts of these stages.
        sample: The first pairs of the training corpora.
    """
    for stage in stages:
        if isinstance(stage.config, SplitConfig):
            yield from _held_out(stage, stage.config, known)
        elif isinstance(stage.config, VocabularyConfig):
            yield from _vocabulary(stage, stage.config, known, sample)


def _held_out(stage: Stage, config: SplitConfig, known: Known) -> Iterator[str]:
    for _, corpus in stage.inputs["corpora"]:
        pairs = known.texts[corpus].pairs.value
        given = _given(stage, corpus.axis)
        drawn = {"dev": config.dev if Use.dev not in given else 0}
        drawn["test"] = config.test if Use.test not in given or config.test_beside_given else 0
        drawn = {use: size for use, size in drawn.items() if size}
        if pairs is None or not drawn or 2 * sum(drawn.values()) < pairs:
            continue
        few = max(1, round(pairs / 20))
        sizes = " and ".join(f"split.{use}={size}" for use, size in drawn.items())
        yield (
            f"{sizes} would hold out {sum(drawn.values()):,} of about {pairs:,.0f} pairs of {corpus.axis}, half of "
            f"them or more. Add {' '.join(f'split.{use}={few}' for use in drawn)}, or more text."
        )


def _given(stage: Stage, axis: str | None) -> set[Use]:
    """Return the uses of the corpora that a recipe has for a language pair."""
    collected = [other for _, other in stage.inputs.get("given", []) if other.axis == axis]
    return {
        other.config.sources[task.name].use
        for other in collected
        if isinstance(other.config, CorpusConfig)
        for task in other.tasks
    }


def _vocabulary(stage: Stage, config: VocabularyConfig, known: Known, sample: Pairs) -> Iterator[str]:
    pairs = known.input(stage, "corpora").pairs.value
    counted = distinct_words(sample)
    if pairs is None or counted is None:
        return
    words = counted * max(1.0, pairs / len(sample)) ** GROWTH
    if config.size - (BYTES if config.byte_fallback else 0) <= words:
        return
    fit = max(100, round(words / 400) * 100) + (BYTES if config.byte_fallback else 0)
    yield (
        f"vocabulary.size={config.size} is more than the corpora have distinct words, about {words:,.0f}: tokens would "
        f"be whole words, most of them rare, or sentencepiece finds too few. Add vocabulary.size={fit}, or more text."
    )


def distinct_words(sample: Pairs) -> int | None:
    """Count the distinct words of both sides; None without text, and where many sentences are without spaces."""
    texts = [text for pair in sample for text in pair]
    if not texts or 4 * sum(_UNSPACED.search(text) is not None for text in texts) > len(texts):
        return None
    return len({word for text in texts for word in re.findall(r"\w+", text)})
