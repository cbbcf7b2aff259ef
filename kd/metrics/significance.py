"""Whether one system is better than another, or luck with this test set explains it: paired bootstrap resampling.

The method is Koehn's (2004, "Statistical significance tests for machine translation evaluation"), the figures are those
that sacreBLEU's command line prints with `--paired-bs` and the same seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sacrebleu.significance import PairedTest, Result

from kd.errors import UserError
from kd.metrics.corpus import check_aligned, sacrebleu_metrics


@dataclass(frozen=True)
class Significance:
    """What resampling says of one system and metric."""

    system: str
    metric: str  # BLEU | chrF2 | TER
    value: float  # of the whole test set, unrounded
    mean: float  # over the resampled test sets
    interval: tuple[float, float]  # 95 %: mean minus and plus half the width sacreBLEU states
    p_value: float | None  # of no difference from the baseline, two-sided; None for the baseline itself
    signature: str  # sacreBLEU's, number of resamplings and seed included


def paired_bootstrap(
    systems: Mapping[str, Sequence[str]],
    baseline: str,
    references: Sequence[Sequence[str]],
    metrics: Iterable[str] = ("bleu", "chrf"),
    *,
    resamples: int = 1000,
    seed: int = 12345,
    jobs: int = 1,
) -> list[Significance]:
    """Compare each system's output (one line a segment) with the baseline's on the same resampled test sets.

    The baseline comes first, the others follow in the order given; each has one entry a metric. With `jobs` above 1 the
    systems are shared out among forked processes; the figures are the same.

    Raises UserError for an unknown baseline or metric, outputs that do not align, or a seed or number out of range.
    """
    if baseline not in systems:
        raise UserError(f"There is no system {baseline!r} to compare with.", f"Choose one of: {', '.join(systems)}.")
    if resamples < 1:
        raise UserError(f"{resamples} resamplings are none.", "Ask for at least one; 1000 is customary.")
    if seed < 1:
        # PairedTest takes 0 for "no seed": the figures would differ from call to call.
        raise UserError(f"The seed of the bootstrap cannot be {seed}.", "Use a seed of 1 or more.")
    check_aligned(dict(systems), references)
    ordered = [baseline, *(name for name in systems if name != baseline)]
    with _sacrebleu_seed(seed):
        test = PairedTest(
            [(name, systems[name]) for name in ordered],
            {name.upper(): metric for name, metric in sacrebleu_metrics(metrics).items()},
            references,
            test_type="bs",
            n_samples=resamples,
            n_jobs=jobs,
        )
        signatures, columns = test()
    return [
        _significance(system, metric, columns[metric][row], signature.format())
        for row, system in enumerate(ordered)
        for metric, signature in signatures.items()
    ]


def _significance(system: str, metric: str, result: Result | str, signature: str) -> Significance:
    """Turn a cell of PairedTest's table, which has a column of names beside its columns of results, into a record."""
    assert isinstance(result, Result) and result.mean is not None and result.ci is not None
    mean, half_width = float(result.mean), float(result.ci)
    return Significance(
        system, metric, result.score, mean, (mean - half_width, mean + half_width), result.p_value, signature
    )


@contextmanager
def _sacrebleu_seed(seed: int) -> Iterator[None]:
    """sacreBLEU takes its seed from the environment alone, and reads it in two places while a test is set up."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
