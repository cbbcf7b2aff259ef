"""The tables of results: on the page, in the terminal after a run, and as Markdown and LaTeX for documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from rich.console import Group, RenderableType
from rich.text import Text

from kd.base.escapes import visible
from kd.base.text import amount, duration
from kd.report import formatting as form
from kd.report import seeds
from kd.report.comparing import opponent, p_value
from kd.report.data import ReportData
from kd.report.systems import MetricScore, SystemRow
from kd.report.table import NOT_APPLICABLE, Cell, Column, Document, Table
from kd.report.verdict import verdicts

LABELS = {
    "tokens_per_second": "Tokens per second",
    "latency_ms": "Latency",
    "memory_megabytes": "Memory",
    "load_seconds": "Loading time",
    "all_cores": "All cores",
}
"""Display names of the measurements on which the stage speed has notes."""
DISTURBED = "busy"  # beside a speed


def results_table(data: ReportData, *, intervals: bool = False) -> Table:
    """Make the table of results, one row per system.

    Args:
        data: The report.
        intervals: Whether to add confidence intervals and opponents, and put the main columns first (for the page).
    """
    rows = data.systems

    def numbers(heading: str, value: Callable[[SystemRow], float | None], short: str = "") -> Column:
        return Column.of(heading, map(value, rows), amount, short=short)

    columns = [Column("System", [Cell(row.name, row.name) for row in rows], numeric=False, short="System")]
    if len({row.pair for row in rows}) > 1:
        columns.append(Column("Pair", [Cell(row.pair, row.pair) for row in rows], numeric=False, short="Pair"))
    scores = {metric: list(_metric_columns(data, metric, intervals)) for metric in data.metrics()}
    parameters = numbers("Parameters, millions", lambda row: row.parameters and row.parameters / 1e6, "M param.")
    size = numbers("Size, MB", lambda row: row.megabytes, "MB")
    speed = _speeds(rows, "Sentences/s", "sent./s")
    if intervals:  # the page: a narrow screen shows the first columns
        kinds = Column("Kind", [Cell(row.kind.value, row.kind.value) for row in rows], numeric=False)
        columns += [*scores.pop(data.verdict.metric, []), speed, size]
        columns += [*chain.from_iterable(scores.values()), kinds, parameters]
    else:
        columns += [*chain.from_iterable(scores.values()), parameters, size, speed]
    columns += [
        Column.of("Updates", [row.training_updates for row in rows], lambda value: form.count(int(value))),
        Column.of("Training", [row.training_seconds for row in rows], duration),
    ]
    return Table(columns, "Table of results", [row.kind.value for row in rows])


def _metric_columns(data: ReportData, metric: str, intervals: bool) -> Iterator[Column]:
    """Yield the columns of a metric's scores and of its p-values, if there are any."""
    scores = [row.score(metric) for row in data.systems]
    best = _best_by_pair(data, metric)
    values = [
        _score(score, score.value == best[row.pair], intervals) if score else Cell()
        for row, score in zip(data.systems, scores, strict=True)
    ]
    tests = [_test(data, row, metric, intervals) if row.score(metric) else Cell() for row in data.systems]
    yield Column(metric, values, short=metric)
    if any(cell.sort is not None for cell in tests):
        yield Column("p", tests, explanation=f"p: {form.p_meaning()}, in {metric}", short="p")


def _score(score: MetricScore, best: bool, interval: bool) -> Cell:
    ends = (form.metric_score(score.metric, end) for end in score.interval or ())
    return Cell(
        form.metric_score(score.metric, score.value), score.value, "–".join(ends) if interval else "", strong=best
    )


def _test(data: ReportData, row: SystemRow, metric: str, named: bool) -> Cell:
    """Make a cell with the p-value against the row's opponent, named below it if there is space."""
    other = opponent(data, row)
    value = p_value(data, row, other, metric) if other else None
    if value is None or other is None:
        return Cell(NOT_APPLICABLE)
    return Cell(form.p_value(value), value, f"against {other.name}" if named else "")


def tested_against(data: ReportData) -> str:
    """List which systems are tested against which: `student against control; student int8 against teacher ensemble`."""
    found: dict[str, dict[str, None]] = {}
    for row in data.systems:
        if other := opponent(data, row):
            found.setdefault(other.name, {})[row.name] = None
    return "; ".join(f"{', '.join(rows)} against {other}" for other, rows in found.items())


def _best_by_pair(data: ReportData, metric: str) -> dict[str, float]:
    best: dict[str, float] = {}
    for row in data.systems:
        if score := row.score(metric):
            better = max if score.higher_is_better else min
            best[row.pair] = better(best.get(row.pair, score.value), score.value)
    return best


def _speeds(rows: Sequence[SystemRow], heading: str, short: str = "") -> Column:
    """Make the column of speeds; speeds measured on a busy machine are marked."""
    cells = [
        Cell() if row.sentences_per_second is None else
        Cell(amount(row.sentences_per_second), row.sentences_per_second, DISTURBED if row.speed.disturbed else "")
        for row in rows
    ]  # fmt: skip
    return Column(heading, cells, short=short)


def set_table(data: ReportData) -> Table:
    """Make the table of all systems' scores on each of several test sets."""
    rows = [row for row in data.systems if any(row.name in each.scores for each in data.test_sets)]
    columns = [Column("System", [Cell(row.name, row.name) for row in rows], numeric=False)]
    for each in data.test_sets:
        of_pair = f"{each.pair} " if each.pair else ""
        for metric in data.metrics():
            values = [
                next((score.value for score in each.scores.get(row.name, []) if score.metric == metric), None)
                if row.pair == each.pair
                else None
                for row in rows
            ]
            column = Column.of(f"{of_pair}{each.name} {metric}", values, partial(form.metric_score, metric))
            explanation = f"{form.count(each.segments)} segments; leakage guard: {form.of_test_set(each.leakage)}"
            columns.append(replace(column, explanation=explanation))
    return Table(columns, "Scores on each test set")


def speed_table(data: ReportData) -> Table:
    """Make the table of speed and memory; empty if it would add nothing to the table of results."""
    rows = [row for row in data.systems if row.sentences_per_second]
    cores = next((row.speed.cores for row in rows if row.speed.cores), None)
    several = len({row.pair for row in rows}) > 1
    names = [f"{row.name} {row.pair}" if several else row.name for row in rows]

    def numbers(heading: str, value: Callable[[SystemRow], float | None]) -> Column:
        return Column.of(heading, map(value, rows), amount)

    columns = [
        Column("System", [Cell(name, name) for name in names], numeric=False),
        _speeds(rows, "Sentences/s"),
        numbers(f"Sentences/s, {cores} cores", lambda row: row.speed.sentences_per_second_all_cores),
        numbers("Tokens/s", lambda row: row.speed.tokens_per_second),
        numbers("Latency, ms (median)", lambda row: row.speed.latency_ms),
        numbers("Slowest 1 %, ms", lambda row: row.speed.latency_p99_ms),
        numbers("Memory, MB", lambda row: row.speed.memory_megabytes),
        numbers("GPU memory, MB", lambda row: row.speed.gpu_megabytes),
        numbers("Loads in, s", lambda row: row.speed.load_seconds),
        numbers("On disk, MB", lambda row: row.megabytes),
        numbers("Cores used by other processes", lambda row: row.speed.others),
    ]
    table = Table(columns, "Speed, latency and memory")
    return table if len(table.columns) > 3 else Table()  # the table of results has rate and size


def results_document(data: ReportData) -> Document:
    """Make the table for documents, with the comparison seed by seed and the notes."""
    tables = [results_table(data) if data.systems else Table(), seeds.seed_table(data)]
    return Document(data.title, tables, signatures=data.signatures(), notes=list(_notes(data)))


def test_note(data: ReportData) -> str:
    """Define p, the systems that it compares, and the test."""
    of_comet = "; of COMET paired t-test" if any(name.startswith("COMET") for name in data.metrics()) else ""
    compared = f" ({against})" if (against := tested_against(data)) else ""
    return f"p: {form.p_meaning()}{compared}; paired bootstrap resampling (Koehn, 2004){of_comet}"


def _notes(data: ReportData) -> Iterator[str]:
    """Yield notes on the numbers, in addition to the signatures."""
    if data.test_set:
        yield f"Test set: {data.test_set}"
    if data.leakage:
        yield f"Leakage guard: {data.leakage.verdict}"
    if data.baseline:
        yield test_note(data)
    if data.paired:
        yield seeds.note(data)
    if data.speed_note:
        yield data.speed_note
    if any(row.speed.disturbed for row in data.systems):
        yield f"{DISTURBED}: {form.DISTURBED_MEANING}"


def terminal(data: ReportData) -> Group:
    """Render the results that `kd run` prints: the table, the comparison seed by seed, the verdict and the notes."""
    parts: list[RenderableType] = [replace(results_table(data).short, title=data.title).terminal()]
    if data.leakage and data.leakage.off:
        parts.append(Text("LEAKAGE GUARD OFF: train was not compared with the test sets", style="bold red"))
    if compared := seeds.seed_table(data):
        parts.append(compared.terminal())
    for verdict in verdicts(data):
        of_pair = f"{verdict.pair}: " if verdict.pair else ""
        parts.append(Text(visible(f"{of_pair}{verdict.headline}"), style="bold"))
    if data.verdict.lessons:
        parts.append(Text(visible(data.verdict.lessons.replace("It ", f"The {data.verdict.student} ", 1))))
    for search in data.searches:
        of_pair = f" {search.pair}" if search.pair else ""
        parts.append(Text(visible(f"Search{of_pair}: {search.chosen.name} was chosen.")))
    # Signatures stand below the tables, so that they stay whole and can be copied.
    lines = [*(f"{metric}: {signature}" for metric, signature in data.signatures().items()), *_notes(data)]
    return Group(*parts, Text("\n".join(map(visible, lines)), style="dim"))
