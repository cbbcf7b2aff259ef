"""The table of a search: its cells in each format, scores over seeds and speeds; for the page, Markdown and LaTeX.

Rows stand by quality, the best first; the chosen one is marked, and so is what lies on the Pareto front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from kd.base.text import amount
from kd.report import formatting as form
from kd.report.model import CellForm, Search, SearchCell
from kd.report.table import Cell, Column, Document, Table

CHOSEN, FRONT = "chosen", "front"


@dataclass(frozen=True)
class Row:
    """A cell in one format."""

    cell: SearchCell
    form: CellForm


def search_rows(search: Search) -> list[Row]:
    """Every cell in every format, by the mean of the search's metric."""
    rows = [Row(cell, form) for cell in search.cells for form in cell.forms]
    return sorted(rows, key=lambda row: (-_mean(row, search.metric), row.cell.name, row.form.format))


def search_table(search: Search) -> Table:
    """Make the table; the class of a row says whether it was chosen or is on the Pareto front."""
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
            columns.append(_figures("±", rows, partial(_spread, metric=metric), "{:.2f}".format))
    columns += [
        _figures("Sentences/s", rows, lambda row: row.form.sentences_per_second),
        _figures("all cores", rows, lambda row: row.form.sentences_per_second_all_cores),
        _figures("Latency, ms", rows, lambda row: row.form.latency_ms),
        _figures("99 % below, ms", rows, lambda row: row.form.latency_p99_ms),
        _figures("Memory, MB", rows, lambda row: row.form.memory_megabytes),
        _figures("On disk, MB", rows, lambda row: row.form.megabytes),
        _figures("Parameters, M", rows, lambda row: row.cell.parameters / 1e6),
        Column("Pareto", [Cell("yes", 1) if row.form.on_front else Cell("", 0) for row in rows], numeric=False),
    ]
    classes = [CHOSEN if _is_chosen(search, row) else FRONT if row.form.on_front else "" for row in rows]
    return Table(columns, "Cells of the search", classes)


def search_notes(search: Search) -> Iterator[str]:
    """What the figures are, and what was chosen by which rule."""
    yield search.rule
    yield from search.doubts
    seeds = max(len(cell.seeds) for cell in search.cells)
    updates = sorted({cell.updates for cell in search.cells})
    trained = " to ".join(form.count(number) for number in dict.fromkeys((updates[0], updates[-1])))
    spread = f", mean of {seeds} seeds; ±: their standard deviation" if seeds > 1 else ", one seed"
    yield f"Cells: encoder layers-decoder layers-width-data, {trained} updates each{spread}"
    yield f"Scores: {search.held_out}"
    once = "; of each architecture one cell was measured and stands for the others" if search.once_a_shape else ""
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
