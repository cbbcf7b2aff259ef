"""The table of results for the terminal: what `kd run` ends with, the same numbers as on the page.

Signatures stand below the table, since a score without its signature says little.
"""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kd.base.escapes import visible
from kd.report import pairings
from kd.report.columns import results_columns
from kd.report.formatting import p_meaning
from kd.report.model import ReportData
from kd.report.verdict import verdicts


def results_table(data: ReportData) -> Group:
    """Make the table, best scores in bold, with verdict and notes; names are printed without rich's markup."""
    table = Table(
        title=Text(visible(data.title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    columns = [column for column in results_columns(data) if column.short]
    for column in columns:
        table.add_column(Text(column.short), justify="right" if column.numeric else "left", overflow="fold")
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(visible(cell.text), style="bold" if cell.strong else "") for cell in cells))
    parts: list[Table | Text] = [table]
    if data.leakage and data.leakage.off:
        parts.append(Text("LEAKAGE GUARD OFF: train was not compared with the test sets", style="bold red"))
    if data.paired:
        parts.append(_pairings(data))
    for verdict in verdicts(data):
        of_pair = f"{verdict.pair}: " if verdict.pair else ""
        parts.append(Text(visible(f"{of_pair}{verdict.headline}"), style="bold"))
    for search in data.searches:
        parts.append(
            Text(visible(f"Search{f' {search.pair}' if search.pair else ''}: {search.chosen.name} was chosen."))
        )
    return Group(*parts, _notes(data))


def _pairings(data: ReportData) -> Table:
    table = Table(title=Text("Seed by seed"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    columns = pairings.pairing_columns(data)
    for column in columns:
        table.add_column(Text(column.heading), justify="right" if column.numeric else "left", overflow="fold")
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(visible(cell.text), style="bold" if cell.strong else "") for cell in cells))
    return table


def _notes(data: ReportData) -> Text:
    """Signatures and what p means; below the table and not in it, so that signatures stay whole to be copied."""
    lines = [f"{metric}: {signature}" for metric, signature in data.signatures().items()]
    if data.leakage and not data.leakage.off:
        lines.append(f"leakage guard: {data.leakage.verdict}")
    if data.baseline:
        of_comet = ", paired t-test of COMET" if any(name.startswith("COMET") for name in data.signatures()) else ""
        lines.append(f"p: {p_meaning(data.baseline)}; paired bootstrap resampling{of_comet}")
    if (paired := pairings.note(data)) != pairings.NOTE:
        lines.append(paired)
    return Text("\n".join(map(visible, lines)), style="dim")
