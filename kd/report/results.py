"""The table of results: on the page, in the terminal after a run, and as Markdown and LaTeX for documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from kd.base.escapes import visible
from kd.base.text import amount, duration
from kd.report import formatting as form
from kd.report import pairings
from kd.report.model import MetricScore, ReportData, SystemRow
from kd.report.table import NOT_APPLICABLE, Cell, Column, Document, Table
from kd.report.verdict import verdicts


def results_table(data: ReportData, *, intervals: bool = False) -> Table:
    """Make the table, one row per system in the order of `data.systems`; `intervals`: with those of the scores."""
    rows = data.systems

    def numbers(heading: str, value: Callable[[SystemRow], float | None], short: str = "") -> Column:
        return Column.of(heading, map(value, rows), amount, short=short)

    columns = [Column("System", [Cell(row.name, row.name) for row in rows], numeric=False, short="System")]
    if len({row.pair for row in rows}) > 1:
        columns.append(Column("Pair", [Cell(row.pair, row.pair) for row in rows], numeric=False, short="Pair"))
    if intervals:  # the page filters by kind; elsewhere the names say it
        columns.append(Column("Kind", [Cell(row.kind.value, row.kind.value) for row in rows], numeric=False))
    for metric in data.metrics():
        columns += _metric_columns(data, metric, intervals)
    columns += [
        numbers("Parameters, M", lambda row: row.parameters and row.parameters / 1e6, "M param."),
        numbers("Size, MB", lambda row: row.megabytes, "MB"),
        numbers("Sentences/s", lambda row: row.sentences_per_second, "sent./s"),
        Column.of("Updates", [row.training_updates for row in rows], lambda value: form.count(int(value))),
        Column.of("Training", [row.training_seconds for row in rows], duration),
    ]
    return Table(columns, "Table of results", [row.kind.value for row in rows])


def _metric_columns(data: ReportData, metric: str, intervals: bool) -> Iterator[Column]:
    """Yield a metric's scores, and their p-values against the baseline where there are any."""
    scores = [row.score(metric) for row in data.systems]
    best = _best_by_pair(data, metric)
    values, tests = [], []
    for row, score in zip(data.systems, scores, strict=True):
        values.append(_score(score, score.value == best[row.pair], intervals) if score else Cell())
        tests.append(_test(score, row.name == data.baseline) if score else Cell())
    yield Column(metric, values, short=metric)
    if any(score and score.p_value is not None for score in scores):
        yield Column("p", tests, explanation=f"p: {form.p_meaning(data.baseline)}, in {metric}", short="p")


def _score(score: MetricScore, best: bool, interval: bool) -> Cell:
    ends = (form.metric_score(score.metric, end) for end in score.interval or ())
    return Cell(
        form.metric_score(score.metric, score.value), score.value, "–".join(ends) if interval else "", strong=best
    )


def _test(score: MetricScore, baseline: bool) -> Cell:
    if baseline:
        return Cell(NOT_APPLICABLE)
    return Cell() if score.p_value is None else Cell(form.p_value(score.p_value), score.p_value)


def _best_by_pair(data: ReportData, metric: str) -> dict[str, float]:
    best: dict[str, float] = {}
    for row in data.systems:
        if score := row.score(metric):
            better = max if score.higher_is_better else min
            best[row.pair] = better(best.get(row.pair, score.value), score.value)
    return best


def results_document(data: ReportData) -> Document:
    """Make the table for documents, with the comparison seed by seed and the notes."""
    tables = [results_table(data) if data.systems else Table(), pairings.pairing_table(data)]
    return Document(data.title, tables, signatures=data.signatures(), notes=list(_notes(data)))


def _notes(data: ReportData) -> Iterator[str]:
    """Yield what the figures mean, beside the signatures."""
    if data.test_set:
        yield f"Test set: {data.test_set}"
    if data.leakage:
        yield f"Leakage guard: {data.leakage.verdict}"
    if data.baseline:
        of_comet = "; of COMET paired t-test" if any(name.startswith("COMET") for name in data.metrics()) else ""
        yield f"p: {form.p_meaning(data.baseline)}; paired bootstrap resampling{of_comet}"
    if data.paired:
        yield pairings.note(data)
    if data.speed_note:
        yield data.speed_note


def terminal(data: ReportData) -> Group:
    """Render what `kd run` ends with: the table, the comparison seed by seed, the verdict and the notes."""
    parts: list[RenderableType] = [replace(results_table(data).short, title=data.title).terminal()]
    if data.leakage and data.leakage.off:
        parts.append(Text("LEAKAGE GUARD OFF: train was not compared with the test sets", style="bold red"))
    if compared := pairings.pairing_table(data):
        parts.append(compared.terminal())
    for verdict in verdicts(data):
        of_pair = f"{verdict.pair}: " if verdict.pair else ""
        parts.append(Text(visible(f"{of_pair}{verdict.headline}"), style="bold"))
    for search in data.searches:
        of_pair = f" {search.pair}" if search.pair else ""
        parts.append(Text(visible(f"Search{of_pair}: {search.chosen.name} was chosen.")))
    # Below the tables and not in them: signatures stay whole, to be copied.
    lines = [*(f"{metric}: {signature}" for metric, signature in data.signatures().items()), *_notes(data)]
    return Group(*parts, Text("\n".join(map(visible, lines)), style="dim"))
