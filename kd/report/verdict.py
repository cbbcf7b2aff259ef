"""The paragraph that the page opens with: which student, how good, how fast, and what distillation brought.

It is composed from the numbers alone, says the same whichever way they came out, and calls a difference real only where
a significance test does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kd.report import formatting as form
from kd.report.model import ReportData, SystemRow, VerdictRoles

SIGNIFICANT = 0.05
"""The level at which the field calls a difference significant."""
NO_TRANSLATION = 5.0
"""BLEU below which output has little to do with its source: what differs there, however surely, is no success."""


@dataclass(frozen=True)
class Verdict:
    """What a run came to, for one language pair."""

    pair: str  # empty where there is only one
    headline: str  # one clause with its number
    text: str  # the paragraph below


@dataclass(frozen=True)
class _Difference:
    """Of two rows in the metric of the verdict; positive where the first is better."""

    gain: float
    metric: str
    p_value: float | None

    @property
    def significant(self) -> bool:
        return self.p_value is not None and self.p_value < SIGNIFICANT

    @property
    def size(self) -> str:
        return f"{form.score(abs(self.gain))} {self.metric}"

    @property
    def tested(self) -> str:
        """The outcome of the test, for a parenthesis."""
        if self.p_value is None:
            return "significance not tested"
        return f"{'significant' if self.significant else 'not significant'}, p\u00a0{_equals(self.p_value)}"


def verdicts(data: ReportData) -> list[Verdict]:
    """One verdict for each language pair of the table."""
    pairs = dict.fromkeys(row.pair for row in data.systems)
    return [_verdict(data, pair, shown=pair if len(pairs) > 1 else "") for pair in pairs] or [
        Verdict("", "No system was scored", "The run has no results yet.")
    ]


def _verdict(data: ReportData, pair: str, shown: str) -> Verdict:
    roles = data.verdict
    student = data.system(roles.student, pair)
    if student is None or student.score(roles.metric) is None:
        return Verdict(shown, "No student was scored", "The table below shows what there is.")
    control, teacher = data.system(roles.control, pair), data.system(roles.teacher, pair)
    sentences = [
        _quality(data, roles, student, teacher),
        _distillation(data, roles, student, control),
        *_deployment(roles, student, teacher, data.system(roles.export, pair)),
    ]
    return Verdict(shown, _headline(data, roles, student, control, teacher), " ".join(filter(None, sentences)))


def _headline(
    data: ReportData, roles: VerdictRoles, student: SystemRow, control: SystemRow | None, teacher: SystemRow | None
) -> str:
    if (score := student.score(roles.metric)) is not None and roles.metric == "BLEU" and score.value < NO_TRANSLATION:
        return f"The student does not translate yet: {_value(roles, student)}"
    difference = _difference(data, roles, student, control)
    if difference is not None:
        place = f"the student is {_place(difference)} the control"
        if difference.p_value is None:
            return f"T{place[1:]}; significance was not tested"
        if not difference.significant:
            return f"No proven difference: {place}, p\u00a0{_equals(difference.p_value)}"
        outcome = "Distillation helped" if difference.gain > 0 else "Distillation did harm"
        return f"{outcome}: {place}, p\u00a0{_equals(difference.p_value)}"
    difference = _difference(data, roles, student, teacher)
    if difference is not None:
        return f"The student is {_place(difference)} its teacher"
    return f"The student reaches {_value(roles, student)}"


def _quality(data: ReportData, roles: VerdictRoles, student: SystemRow, teacher: SystemRow | None) -> str:
    """Against what was distilled."""
    reached = f"The {student.name} reaches {_value(roles, student)}"
    difference = _difference(data, roles, student, teacher)
    if difference is None or teacher is None:
        return f"{reached}."
    return f"{reached}, {_place(difference)} {_named(teacher)} ({_value(roles, teacher)}; {difference.tested})."


def _distillation(data: ReportData, roles: VerdictRoles, student: SystemRow, control: SystemRow | None) -> str:
    """Against the same model trained on the human translations."""
    difference = _difference(data, roles, student, control)
    if difference is None or control is None:
        return "There is no control, so this run does not say what distillation brought."
    sentence = (
        f"The {control.name}, the same model trained on the human translations, reaches {_value(roles, control)}: "
        f"the student is {_place(difference)} it ({difference.tested})."
    )
    if difference.p_value is not None and not difference.significant:
        return f"{sentence} On this test set the two cannot be told apart."
    if difference.significant and difference.gain < 0:
        return f"{sentence} Here training on the teacher's output was worse than training on the human translations."
    return sentence


def _deployment(
    roles: VerdictRoles, student: SystemRow, teacher: SystemRow | None, export: SystemRow | None
) -> Iterator[str]:
    """How fast and how small, in the form that is deployed."""
    deployed = export or student
    if teacher is not None and deployed.sentences_per_second and teacher.sentences_per_second:
        faster = form.times(deployed.sentences_per_second / teacher.sentences_per_second)
        yield (
            f"The {deployed.name} translates {form.amount(deployed.sentences_per_second)} sentences a second, "
            f"{faster} times as many as {_named(teacher)} ({form.amount(teacher.sentences_per_second)})."
        )
    else:
        yield "Its speed was not compared with the teacher's."
    if teacher is not None and deployed.megabytes and teacher.megabytes:
        ratio = teacher.megabytes / deployed.megabytes
        change = f"{form.times(ratio)} times less" if ratio > 1 else f"{form.times(1 / ratio)} times more"
        yield f"It takes {form.amount(deployed.megabytes)} MB, {change} than {_named(teacher)}."
    if export is not None and export.score(roles.metric) is not None:
        yield f"In that form it reaches {_value(roles, export)}."


def _difference(data: ReportData, roles: VerdictRoles, row: SystemRow, other: SystemRow | None) -> _Difference | None:
    score, score_other = row.score(roles.metric), other.score(roles.metric) if other else None
    if score is None or other is None or score_other is None:
        return None
    gain = (score.value - score_other.value) * (1 if score.higher_is_better else -1)
    return _Difference(gain, roles.metric, p_value(data, row, other, roles.metric))


def p_value(data: ReportData, row: SystemRow, other: SystemRow, metric: str) -> float | None:
    """The p-value of a test between two rows, whichever of them was its baseline; None where none was made."""
    for one, two in ((row, other), (other, row)):
        score = one.score(metric)
        if two.name == data.baseline and score is not None and score.p_value is not None:
            return score.p_value
    names = {row.name, other.name}
    for comparison in data.comparisons:
        if {comparison.system, comparison.other} == names and (comparison.metric, comparison.pair) == (
            metric,
            row.pair,
        ):
            return comparison.p_value
    return None


def _value(roles: VerdictRoles, row: SystemRow) -> str:
    score = row.score(roles.metric)
    return f"{form.score(score.value)} {roles.metric}" if score else f"no {roles.metric}"


def _named(row: SystemRow) -> str:
    """Its name in a sentence, with its kind where the name does not say it."""
    return f"the {row.name}" if row.kind.value in row.name else f"the {row.kind.value} {row.name}"


def _place(difference: _Difference) -> str:
    """Where the student stands: `1.3 BLEU above`, or `level with` where print shows no difference."""
    if form.score(abs(difference.gain)) == form.score(0):
        return "level with"
    if difference.metric == "TER":  # errors: the better score is the one below
        return f"{difference.size} {'better' if difference.gain > 0 else 'worse'} than"
    return f"{difference.size} {'above' if difference.gain > 0 else 'below'}"


def _equals(value: float) -> str:
    printed = form.p_value(value)
    return (printed if printed.startswith("<") else f"= {printed}").replace(" ", "\u00a0")
