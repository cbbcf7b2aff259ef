"""The columns of the table of results, shared by the page and the terminal.

A column that no system has a value in is left out, so that a run without speed or without a second language pair has a
narrower table and not an empty one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kd.base.text import amount, duration
from kd.report import formatting as form
from kd.report.model import MetricScore, ReportData, SystemRow


@dataclass(frozen=True)
class Cell:
    """What stands in the table for one system."""

    text: str = ""  # empty: not measured
    sort: float | str | None = None  # what the column is sorted by; None goes last
    detail: str = ""  # a second, smaller line
    strong: bool = False  # best of its column


@dataclass(frozen=True)
class Column:
    """A heading and the cells below it, one a system."""

    heading: str
    cells: list[Cell]
    numeric: bool = True
    explanation: str = ""
    short: str = ""  # heading where there is little room; empty: left out there
    wide: bool = False  # text that takes room


def results_columns(data: ReportData) -> list[Column]:
    """The columns of the table of results, cells in the order of `data.systems`."""
    rows = data.systems
    columns = [Column("System", [Cell(row.name, row.name) for row in rows], numeric=False, short="System")]
    if len({row.pair for row in rows}) > 1:
        columns.append(Column("Pair", [Cell(row.pair, row.pair) for row in rows], numeric=False, short="Pair"))
    columns.append(Column("Kind", [Cell(row.kind.value, row.kind.value) for row in rows], numeric=False))
    for metric in data.metrics():
        columns += _metric_columns(data, metric)
    columns += [
        _numbers("Parameters, M", rows, lambda row: row.parameters and row.parameters / 1e6, amount, "M param."),
        _numbers("Size, MB", rows, lambda row: row.megabytes, amount, "MB"),
        _numbers("Sentences/s", rows, lambda row: row.sentences_per_second, amount, "sent./s"),
        _numbers("Updates", rows, lambda row: row.training_updates, lambda value: form.count(int(value))),
        _numbers("Training", rows, lambda row: row.training_seconds, duration),
    ]
    return [column for column in columns if any(cell.text for cell in column.cells)]


def _metric_columns(data: ReportData, metric: str) -> list[Column]:
    """A metric's scores, and their p-values against the baseline."""
    scores = [row.score(metric) for row in data.systems]
    best = _best_by_pair(data, metric)
    values = [
        Cell(
            form.metric_score(metric, score.value), score.value, _interval(score), strong=score.value == best[row.pair]
        )
        if score
        else Cell()
        for row, score in zip(data.systems, scores, strict=True)
    ]
    tests = [
        Cell("–", None)
        if row.name == data.baseline and score
        else Cell(form.p_value(score.p_value), score.p_value)
        if score and score.p_value is not None
        else Cell()
        for row, score in zip(data.systems, scores, strict=True)
    ]
    explanation = f"p: {form.p_meaning(data.baseline)}, in {metric}"
    columns = [Column(metric, values, short=metric)]
    if any(score and score.p_value is not None for score in scores):
        columns.append(Column("p", tests, explanation=explanation, short="p"))
    return columns


def _best_by_pair(data: ReportData, metric: str) -> dict[str, float]:
    best: dict[str, float] = {}
    for row in data.systems:
        if score := row.score(metric):
            better = max if score.higher_is_better else min
            best[row.pair] = better(best.get(row.pair, score.value), score.value)
    return best


def _interval(score: MetricScore) -> str:
    return "–".join(form.metric_score(score.metric, end) for end in score.interval or ())


def _numbers(
    heading: str,
    rows: list[SystemRow],
    value: Callable[[SystemRow], float | None],
    printed: Callable[[float], str],
    short: str = "",
) -> Column:
    values = [value(row) for row in rows]
    return Column(heading, [Cell() if each is None else Cell(printed(each), each) for each in values], short=short)
