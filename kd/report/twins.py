"""The table of results for documents: Markdown for a README, LaTeX (booktabs) for a paper, the numbers of the page.

Signatures and what p means stand below each, since a score without them says little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kd.report import pairings
from kd.report.columns import Cell, Column, results_columns
from kd.report.formatting import p_meaning
from kd.report.markup import latex_text, markdown_text
from kd.report.model import ReportData

HIDDEN = ("Kind",)  # a column that says what the names say
_DASH = "–"


def markdown(data: ReportData) -> str:
    """A table of GitHub's Markdown, best scores in bold, with its notes as a list."""
    columns = _columns(data)
    lines = [f"# {markdown_text(data.title)}", ""]
    if columns and data.systems:
        lines.append(markdown_table(columns))
    lines += _markdown_pairings(data)
    lines += [f"- {metric}: `{signature}`" for metric, signature in data.signatures().items()]
    lines += [f"- {markdown_text(note)}" for note in notes(data)]
    return "\n".join(lines) + "\n"


def latex(data: ReportData) -> str:
    """A `tabular` for the booktabs package, best scores in bold; notes are text below it."""
    columns = _columns(data)
    lines = [f"% {_comment(data.title)}", "% needs \\usepackage{booktabs}"]
    if columns and data.systems:
        lines.append(latex_table(columns))
    lines += _latex_pairings(data)
    signatures = [latex_text(f"{metric}: {signature}") for metric, signature in data.signatures().items()]
    below = [*signatures, *map(latex_text, notes(data))]
    if below:
        lines += ["\\par\\smallskip{\\footnotesize", " \\\\\n".join(below), "\\par}"]
    return "\n".join(lines) + "\n"


def markdown_table(columns: Sequence[Column]) -> str:
    """Columns as a table of GitHub's Markdown, an empty line after it."""
    lines = [
        f"| {' | '.join(markdown_text(column.heading) for column in columns)} |",
        f"| {' | '.join('---:' if column.numeric else '---' for column in columns)} |",
    ]
    for cells in zip(*(column.cells for column in columns), strict=True):
        lines.append(f"| {' | '.join(_markdown_cell(cell) for cell in cells)} |")
    return "\n".join([*lines, ""])


def latex_table(columns: Sequence[Column]) -> str:
    """Columns as a `tabular` for the booktabs package, an empty line after it."""
    lines = [
        f"\\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in columns)}}}",
        "\\toprule",
        f"{' & '.join(latex_text(column.heading) for column in columns)} \\\\",
        "\\midrule",
    ]
    for cells in zip(*(column.cells for column in columns), strict=True):
        lines.append(f"{' & '.join(_latex_cell(cell) for cell in cells)} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def notes(data: ReportData) -> Iterator[str]:
    """What the table's figures are, beside the signatures."""
    if data.test_set:
        yield f"Test set: {data.test_set}"
    if data.leakage:
        yield f"Leakage guard: {data.leakage.verdict}"
    if data.baseline:
        of_comet = "; of COMET paired t-test" if any(name.startswith("COMET") for name in data.metrics()) else ""
        yield f"p: {p_meaning(data.baseline)}; paired bootstrap resampling{of_comet}"
    if data.paired:
        yield pairings.note(data)
    if data.speed_note:
        yield data.speed_note


def _markdown_pairings(data: ReportData) -> list[str]:
    head, *rows = pairings.lines(data) if data.paired else [[]]
    if not rows:
        return []
    body = [f"| {' | '.join(map(markdown_text, cells))} |" for cells in (head, *rows)]
    return ["", body[0], f"|{' --- |' * len(head)}", *body[1:], ""]


def _latex_pairings(data: ReportData) -> list[str]:
    head, *rows = pairings.lines(data) if data.paired else [[]]
    if not rows:
        return []
    body = [f"{' & '.join(_latex_figure(cell) for cell in cells)} \\\\" for cells in (head, *rows)]
    table = [f"\\begin{{tabular}}{{{'l' * len(head)}}}", "\\toprule", body[0], "\\midrule", *body[1:]]
    return ["\\par\\medskip", *table, "\\bottomrule", "\\end{tabular}", ""]


def _latex_figure(text: str) -> str:
    return latex_text(text).replace("Δ", "$\\Delta$").replace("−", "$-$").replace("±", "$\\pm$")


def _columns(data: ReportData) -> list[Column]:
    return [column for column in results_columns(data) if column.heading not in HIDDEN]


def _markdown_cell(cell: Cell) -> str:
    return f"**{markdown_text(cell.text)}**" if cell.strong else markdown_text(cell.text)


def _latex_cell(cell: Cell) -> str:
    text = "--" if cell.text == _DASH else latex_text(cell.text)
    return f"\\textbf{{{text}}}" if cell.strong else text


def _comment(text: str) -> str:
    """A title on one line, which a comment is."""
    return " ".join(text.split())
