"""Comparisons of two rows of the results: their difference, its p-value, and the row that a row is tested against."""

from __future__ import annotations

from dataclasses import dataclass

from kd.models.systems import SystemKind
from kd.report import formatting as form
from kd.report.data import ReportData
from kd.report.systems import SystemRow

OPPONENTS = {
    SystemKind.student: ("control", "teacher"),
    SystemKind.export: ("teacher", "control"),
    SystemKind.external: ("teacher", "control"),
}
"""Roles that a system is tested against, the preferred one first; teachers and controls are tested against none."""


@dataclass(frozen=True)
class Difference:
    """The difference of two rows in one metric; the gain is positive where the first is better."""

    gain: float
    metric: str
    p_value: float | None

    @property
    def significant(self) -> bool:
        """Whether a test rules out that the choice of test segments caused the difference."""
        return self.p_value is not None and self.p_value < form.SIGNIFICANT

    @property
    def visible(self) -> bool:
        """Whether the difference is above zero as printed."""
        return self.size != form.metric_score(self.metric, 0)

    @property
    def size(self) -> str:
        """The difference without its sign, as printed."""
        return form.metric_score(self.metric, abs(self.gain))

    @property
    def place(self) -> str:
        """The position of the first row relative to the other: `1.3 BLEU above`, or `level in BLEU with`."""
        if not self.visible:
            return f"level in {self.metric} with"
        if self.metric == "TER":  # errors: the better score is the one below
            return f"{self.size} {self.metric} {'better' if self.gain > 0 else 'worse'} than"
        return f"{self.size} {self.metric} {'above' if self.gain > 0 else 'below'}"

    @property
    def tested(self) -> str:
        """The outcome of the test, to be put in parentheses."""
        if self.p_value is None:
            return "significance not tested"
        return f"{'significant' if self.significant else 'not significant'}, p\u00a0{equals(self.p_value)}"


def difference(data: ReportData, row: SystemRow, other: SystemRow | None, metric: str) -> Difference | None:
    """Return the difference of two rows and its p-value; None if one of them has no such score."""
    score, score_other = row.score(metric), other.score(metric) if other else None
    if score is None or other is None or score_other is None:
        return None
    gain = (score.value - score_other.value) * (1 if score.higher_is_better else -1)
    return Difference(gain, metric, p_value(data, row, other, metric))


def p_value(data: ReportData, row: SystemRow, other: SystemRow, metric: str) -> float | None:
    """Return the p-value of a test between two rows, whichever was the baseline; None if they were not tested."""
    for one, two in ((row, other), (other, row)):
        score = one.score(metric)
        if two.name == data.baseline and score is not None and score.p_value is not None:
            return score.p_value
    names = {row.name, other.name}
    tests = (test for test in data.comparisons if (test.metric, test.pair) == (metric, row.pair))
    return next((test.p_value for test in tests if {test.system, test.other} == names), None)


def opponent(data: ReportData, row: SystemRow) -> SystemRow | None:
    """Return the row that a row's p-values are against.

    Students are tested against the control, exports and external systems against the teacher; without such a test,
    against the baseline of the evaluation.
    """
    names = [getattr(data.verdict, role) for role in OPPONENTS.get(row.kind, ())]
    rows = (data.system(name, row.pair) for name in (*names, *([data.baseline] if names else [])))
    return next((other for other in rows if other and other is not row and _compared(data, row, other)), None)


def _compared(data: ReportData, row: SystemRow, other: SystemRow) -> bool:
    return any(p_value(data, row, other, score.metric) is not None for score in row.scores)


def kept_share(row: SystemRow, other: SystemRow, metric: str) -> float | None:
    """Return a row's score as a share of another's; None for error rates and scores that are not positive."""
    score, second = row.score(metric), other.score(metric)
    if score is None or second is None or not score.higher_is_better or score.value <= 0 or second.value <= 0:
        return None
    return score.value / second.value


def equals(value: float) -> str:
    """Format a p-value like `p_equals`, with a non-breaking space."""
    return form.p_equals(value).replace(" ", "\u00a0")
