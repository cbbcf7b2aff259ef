"""The table of scores that `kd evaluate` prints and writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.text import Text

from kd.base.escapes import visible
from kd.metrics.significance import BOOTSTRAP, Resampling, Significance
from kd.report.formatting import SIGNIFICANT, metric_score, p_meaning, p_value
from kd.report.table import Cell, Column, Document, Table


@dataclass(frozen=True)
class ScoreTable:
    """The scores of all systems, with intervals and p-values if computed."""

    results: Sequence[Significance]
    baseline: str | None
    resampling: Resampling | None

    @property
    def systems(self) -> list[str]:
        """The systems in the order of the results."""
        return list(dict.fromkeys(result.system for result in self.results))

    @property
    def metrics(self) -> list[str]:
        """The metrics in the order of the results."""
        return list(dict.fromkeys(result.metric for result in self.results))

    @property
    def signatures(self) -> dict[str, str]:
        """The signature of each metric."""
        return {result.metric: result.signature for result in self.results}

    def table(self, *, p_values: bool = True) -> Table:
        """Make the table; without `p_values` a dagger marks the significant differences in LaTeX."""
        columns = [Column("system", [Cell(system) for system in self.systems], numeric=False)]
        for metric in self.metrics:
            found = {result.system: result for result in self.results if result.metric == metric}
            here = [found[system] for system in self.systems]
            best = max(here, key=lambda result: result.value if result.higher_is_better else -result.value).value
            columns.append(Column(metric, [_score(each, best, mark=not p_values) for each in here]))
            if p_values:
                columns.append(Column.of("p", [each.p_value for each in here], p_value))
        return Table(columns)

    def explanations(self, *, p_values: bool = True) -> Iterator[str]:
        """Yield notes on the numbers; without `p_values`, for a table that has daggers in their place."""
        if self.resampling is None:
            return
        yield (
            f"±: half the 95 % confidence interval, of {self.resampling.samples:,} bootstrap resamplings, "
            f"seed {self.resampling.seed}"
        )
        if any(result.p_value is not None for result in self.results):
            tests = _tests(self.resampling, self.metrics)
            meaning = (
                f"p: {p_meaning(self.baseline or '')}, two-sided" if p_values else f"tested against {self.baseline}"
            )
            yield f"{meaning}; {tests}"


def _score(result: Significance, best: float, *, mark: bool) -> Cell:
    detail = ""
    if result.interval is not None:
        detail = f"± {metric_score(result.metric, (result.interval[1] - result.interval[0]) / 2)}"
    significant = mark and result.p_value is not None and result.p_value < SIGNIFICANT
    text = metric_score(result.metric, result.value)
    return Cell(text, result.value, detail, strong=result.value == best, significant=significant)


def _tests(resampling: Resampling, metrics: Sequence[str]) -> str:
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


def terminal(scores: ScoreTable) -> Group:
    """Render the table for the terminal, with signatures and explanations below it."""
    notes = [*(f"{metric}: {signature}" for metric, signature in scores.signatures.items()), *scores.explanations()]
    return Group(scores.table().terminal(), Text("\n".join(map(visible, notes)), style="dim"))


def markdown(scores: ScoreTable) -> str:
    """Render the table as GitHub's Markdown, with its notes as a list."""
    return Document("", [scores.table()], signatures=scores.signatures, notes=list(scores.explanations())).markdown()


def latex(scores: ScoreTable) -> str:
    """Render the table for the booktabs package; a dagger marks p < 0.05, and a note says so if no p is that small."""
    table = scores.table(p_values=False)
    notes = list(scores.explanations(p_values=False))
    tested = [result.p_value for result in scores.results if result.p_value is not None]
    if tested and min(tested) >= SIGNIFICANT:
        notes.append(f"No difference from {scores.baseline} has p < {SIGNIFICANT}.")
    return Document("", [table], signatures=scores.signatures, notes=notes, baseline=scores.baseline or "").latex()
