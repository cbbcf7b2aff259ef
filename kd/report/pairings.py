"""Systems compared seed by seed: a row for each seed, and below them the mean over the seeds with its spread.

A difference that one seed shows may be luck in training; this is where a reader sees whether others show it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

from kd.report import formatting as form
from kd.report.columns import Cell, Column
from kd.report.model import PairedScore, ReportData

SIGNIFICANT = 0.05
NOTE = (
    "Members of one seed are compared with each other. "
    f"p: {form.p_meaning()}, two-sided; paired bootstrap resampling. "
    "Below several seeds: mean and standard deviation of the differences"
)


def note(data: ReportData) -> str:
    """What the table's figures are, and which members are not in it for want of one of their seed to compare with."""
    alone = []
    for pair, of, against in _groups(data.paired):
        ours, theirs = _seeds(data, of, pair), _seeds(data, against, pair)
        for here, there, other in ((ours, theirs, against), (theirs, ours, of)):
            names = [name for seed, name in here.items() if seed not in there]
            alone += [f"{' '.join([name, pair]).strip()} (no {other} of its seed)" for name in names]
    return f"{NOTE}. Not compared: {', '.join(alone)}" if alone else NOTE


def _seeds(data: ReportData, training: str, pair: str) -> dict[int, str]:
    """The members of a training in the table of results, by number; one that stands alone is the first."""
    found = {}
    for row in data.systems:
        number = re.fullmatch(rf"{re.escape(training)}(?: ([1-9]\d*))?", row.name)
        if number and row.pair == pair:
            found[int(number[1] or 1)] = row.name
    return found


def pairing_columns(data: ReportData) -> list[Column]:
    """The table of all that was compared seed by seed; no columns where nothing was."""
    groups = _groups(data.paired)
    if not groups:
        return []
    metrics = list(dict.fromkeys(score.metric for score in data.paired))
    systems, others, pairs = [], [], []
    figures: dict[str, list[Cell]] = {name: [] for metric in metrics for name in (f"Δ {metric}", f"p ({metric})")}
    for (pair, of, against), scores in groups.items():
        names = list(dict.fromkeys((score.system, score.other) for score in scores))
        for system, other in names:
            pairs.append(Cell(pair))
            systems.append(Cell(system))
            others.append(Cell(other))
            for metric in metrics:
                score = next((s for s in scores if (s.system, s.metric) == (system, metric)), None)
                figures[f"Δ {metric}"].append(_gain(score) if score else Cell())
                p_value = score.p_value if score else None
                figures[f"p ({metric})"].append(Cell() if p_value is None else Cell(form.p_value(p_value), p_value))
        if len(names) > 1:
            pairs.append(Cell(pair))
            systems.append(Cell(f"{of}, {len(names)} seeds", strong=True))
            others.append(Cell(against))
            for metric in metrics:
                here = [score for score in scores if score.metric == metric]
                figures[f"Δ {metric}"].append(Cell(_mean(metric, here), strong=True))
                figures[f"p ({metric})"].append(Cell(_tally(here)))
    columns = [Column("System", systems, numeric=False), Column("against", others, numeric=False)]
    columns += [Column("Pair", pairs, numeric=False)] if any(cell.text for cell in pairs) else []
    columns += [Column(heading, cells) for heading, cells in figures.items()]
    return [column for column in columns if any(cell.text for cell in column.cells)]


def over_seeds(data: ReportData, system: str, other: str, metric: str, pair: str) -> Sequence[PairedScore]:
    """The comparisons of all seeds of which two systems are one; empty where there is one seed alone."""
    for scores in _groups(data.paired).values():
        here = [score for score in scores if score.metric == metric and score.pair == pair]
        if len(here) > 1 and any((score.system, score.other) == (system, other) for score in here):
            return here
    return []


def distillation_over_seeds(scores: Sequence[PairedScore]) -> str:
    """What distillation brought, in a sentence, where several seeds were compared."""
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


def lines(data: ReportData) -> Iterator[list[str]]:
    """The table as text, its heading first."""
    columns = pairing_columns(data)
    if columns:
        yield [column.heading for column in columns]
        for cells in zip(*(column.cells for column in columns), strict=True):
            yield [cell.text for cell in cells]


def _groups(scores: Sequence[PairedScore]) -> dict[tuple[str, str, str], list[PairedScore]]:
    found: dict[tuple[str, str, str], list[PairedScore]] = {}
    for score in scores:
        found.setdefault((score.pair, score.of, score.against), []).append(score)
    return found


def _gain(score: PairedScore) -> Cell:
    return Cell(_signed(score.metric, score.gain), score.gain)


def _signed(metric: str, gain: float) -> str:
    size = form.metric_score(metric, abs(gain))
    sign = "±" if size == form.metric_score(metric, 0) else "+" if gain > 0 else "−"
    return f"{sign}{size}"


def _mean(metric: str, scores: Sequence[PairedScore]) -> str:
    mean, spread = _mean_and_spread(scores)
    return f"{_signed(metric, mean)} (s.d. {form.metric_score(metric, spread)})"


def _mean_and_spread(scores: Sequence[PairedScore]) -> tuple[float, float]:
    """Of the differences; the spread is the standard deviation of a sample (n - 1)."""
    gains = [score.gain for score in scores]
    return fmean(gains), stdev(gains)


def _tally(scores: Sequence[PairedScore]) -> str:
    """How many seeds show a significant difference, and which way."""
    if all(score.p_value is None for score in scores):
        return "significance not tested"
    better, worse = _significant(scores, 1), _significant(scores, -1)
    told = f"p < {SIGNIFICANT} with {better} of {len(scores)}"
    return f"{told}, the other way with {worse}" if worse else told


def _significant(scores: Sequence[PairedScore], sign: int) -> int:
    return sum(s.p_value is not None and s.p_value < SIGNIFICANT and s.gain * sign > 0 for s in scores)
