"""Paired significance tests between systems, and confidence intervals.

Paired bootstrap resampling (Koehn, 2004) and paired approximate randomisation (Riezler and Maxwell, 2005) are
sacreBLEU's own: the figures equal those of its command line with the same seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sacrebleu.metrics.base import Metric
from sacrebleu.significance import PairedTest, Result

from kd.base.errors import UserError
from kd.metrics.corpus import DEFAULTS, Options, References, check_aligned, sacrebleu_metrics

BOOTSTRAP, RANDOMISATION = "bootstrap", "randomisation"
TESTS = {BOOTSTRAP: "bs", RANDOMISATION: "ar"}
"""The paired tests, with sacreBLEU's names for them."""


@dataclass(frozen=True)
class Duel:
    """The shares of resampled test sets, 0 to 1, on which a system was ahead of, behind, or equal to the baseline."""

    wins: float
    losses: float
    ties: float


@dataclass(frozen=True)
class Significance:
    """A score of one system, with its interval and its comparison with the baseline."""

    system: str
    metric: str  # BLEU | chrF2 | chrF2++ | TER | COMET | COMET-QE
    value: float  # of the whole test set, unrounded
    mean: float | None  # over the resampled test sets; None without resampling
    interval: tuple[float, float] | None  # 95 %: mean minus and plus half the width sacreBLEU states
    p_value: float | None  # of the difference from the baseline, two-sided; None for the baseline itself
    signature: str  # sacreBLEU's, number of resamplings and seed included
    duel: Duel | None = None  # of COMET, against the baseline

    @property
    def higher_is_better(self) -> bool:
        """Return whether a higher score is better, unlike for TER, which counts errors."""
        return self.metric != "TER"


@dataclass(frozen=True)
class Resampling:
    """Settings of resampling."""

    test: str = BOOTSTRAP  # against a baseline: bootstrap | randomisation
    samples: int = 1000  # resampled test sets, for intervals and for the bootstrap test
    trials: int = 10000  # of the randomisation test
    seed: int = 12345  # sacreBLEU's own default
    jobs: int = 1  # processes, which share the systems; the figures do not depend on it

    def check(self) -> None:
        """Raise UserError for an unknown test, or a number or seed out of range."""
        if self.test not in TESTS:
            raise UserError(f"There is no paired test {self.test!r}.", f"Choose one of: {', '.join(TESTS)}.")
        if self.samples < 2:
            raise UserError(f"The number of resamplings must be at least 2, got {self.samples}.", "1000 is customary.")
        if self.trials < 1:
            raise UserError(f"The number of trials must be at least 1, got {self.trials}.", "10000 is customary.")
        if self.seed < 1:
            # PairedTest takes 0 for "no seed": the figures would differ from call to call.
            raise UserError(f"The seed of the resampling must be at least 1, got {self.seed}.", "Use 1 or more.")


def paired_test(
    systems: Mapping[str, Sequence[str]],
    baseline: str,
    references: References,
    metrics: Iterable[str] = ("bleu", "chrf"),
    resampling: Resampling | None = None,
    options: Options = DEFAULTS,
) -> list[Significance]:
    """Compare each system's output (one line per segment) with the baseline's on the same segments.

    The baseline comes first, the others follow in the order given; each has one entry per metric. With either test,
    intervals are from bootstrap resampling. The figures are sacreBLEU's, except that p is 1 where two scores are equal.

    Raises:
        UserError: The baseline or a metric is unknown, outputs differ in length, or a seed or number is out of range.
    """
    resampling = resampling or Resampling()
    if baseline not in systems:
        raise UserError(f"There is no system {baseline!r} to compare with.", f"Choose one of: {', '.join(systems)}.")
    resampling.check()
    check_aligned(systems, references)
    ordered = [baseline, *(name for name in systems if name != baseline)]
    by_randomisation = resampling.test == RANDOMISATION
    with _sacrebleu_seed(resampling.seed):
        test = PairedTest(
            [(name, systems[name]) for name in ordered],
            _by_score_name(metrics, options, references),
            None,
            test_type=TESTS[resampling.test],
            n_samples=resampling.trials if by_randomisation else resampling.samples,
            n_ar_confidence=resampling.samples if by_randomisation else -1,
            n_jobs=resampling.jobs,
        )
        signatures, columns = test()
    found = [
        _significance(system, metric, columns[metric][row], signature.format())
        for row, system in enumerate(ordered)
        for metric, signature in signatures.items()
    ]
    level = {each.metric: each.value for each in found if each.system == baseline}
    return [replace(each, p_value=1.0) if _undecided(each, level[each.metric]) else each for each in found]


def _undecided(found: Significance, level: float) -> bool:
    # sacreBLEU counts the resamplings that differ by more than the systems do. For two equal outputs it finds none and
    # prints its smallest p, which would look like a difference.
    return found.p_value is not None and found.value == level


def intervals(
    systems: Mapping[str, Sequence[str]],
    references: References,
    metrics: Iterable[str] = ("bleu", "chrf"),
    resampling: Resampling | None = None,
    options: Options = DEFAULTS,
) -> list[Significance]:
    """Score each system, with the confidence interval of bootstrap resampling, without a comparison.

    The figures are those of sacreBLEU's `--confidence`. Raises UserError as `paired_test` does.
    """
    resampling = resampling or Resampling()
    resampling.check()
    check_aligned(systems, references)
    made = _by_score_name(metrics, options, references)
    found = []
    with _sacrebleu_seed(resampling.seed):
        for system, lines in systems.items():
            for metric in made.values():
                score = metric.corpus_score(lines, None, n_bootstrap=resampling.samples)
                result = Result(score.score, None, score._mean, score._ci)
                found.append(_significance(system, score.name, result, metric.get_signature().format()))
    return found


def _by_score_name(names: Iterable[str], options: Options, references: References) -> dict[str, Metric]:
    return {name.upper(): metric for name, metric in sacrebleu_metrics(names, options, references).items()}


def _significance(system: str, metric: str, result: Result | str, signature: str) -> Significance:
    """Turn a cell of PairedTest's table, which has a column of names beside its columns of results, into a record."""
    assert isinstance(result, Result) and result.mean is not None and result.ci is not None
    mean, half_width = float(result.mean), float(result.ci)
    return Significance(
        system, metric, result.score, mean, (mean - half_width, mean + half_width), result.p_value, signature
    )


@contextmanager
def _sacrebleu_seed(seed: int) -> Iterator[None]:
    """Set sacreBLEU's seed, which it reads from the environment in two places while setting up a test."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
