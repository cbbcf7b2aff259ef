"""Tables: one class with renderers for the terminal, Markdown, LaTeX (booktabs) and HTML.

A column without any value is left out. Each renderer escapes text, shows control characters visibly and prints the best
values in bold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup, escape
from rich import box
from rich import table as rich_table
from rich.text import Text

from kd.base.escapes import visible

NOT_APPLICABLE = "–"
_LATEX = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar\allowbreak{}",  # signatures are long
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "−": "$-$",
    "–": "--",
}


@dataclass(frozen=True)
class Cell:
    """One value of a table."""

    text: str = ""  # empty: not measured
    sort: float | str | None = None  # sorting key on the page; None comes last
    detail: str = ""  # shown smaller: an interval, an update
    strong: bool = False  # the best of its column
    significant: bool = False  # LaTeX marks it by a dagger


@dataclass(frozen=True)
class Column:
    """A heading and the cells below it."""

    heading: str
    cells: Sequence[Cell]
    numeric: bool = True
    explanation: str = ""
    short: str = ""  # heading in the short form; empty: the column is left out there

    @staticmethod
    def of(heading: str, values: Iterable[float | None], shown: Callable[[float], str], *, short: str = "") -> Column:
        """Make a column of numbers; None stays empty."""
        cells = [Cell() if value is None else Cell(shown(value), value) for value in values]
        return Column(heading, cells, short=short)

    @property
    def filled(self) -> bool:
        """Whether any cell has a value."""
        return any(cell.text and cell.text != NOT_APPLICABLE for cell in self.cells)


@dataclass(frozen=True)
class Table:
    """A table: columns of equal length.

    Attributes:
        columns: The columns with a value; empty columns are dropped.
        title: The heading of the table.
        row_classes: CSS class of each row.
        total: Texts of the final row of totals, one per column.
    """

    columns: Sequence[Column] = ()
    title: str = ""
    row_classes: Sequence[str] = ()
    total: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", [column for column in self.columns if column.filled])

    def __bool__(self) -> bool:
        return bool(self.columns)

    @staticmethod
    def of_rows(
        headings: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", text: Sequence[str] = ()
    ) -> Table:
        """Make a table of rows of texts.

        Args:
            headings: One per column.
            rows: Texts, one per column.
            title: The heading of the table.
            text: Headings of the columns that are not numbers; by default the first.
        """
        cells = list(zip(*rows, strict=True)) or [()] * len(headings)
        words = set(text or headings[:1])
        columns = [
            Column(heading, [Cell(each) for each in column], numeric=heading not in words)
            for heading, column in zip(headings, cells, strict=True)
        ]
        return Table(columns, title)

    @property
    def short(self) -> Table:
        """The table with short headings, for narrow places."""
        return replace(self, columns=[replace(each, heading=each.short) for each in self.columns if each.short])

    @property
    def rows(self) -> Iterator[tuple[Cell, ...]]:
        """The cells of each row."""
        return zip(*(column.cells for column in self.columns), strict=True)

    def terminal(self) -> rich_table.Table:
        """Render it with rich; names are not interpreted as rich's markup."""
        shown = rich_table.Table(
            title=Text(visible(self.title)) if self.title else None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for column in self.columns:
            shown.add_column(
                Text(visible(column.heading)), justify="right" if column.numeric else "left", overflow="fold"
            )
        for cells in self.rows:
            shown.add_row(*(Text(visible(_joined(cell)), style="bold" if cell.strong else "") for cell in cells))
        return shown

    def markdown(self) -> str:
        """Render it as GitHub's Markdown, with an empty line after it."""
        lines = [
            f"| {' | '.join(markdown_text(column.heading) for column in self.columns)} |",
            f"| {' | '.join('---:' if column.numeric else '---' for column in self.columns)} |",
        ]
        for cells in self.rows:
            texts = (f"**{_markdown(cell)}**" if cell.strong else _markdown(cell) for cell in cells)
            lines.append(f"| {' | '.join(texts)} |")
        return "\n".join([*lines, ""])

    def latex(self) -> str:
        """Render it as a `tabular` for the booktabs package, with an empty line after it."""
        lines = [
            f"\\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in self.columns)}}}",
            "\\toprule",
            f"{' & '.join(latex_text(column.heading) for column in self.columns)} \\\\",
            "\\midrule",
            *(f"{' & '.join(map(_latex, cells))} \\\\" for cells in self.rows),
        ]
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])

    def html(self, classes: str = "", label: str = "") -> Markup:
        """Render it as an HTML table that scrolls sideways; `label` takes the place of its title."""
        opening = Markup('<table class="{}">').format(classes) if classes else Markup("<table>")
        parts = [
            Markup('<div class="scroll" tabindex="0" role="region" aria-label="{}">').format(
                visible(label or self.title)
            ),
            opening,
            Markup("<thead><tr>{}</tr></thead>").format(Markup("").join(map(_html_heading, self.columns))),
            Markup("<tbody>"),
        ]
        for number, cells in enumerate(self.rows):
            row = Markup('<tr class="{}">').format(self.row_classes[number]) if self.row_classes else Markup("<tr>")
            texts = (_html_cell(cell, column, first=column is self.columns[0]) for cell, column in
                     zip(cells, self.columns, strict=True))  # fmt: skip
            parts.append(row + Markup("").join(texts) + Markup("</tr>"))
        parts += [Markup("</tbody>"), self._html_total(), Markup("</table>"), Markup("</div>")]
        return Markup("\n").join(parts)

    def _html_total(self) -> Markup:
        if not self.total:
            return Markup("")
        cells = [
            Markup('<th scope="row">{}</th>').format(text)
            if column is self.columns[0]
            else Markup("<td{}>{}</td>").format(_html_class(column), text)
            for text, column in zip(self.total, self.columns, strict=True)
        ]
        return Markup("<tfoot><tr>{}</tr></tfoot>").format(Markup("").join(cells))


@dataclass(frozen=True)
class Document:
    """Tables for a paper or a README, with the notes that belong to them."""

    title: str
    tables: Sequence[Table]
    paragraphs: Sequence[str] = ()  # before the tables
    signatures: Mapping[str, str] = field(default_factory=dict)  # by metric
    notes: Sequence[str] = ()
    baseline: str = ""  # that p-values compare with, for the note on LaTeX's dagger

    def markdown(self) -> str:
        """Render it as GitHub's Markdown, notes as a list."""
        parts = [f"# {markdown_text(self.title)}"] if self.title else []
        parts += [markdown_text(text) for text in self.paragraphs]
        parts += [table.markdown().strip() for table in self.tables if table]
        notes = [f"- {markdown_text(metric)}: `{visible(text)}`" for metric, text in self.signatures.items()]
        notes += [f"- {markdown_text(note)}" for note in self.notes]
        return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])]) + "\n"

    def latex(self) -> str:
        """Render it for the booktabs package; title, paragraphs and signatures are comments, notes small text below."""
        signatures = [f"{metric}: {text}" for metric, text in self.signatures.items()]
        comments = [self.title, "needs \\usepackage{booktabs}", *self.paragraphs, *signatures]
        parts = ["\n".join(f"% {' '.join(text.split())}" for text in comments if text)]
        parts += [table.latex() for table in self.tables if table]
        below = [latex_text(text) for text in (*signatures, *self.notes)]
        if any(cell.significant for table in self.tables for cells in table.rows for cell in cells):
            against = f" against {latex_text(self.baseline)}" if self.baseline else ""
            below.append(f"$\\dagger$: p $<$ 0.05{against}")
        if below:
            parts.append("\n".join(["\\par\\smallskip{\\footnotesize", " \\\\\n".join(below), "\\par}"]))
        return "\n".join(parts) + "\n"


def markdown_text(text: str) -> str:
    """Escape text for GitHub's Markdown, in a table as well."""
    return "".join(f"\\{char}" if char in "\\`*_|<>[]" else char for char in visible(text))


def latex_text(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(_LATEX.get(char, char) for char in visible(text))


def _joined(cell: Cell) -> str:
    return f"{cell.text} {cell.detail}".rstrip()


def _markdown(cell: Cell) -> str:
    return markdown_text(_joined(cell))


def _latex(cell: Cell) -> str:
    text = latex_text(cell.text)
    text = f"\\textbf{{{text}}}" if cell.strong else text
    text += f" {{\\footnotesize {latex_text(cell.detail)}}}" if cell.detail else ""
    return text + ("$^{\\dagger}$" if cell.significant else "")


def _html_class(column: Column) -> Markup:
    return Markup(' class="number"') if column.numeric else Markup("")


def _html_heading(column: Column) -> Markup:
    text = escape(visible(column.heading))
    if column.explanation:
        text = Markup('<abbr title="{}">{}</abbr>').format(visible(column.explanation), text)
    return Markup('<th scope="col"{}>{}</th>').format(_html_class(column), text)


def _html_cell(cell: Cell, column: Column, *, first: bool) -> Markup:
    text = escape(visible(cell.text))
    text = Markup("<strong>{}</strong>").format(text) if cell.strong else text
    detail = Markup("<small>{}</small>").format(visible(cell.detail)) if cell.detail else Markup("")
    sort = Markup("") if cell.sort is None else Markup(' data-sort="{}"').format(cell.sort)
    tag, scope = ("th", Markup(' scope="row"')) if first else ("td", Markup(""))
    return Markup("<{0}{1}{2}{3}>{4}{5}</{0}>").format(Markup(tag), scope, _html_class(column), sort, text, detail)
