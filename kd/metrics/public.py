"""Implement `kd.evaluate` and `kd.select`: scoring of translations and selection from n-best lists, in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from kd.base.errors import UserError

CHUNK = 400  # lists that are scored together

Lines = Sequence[str]


@dataclass(frozen=True)
class Score:
    """A score of one system.

    Attributes:
        system: Its name; empty where a single system was given without a name.
        metric: BLEU, chrF2, chrF2++, TER, COMET or COMET-QE.
        value: The score of all segments, unrounded.
        signature: States how to reproduce the score: sacreBLEU's signature, or the COMET model.
        interval: The 95 % confidence interval; None without resampling.
        p_value: Two-sided p-value of the difference from the baseline; None for the baseline itself or without a
            baseline.
    """

    system: str
    metric: str
    value: float
    signature: str
    interval: tuple[float, float] | None = None
    p_value: float | None = None


class Selection(NamedTuple):
    """The hypothesis that was chosen from one n-best list.

    Attributes:
        text: The hypothesis.
        rank: Its rank in the list, from 0.
        score: Its score by the metric of the selection.
    """

    text: str
    rank: int
    score: float


def evaluate(
    hypotheses: Lines | Mapping[str, Lines],
    references: Lines | Sequence[Lines] = (),
    *,
    sources: Lines | None = None,
    metrics: Sequence[str] = ("bleu", "chrf"),
    comet: str | os.PathLike[str] | None = None,
    baseline: str | None = None,
    test: str = "bootstrap",
    samples: int = 1000,
    trials: int = 10_000,
    seed: int = 12345,
    tokenize: str | None = None,
    language: str = "",
    device: str = "auto",
    jobs: int = 1,
) -> list[Score]:
    """Score translations as `kd evaluate` does: sacreBLEU's metrics and COMET, intervals, paired tests.

    Args:
        hypotheses: Detokenised translations, one per segment; for several systems, a mapping by name.
        references: One reference per segment, or several sequences of them. Optional for a reference-free COMET model;
            `metrics` must be empty then.
        sources: Source segments, which COMET reads.
        metrics: bleu, chrf, chrf++, ter.
        comet: COMET model: a folder with hparams.yaml and checkpoints/model.ckpt, or a name such as wmt22-comet-da.
        baseline: Name of the system that the others are tested against.
        test: Paired test of sacreBLEU's metrics: bootstrap or randomisation.
        samples: Resampled test sets; 0: neither intervals nor tests.
        trials: Trials of the randomisation.
        seed: Seed of the resampling, at least 1.
        tokenize: BLEU's tokeniser by sacreBLEU's name; None: the tokeniser for `language`, else 13a.
        language: Code of the target language, such as ja.
        device: Device for COMET: cpu, cuda, or auto.
        jobs: Processes for the paired test; they do not change the result.

    Returns:
        One score per system and metric; the baseline first, the other systems in the order given.

    Raises:
        kd.UserError: Sequences of unequal length, an unknown name, or a value out of bounds.
    """
    from kd.metrics.corpus import Options, check_aligned
    from kd.metrics.judge import judge
    from kd.metrics.significance import Resampling

    systems = hypotheses if isinstance(hypotheses, Mapping) else {"": hypotheses}
    sides = [references] if references and isinstance(references[0], str) else references
    scores = []
    if comet is not None:
        if sources is None:
            raise UserError("COMET reads the sources.", "Give sources=.")
        check_aligned(systems, [sources, *sides], first="the sources")
        scores.append(_comet(str(comet), device, systems, sources, sides))
    resampling = Resampling(test, samples, trials, seed, jobs) if samples else None
    results = judge(
        systems,
        sides,  # type: ignore[arg-type]
        list(metrics),
        comet_scores=scores,
        baseline=baseline,
        resampling=resampling,
        options=Options(tokenize, language),
    )
    return [Score(each.system, each.metric, each.value, each.signature, each.interval, each.p_value)
            for each in results]  # fmt: skip


def _comet(model: str, device: str, systems: Mapping[str, Lines], sources: Lines, references: Any) -> Any:
    from kd.base.resources import cache_folder
    from kd.metrics.comet import Comet
    from kd.metrics.score_cache import ScoreCache

    loaded = Comet(model, cache=ScoreCache(cache_folder()), device=device)
    if loaded.needs_reference and not references:
        raise UserError(f"The COMET model {loaded.name} reads a reference.", "Give references=.")
    return loaded.scores(systems, sources, references)


def select(
    lists: Iterable[Sequence[str]],
    references: Iterable[str],
    *,
    metric: str = "bleu",
    scores: Iterable[Sequence[float]] | None = None,
    smoothing: str = "exp",
    smooth_value: float | None = None,
    tokenizer: str = "13a",
    lowercase: bool = False,
    word_order: int = 0,
    mix: Mapping[str, float] | None = None,
) -> Iterator[Selection]:
    """Choose from each n-best list the hypothesis that is most similar to its reference, as `kd select` does.

    The lists are read as the result is consumed, a few hundred at a time, so memory does not grow with their number.
    Among equal scores, the hypothesis of the best rank wins, unless it is empty or another one is the reference itself.

    Args:
        lists: The hypotheses of each list, the teachers' best first, detokenised.
        references: The human translation for each list.
        metric: bleu, chrf, mbr_bleu, mbr_chrf (minimum Bayes risk over the list, without the reference), external, mix.
        scores: For external: a score for each hypothesis of each list; the highest wins.
        smoothing: Smoothing of bleu: exp, floor, add-k or none.
        smooth_value: Value for floor and add-k; None: sacreBLEU's value.
        tokenizer: Tokeniser of bleu, by sacreBLEU's name.
        lowercase: Whether bleu and chrf ignore case.
        word_order: Longest word n-gram of chrf; 2 makes it chrF++.
        mix: For mix: the weight of each metric.

    Yields:
        One selection per list, in order.

    Raises:
        kd.UserError: An unknown name, a value out of bounds, an empty list, or unequal numbers of lists, references
            and scores.
    """
    from kd.metrics.selection import Chooser
    from kd.metrics.sentence import scored_metrics
    from kd.recipe.schema import SelectConfig

    config = SelectConfig(
        metric=metric,  # type: ignore[arg-type]
        smoothing=smoothing,  # type: ignore[arg-type]
        tokenizer=tokenizer,
        smooth_value=smooth_value,
        lowercase=lowercase,
        word_order=word_order,
        mix=dict(mix or {}),
    )
    if scored := scored_metrics(config):
        raise UserError(
            f"kd.select does not compute the metric {scored[0]}, which needs a COMET model.",
            "Pass scores made elsewhere as scores= with metric='external', or select in a recipe (docs/selection.md).",
        )
    if (metric == "external" or "external" in config.mix) != (scores is not None):
        raise UserError("The metric external and scores= go together.", "Give both, or neither.")
    return _selections(Chooser(config), lists, references, scores)


def _selections(
    chooser: Any, lists: Iterable[Sequence[str]], references: Iterable[str], scores: Iterable[Sequence[float]] | None
) -> Iterator[Selection]:
    rows = _candidates(lists, references, scores)
    while chunk := list(islice(rows, CHUNK)):
        for item, choice in zip(chunk, chooser.choose(chunk), strict=True):
            yield Selection(item.hypotheses[choice.rank], choice.rank, choice.score)


def _candidates(
    lists: Iterable[Sequence[str]], references: Iterable[str], scores: Iterable[Sequence[float]] | None
) -> Iterator[Any]:
    """Yield each list with its reference and scores. Raises UserError for lists that do not fit."""
    from kd.metrics.sentence import Candidates

    columns: list[Iterable[Any]] = [lists, references] if scores is None else [lists, references, scores]
    rows = zip(*columns, strict=True)
    number = 0
    while True:
        try:
            hypotheses, reference, *external = next(rows)
        except StopIteration:
            return
        except ValueError:  # raised by zip
            raise UserError(
                f"After {number:,} lists, one input ends but another goes on.", "Give equally many."
            ) from None
        number += 1
        if isinstance(hypotheses, str) or not hypotheses:
            raise UserError(f"List {number:,} is not a list of hypotheses.", "Give at least one hypothesis per list.")
        if external and len(external[0]) != len(hypotheses):
            raise UserError(
                f"List {number:,} has {len(hypotheses)} hypotheses but {len(external[0])} scores.",
                "Give one score per hypothesis.",
            )
        ranks = [-float(rank) for rank in range(len(hypotheses))]
        yield Candidates(hypotheses, reference, ranks, {"external": external[0]} if external else {})
