"""The search on the page: the records that the stage `choose` writes as JSON, and the table of its cells.

Rows are sorted by quality, the best first; the chosen cell and the Pareto front are marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from kd.base.text import amount
from kd.metrics.tradeoff import precise
from kd.report import formatting as form
from kd.report.table import Cell, Column, Document, Table

CHOSEN, FRONT = "chosen", "front"


@dataclass(frozen=True)
class CellScore:
    """The dev scores of a cell over its seeds."""

    metric: str
    values: list[float]  # one per seed, unrounded
    mean: float
    spread: float | None = None  # standard deviation over seeds (n - 1); None of one seed


@dataclass(frozen=True)
class CellForm:
    """A cell exported to a number format; None: not measured."""

    format: str
    scores: list[CellScore]
    sentences_per_second: float | None = None  # on one core
    sentences_per_second_all_cores: float | None = None
    latency_ms: float | None = None  # of single sentences on one core: the median
    latency_p99_ms: float | None = None
    memory_megabytes: float | None = None
    megabytes: float | None = None  # on disk
    on_front: bool = False  # on the Pareto front of quality and speed

    def score(self, metric: str) -> CellScore | None:
        """Return the score of that metric, if there is one."""
        return next((score for score in self.scores if score.metric == metric), None)


@dataclass(frozen=True)
class SearchCell:
    """An architecture trained on one kind of data."""

    name: str
    shape: str  # encoder layers, decoder layers, width
    data: str
    model: dict[str, int]  # encoder_layers, decoder_layers, width, ffn, heads
    parameters: int
    seeds: list[int]
    updates: int  # of each seed
    forms: list[CellForm]


@dataclass(frozen=True)
class Chosen:
    """The cell whose shape and data the student uses."""

    name: str
    shape: str
    data: str
    model: dict[str, int]


@dataclass(frozen=True)
class Search:
    """A search with its result."""

    chosen: Chosen
    best: str  # the cell with the best mean
    metric: str  # by its name in scores: BLEU
    speed: str  # one_core | all_cores | latency | latency_p99
    format: str  # of quality and speed in the rule
    loss_allowed: float
    rule: str  # in words
    doubts: list[str] = field(default_factory=list)
    cells: list[SearchCell] = field(default_factory=list)
    held_out: str = ""  # in words: what was scored
    signatures: dict[str, str] = field(default_factory=dict)
    speed_note: str = ""
    once_a_shape: bool = False  # speed was measured for one cell of each shape
    pair: str = ""  # language pair; the report leaves it empty where there is one


@dataclass(frozen=True)
class Row:
    """A cell in one format: a row of the table."""

    cell: SearchCell
    form: CellForm


def search_rows(search: Search) -> list[Row]:
    """Return every cell in every format, the best mean first."""
    rows = [Row(cell, form) for cell in search.cells for form in cell.forms]
    return sorted(rows, key=lambda row: (-_mean(row, search.metric), row.cell.name, row.form.format))


def search_table(search: Search) -> Table:
    """Make the table; a row's class marks the chosen cell and the Pareto front."""
    rows = search_rows(search)
    several = any(len(cell.seeds) > 1 for cell in search.cells)
    names = [Cell(row.cell.name, row.cell.name, strong=_is_chosen(search, row)) for row in rows]
    columns = [
        Column("Cell", names, numeric=False),
        Column("Format", [Cell(row.form.format, row.form.format) for row in rows], numeric=False),
    ]
    for metric in dict.fromkeys(score.metric for row in rows for score in row.form.scores):
        columns.append(_figures(metric, rows, partial(_mean, metric=metric), partial(form.metric_score, metric)))
        if several:
            columns.append(_figures("±", rows, partial(_spread, metric=metric), partial(precise, metric=metric)))
    columns += [
        _figures("Sentences/s", rows, lambda row: row.form.sentences_per_second),
        _figures("all cores", rows, lambda row: row.form.sentences_per_second_all_cores),
        _figures("Latency, ms (median)", rows, lambda row: row.form.latency_ms),
        _figures("Slowest 1 %, ms", rows, lambda row: row.form.latency_p99_ms),
        _figures("Memory, MB", rows, lambda row: row.form.memory_megabytes),
        _figures("On disk, MB", rows, lambda row: row.form.megabytes),
        _figures("Parameters, millions", rows, lambda row: row.cell.parameters / 1e6),
        Column("Pareto", [Cell("yes", 1) if row.form.on_front else Cell("", 0) for row in rows], numeric=False),
    ]
    classes = [CHOSEN if _is_chosen(search, row) else FRONT if row.form.on_front else "" for row in rows]
    return Table(columns, "Cells of the search", classes)


def search_notes(search: Search) -> Iterator[str]:
    """Yield the rule of the choice and notes on the numbers."""
    yield search.rule
    yield from search.doubts
    seeds = max(len(cell.seeds) for cell in search.cells)
    updates = sorted({cell.updates for cell in search.cells})
    trained = " to ".join(form.count(number) for number in dict.fromkeys((updates[0], updates[-1])))
    spread = f", mean of {seeds} seeds; ±: their standard deviation" if seeds > 1 else ", one seed"
    yield f"Cells: encoder layers-decoder layers-width-data, {trained} updates each{spread}"
    yield f"Scores: {search.held_out}"
    once = "; measured for one cell of each architecture" if search.once_a_shape else ""
    yield f"Speed: {search.speed_note}{once}"


def search_document(search: Search) -> Document:
    """Make the table for documents, with its notes."""
    title = f"Search{f' {search.pair}' if search.pair else ''}"
    return Document(title, [search_table(search)], signatures=search.signatures, notes=list(search_notes(search)))


def _is_chosen(search: Search, row: Row) -> bool:
    return (row.cell.name, row.form.format) == (search.chosen.name, search.format)


def _mean(row: Row, metric: str) -> float:
    score = row.form.score(metric)
    return score.mean if score else float("-inf")


def _spread(row: Row, metric: str) -> float | None:
    score = row.form.score(metric)
    return score.spread if score else None


def _figures(
    heading: str, rows: list[Row], value: Callable[[Row], float | None], printed: Callable[[float], str] = amount
) -> Column:
    return Column.of(heading, map(value, rows), printed)
