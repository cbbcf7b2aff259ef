"""Comparison of systems seed by seed: a row for each seed, and the mean over the seeds with its spread.

A difference in one seed may be chance in training; this table shows whether other seeds confirm it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from kd.metrics.pairing import members
from kd.report import formatting as form
from kd.report.data import ReportData
from kd.report.systems import PairedScore
from kd.report.table import Cell, Column, Table

NOTE = (
    "Members of the same seed are compared. "
    f"p: {form.p_meaning()}, two-sided; paired bootstrap resampling. "
    "The last row of a comparison: mean and standard deviation over the seeds"
)


def note(data: ReportData) -> str:
    """Explain the table, and name the members that lack a counterpart of the same seed."""
    alone = []
    for pair, of, against in _groups(data.paired):
        ours, theirs = _seeds(data, of, pair), _seeds(data, against, pair)
        for here, there, other in ((ours, theirs, against), (theirs, ours, of)):
            names = [name for seed, name in here.items() if seed not in there]
            alone += [f"{' '.join([name, pair]).strip()} (no {other} of its seed)" for name in names]
    return f"{NOTE}. Not compared: {', '.join(alone)}" if alone else NOTE


def _seeds(data: ReportData, training: str, pair: str) -> dict[str, str]:
    """Return the titles of a training's members in the table of results, by number."""
    systems = [row.system for row in data.systems if row.pair == pair]
    return {seed: system.title for seed, system in members(training, systems).items()}


def seed_table(data: ReportData) -> Table:
    """Make the table of all comparisons seed by seed; it is empty if there are none."""
    metrics = list(dict.fromkeys(score.metric for score in data.paired))
    rows = []
    for (pair, of, against), scores in _groups(data.paired).items():
        names = list(dict.fromkeys((score.system, score.other) for score in scores))
        for system, other in names:
            here = {score.metric: score for score in scores if score.system == system}
            figures = [cell for metric in metrics for cell in _figures(here.get(metric))]
            rows.append([Cell(system), Cell(other), Cell(pair), *figures])
        if len(names) > 1:
            figures = [cell for metric in metrics for cell in _sums([s for s in scores if s.metric == metric])]
            rows.append([Cell(f"{of}, {len(names)} seeds", strong=True), Cell(against), Cell(pair), *figures])
    headings = ["System", "against", "Pair", *(text for metric in metrics for text in (f"Δ {metric}", f"p ({metric})"))]
    if not rows:
        return Table()
    columns = zip(headings, zip(*rows, strict=True), strict=True)
    return Table([Column(text, cells, numeric=text not in headings[:3]) for text, cells in columns], "Seed by seed")


def _figures(score: PairedScore | None) -> tuple[Cell, Cell]:
    """Return the cells of a difference and its p-value."""
    if score is None:
        return Cell(), Cell()
    tested = Cell() if score.p_value is None else Cell(form.p_value(score.p_value), score.p_value)
    return Cell(form.signed(score.metric, score.gain), score.gain), tested


def _sums(scores: Sequence[PairedScore]) -> tuple[Cell, Cell]:
    """Return the cells of the mean difference over seeds and of the number of significant differences."""
    mean, spread = _mean_and_spread(scores)
    metric = scores[0].metric
    text = f"{form.signed(metric, mean)} (s.d. {form.metric_score(metric, spread)})"
    return Cell(text, strong=True), Cell(_tally(scores))


def over_seeds(data: ReportData, system: str, other: str, metric: str, pair: str) -> Sequence[PairedScore]:
    """Return the comparisons of all seeds of two systems' trainings; empty with a single seed."""
    for scores in _groups(data.paired).values():
        here = [score for score in scores if score.metric == metric and score.pair == pair]
        if len(here) > 1 and any((score.system, score.other) == (system, other) for score in here):
            return here
    return []


def mean_gain(scores: Sequence[PairedScore]) -> float:
    """Return the mean difference over seeds, positive where the first system is better."""
    return fmean(score.gain for score in scores)


def distillation_over_seeds(scores: Sequence[PairedScore]) -> str:
    """Describe in a sentence the gain from distillation over several seeds."""
    metric, better, worse = scores[0].metric, _significant(scores, 1), _significant(scores, -1)
    words = "helped" if better == len(scores) else "did harm" if worse == len(scores) else "made no proven difference"
    mean, _ = _mean_and_spread(scores)
    place = f"{form.metric_score(metric, abs(mean))} {metric} {'above' if mean > 0 else 'below'}"
    if metric == "TER":
        place = f"{form.metric_score(metric, abs(mean))} {metric} {'better' if mean > 0 else 'worse'} than"
    with_all = "" if words.startswith(("helped", "did")) else " with every seed"
    return (
        f"Distillation {words}{with_all}: over {len(scores)} seeds the student is on average {place} the control, "
        f"{_tally(scores)}."
    )


def _groups(scores: Sequence[PairedScore]) -> dict[tuple[str, str, str], list[PairedScore]]:
    found: dict[tuple[str, str, str], list[PairedScore]] = {}
    for score in scores:
        found.setdefault((score.pair, score.of, score.against), []).append(score)
    return found


def _mean_and_spread(scores: Sequence[PairedScore]) -> tuple[float, float]:
    """Return mean and standard deviation (n - 1) of the differences."""
    gains = [score.gain for score in scores]
    return fmean(gains), stdev(gains)


def _tally(scores: Sequence[PairedScore]) -> str:
    """Describe how many seeds differ significantly, and in which direction."""
    if all(score.p_value is None for score in scores):
        return "significance not tested"
    better, worse = _significant(scores, 1), _significant(scores, -1)
    told = f"p < {form.SIGNIFICANT} with {better} of {len(scores)}"
    return f"{told}, in the other direction with {worse}" if worse else told


def _significant(scores: Sequence[PairedScore], sign: int) -> int:
    return sum(s.p_value is not None and s.p_value < form.SIGNIFICANT and s.gain * sign > 0 for s in scores)
