"""The table of results for the terminal: what `kd run` ends with, the same numbers as on the page.

Signatures stand below the table, since a score without its signature says little.
"""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kd.report.columns import results_columns
from kd.report.formatting import visible
from kd.report.model import ReportData


def results_table(data: ReportData) -> Group:
    """Make the table of results, best scores in bold, and its notes; names are printed without rich's markup."""
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
    notes = _notes(data)
    if data.leakage and data.leakage.off:
        return Group(
            table, Text("LEAKAGE GUARD OFF: train was not compared with the test sets", style="bold red"), notes
        )
    return Group(table, notes)


def _notes(data: ReportData) -> Text:
    """Signatures and what p means; below the table and not in it, so that signatures stay whole to be copied."""
    lines = [f"{metric}: {signature}" for metric, signature in data.signatures().items()]
    if data.leakage and not data.leakage.off:
        lines.append(f"leakage guard: {data.leakage.verdict}")
    if data.baseline:
        of_comet = ", paired t-test of COMET" if any(name.startswith("COMET") for name in data.signatures()) else ""
        lines.append(f"p: of no difference from {data.baseline}, paired bootstrap resampling{of_comet}")
    return Text("\n".join(map(visible, lines)), style="dim")
