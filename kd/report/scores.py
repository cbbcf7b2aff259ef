"""Scores of systems on one test set as a table: for the terminal, for Markdown and for LaTeX (booktabs).

Signatures, seeds and what was tested stand below each, since a score without them says little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kd.base.escapes import visible
from kd.metrics.significance import BOOTSTRAP, Resampling, Significance
from kd.report.formatting import metric_score, p_meaning, p_value
from kd.report.markup import latex_text, markdown_text

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class ScoreTable:
    """What is shown."""

    results: Sequence[Significance]
    baseline: str | None
    resampling: Resampling | None

    @property
    def systems(self) -> list[str]:
        """In the order of the results."""
        return list(dict.fromkeys(result.system for result in self.results))

    @property
    def metrics(self) -> list[str]:
        """In the order of the results."""
        return list(dict.fromkeys(result.metric for result in self.results))

    def result(self, system: str, metric: str) -> Significance:
        """A cell."""
        return next(item for item in self.results if (item.system, item.metric) == (system, metric))

    def best(self, metric: str) -> float:
        """The best score there is."""
        here = [item for item in self.results if item.metric == metric]
        return max((item.value if item.higher_is_better else -item.value, item.value) for item in here)[1]

    @property
    def tested(self) -> bool:
        """Whether there are p-values."""
        return any(result.p_value is not None for result in self.results)

    @property
    def signatures(self) -> dict[str, str]:
        """By metric."""
        return {result.metric: result.signature for result in self.results}

    def notes(self) -> list[str]:
        """The lines below the table."""
        return [*(f"{metric}: {signature}" for metric, signature in self.signatures.items()), *self.explanations()]

    def explanations(self) -> list[str]:
        """What the table's figures are."""
        lines = []
        if self.resampling:
            lines.append(
                f"±: half the 95 % confidence interval, of {self.resampling.samples:,} bootstrap resamplings, "
                f"seed {self.resampling.seed}"
            )
        if self.tested and self.resampling:
            meaning = p_meaning(self.baseline or "")
            lines.append(f"p: {meaning}, two-sided; {_test(self.resampling, self.metrics)}")
        return lines


def _test(resampling: Resampling, metrics: Sequence[str]) -> str:
    tests = []
    if any(not metric.startswith("COMET") for metric in metrics):
        tests.append(
            f"paired bootstrap resampling ({resampling.samples:,} resamplings)"
            if resampling.test == BOOTSTRAP
            else f"paired approximate randomisation ({resampling.trials:,} trials)"
        )
    if any(metric.startswith("COMET") for metric in metrics):
        tests.append("paired t-test of COMET")
    return f"{', '.join(tests)}, seed {resampling.seed}"


def terminal(table: ScoreTable) -> Group:
    """For people: best scores bold."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("system", overflow="fold")
    for header in _headers(table):
        shown.add_column(header, justify="right", no_wrap=True)
    for system in table.systems:
        cells = [Text(visible(system))]
        for metric in table.metrics:
            result = table.result(system, metric)
            cells.append(Text(_score(result), style="bold" if result.value == table.best(metric) else ""))
            if table.tested:
                cells.append(Text(_p(result)))
        shown.add_row(*cells)
    return Group(shown, Text("\n".join(map(visible, table.notes())), style="dim"))


def markdown(table: ScoreTable) -> str:
    """A table of GitHub's Markdown, with its notes as a list."""
    headers = _headers(table)
    lines = [f"| system | {' | '.join(headers)} |", f"| --- |{' ---: |' * len(headers)}"]
    for system in table.systems:
        cells = [markdown_text(system)]
        for metric in table.metrics:
            result = table.result(system, metric)
            text = _score(result)
            cells.append(f"**{text}**" if result.value == table.best(metric) else text)
            if table.tested:
                cells.append(_p(result))
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"{markdown_text(metric)} `{visible(signature)}`" for metric, signature in table.signatures.items()]
    notes += map(markdown_text, table.explanations())
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def latex(table: ScoreTable) -> str:
    """A `tabular` for the booktabs package; a dagger marks p < 0.05. The notes are text below it and a comment."""
    lines = [
        "% needs \\usepackage{booktabs}",
        *(f"% {note}" for note in table.notes()),
        f"\\begin{{tabular}}{{l{'r' * len(table.metrics)}}}",
        "\\toprule",
        f"System & {' & '.join(latex_text(metric) for metric in table.metrics)} \\\\",
        "\\midrule",
        *(_latex_row(table, system) for system in table.systems),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    notes = [latex_text(note) for note in table.notes()]
    if table.tested:
        notes.append(f"$\\dagger$: p $<$ {SIGNIFICANT}")
    return "\n".join([*lines, "", "\\par\\smallskip{\\footnotesize", " \\\\\n".join(notes), "\\par}"]) + "\n"


def _latex_row(table: ScoreTable, system: str) -> str:
    cells = [latex_text(system)]
    for metric in table.metrics:
        result = table.result(system, metric)
        text = metric_score(metric, result.value)
        if result.value == table.best(metric):
            text = f"\\textbf{{{text}}}"
        half = _half(result)
        if half:
            text += f" {{\\footnotesize $\\pm$ {half}}}"
        if result.p_value is not None and result.p_value < SIGNIFICANT:
            text += "$^{\\dagger}$"
        cells.append(text)
    return f"{' & '.join(cells)} \\\\"


def _headers(table: ScoreTable) -> list[str]:
    return [header for metric in table.metrics for header in ([metric, "p"] if table.tested else [metric])]


def _score(result: Significance) -> str:
    half = _half(result)
    text = metric_score(result.metric, result.value)
    return f"{text} ± {half}" if half else text


def _half(result: Significance) -> str:
    if result.interval is None:
        return ""
    return metric_score(result.metric, (result.interval[1] - result.interval[0]) / 2)


def _p(result: Significance) -> str:
    return "" if result.p_value is None else p_value(result.p_value)
