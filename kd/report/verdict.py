"""What the page opens with: which student, how much quality for how much speed, and what distillation brought.

It is composed from the numbers alone, says the same whichever way they came out, and calls a difference real only where
a significance test does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kd.base.text import amount
from kd.report import formatting as form
from kd.report.model import ReportData, SystemRow, VerdictRoles
from kd.report.pairings import distillation_over_seeds, mean_gain, over_seeds

ONE_SEED = (
    "Both were trained once. The test resamples the test set and does not show how much another seed would change: "
    "train three (student.members=3) before relying on a difference."
)
NO_TRANSLATION = 5.0
"""BLEU below which output has little to do with its source: what differs there, however surely, is no success."""


@dataclass(frozen=True)
class Answer:
    """One question that readers come with."""

    question: str
    value: str  # the number, as large as it gets
    text: str  # where it comes from


@dataclass(frozen=True)
class Verdict:
    """What a run came to, for one language pair."""

    pair: str  # empty where there is only one
    headline: str  # one or two sentences
    answers: list[Answer]


@dataclass(frozen=True)
class Difference:
    """Of two rows in one metric; positive where the first is better."""

    gain: float
    metric: str
    p_value: float | None

    @property
    def significant(self) -> bool:
        """Whether a test says that it is more than luck with the test segments."""
        return self.p_value is not None and self.p_value < form.SIGNIFICANT

    @property
    def visible(self) -> bool:
        """Whether print shows any."""
        return self.size != form.metric_score(self.metric, 0)

    @property
    def size(self) -> str:
        """Without its sign."""
        return form.metric_score(self.metric, abs(self.gain))

    @property
    def place(self) -> str:
        """Where the first stands: `1.3 BLEU above`, or `level with` where print shows no difference."""
        if not self.visible:
            return f"level in {self.metric} with"
        if self.metric == "TER":  # errors: the better score is the one below
            return f"{self.size} {self.metric} {'better' if self.gain > 0 else 'worse'} than"
        return f"{self.size} {self.metric} {'above' if self.gain > 0 else 'below'}"

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
        Verdict("", "No system was scored.", [])
    ]


def _verdict(data: ReportData, pair: str, shown: str) -> Verdict:
    roles = data.verdict
    student = data.system(roles.student, pair)
    score = student.score(roles.metric) if student else None
    if student is None or score is None:
        return Verdict(shown, "No student was scored.", [])
    control, teacher = data.system(roles.control, pair), data.system(roles.teacher, pair)
    deployed = data.system(roles.export, pair)
    deployed = deployed if deployed is not None and deployed.score(roles.metric) else student
    if _no_translation(roles.metric, student):
        headline = f"The student does not translate yet: {_value(roles, student)}."
    else:
        sentences = [_bargain(data, deployed, teacher), _distillation(data, student, control)]
        headline = " ".join(sentences)
    answers = [
        _quality_answer(data, deployed, student, teacher),
        _speed_answer(deployed, teacher),
        _distillation_answer(data, student, control),
    ]
    return Verdict(shown, headline, [answer for answer in answers if answer is not None])


def _bargain(data: ReportData, deployed: SystemRow, teacher: SystemRow | None) -> str:
    """How much quality for how much speed."""
    apart = difference(data, deployed, teacher, data.verdict.metric)
    if teacher is None or apart is None:
        return f"The {deployed.name} reaches {_value(data.verdict, deployed)}."
    ratio = _faster(deployed, teacher)
    if ratio is None:
        return f"The {deployed.name} is {apart.place} {_named(teacher)} ({apart.tested})."
    speed = f"{form.times(ratio)} times as fast as {_named(teacher)}"
    return f"The {deployed.name} is {speed} and {apart.place} it ({apart.tested})."


def _distillation(data: ReportData, student: SystemRow, control: SystemRow | None) -> str:
    """Against the same model trained on the human translations."""
    apart = difference(data, student, control, data.verdict.metric)
    if apart is None or control is None:
        return "There is no control, so this run does not say what distillation brought."
    if seeds := over_seeds(data, student.name, control.name, apart.metric, student.pair):
        return distillation_over_seeds(seeds)
    place = f"the student is {apart.place} the control"
    if apart.p_value is None:
        return f"What distillation brought was not tested: {place}."
    tested = f"p\u00a0{_equals(apart.p_value)}"
    if not apart.significant:
        return f"Distillation made no proven difference: {place}, {tested}."
    return f"Distillation {'helped' if apart.gain > 0 else 'did harm'}: {place}, {tested}."


def _quality_answer(
    data: ReportData, deployed: SystemRow, student: SystemRow, teacher: SystemRow | None
) -> Answer | None:
    roles = data.verdict
    sentences = []
    apart = difference(data, deployed, teacher, roles.metric)
    if teacher is not None and apart is not None:
        sentences.append(f"{_capital(_named(teacher))}, its teacher, has {_value(roles, teacher)}; {apart.tested}.")
        sentences += _other_metrics(data, deployed, teacher, apart)
    else:
        sentences.append("There is no teacher to compare it with.")
    lost = difference(data, deployed, student, roles.metric)
    if lost is not None and deployed is not student:
        sentences.append(
            f"Before it was converted, the {student.name} had {_value(roles, student)}."
            if lost.visible
            else f"Nothing was lost when the {student.name} was converted."
        )
    return Answer(f"How good is the {deployed.name}?", _value(roles, deployed), " ".join(sentences))


def _speed_answer(deployed: SystemRow, teacher: SystemRow | None) -> Answer | None:
    question = "How much faster is it?"
    ratio = _faster(deployed, teacher) if teacher else None
    if teacher is None or ratio is None:
        speed = deployed.sentences_per_second
        return Answer(
            question,
            f"{amount(speed)} sentences/s" if speed else "not measured",
            "Its speed was not compared with the teacher's.",
        )
    sentences = [
        f"{amount(deployed.sentences_per_second or 0)} sentences a second; {_named(teacher)} does "
        f"{amount(teacher.sentences_per_second or 0)}."
    ]
    if deployed.megabytes and teacher.megabytes:
        smaller = teacher.megabytes / deployed.megabytes
        change = f"{form.times(smaller)} times less" if smaller > 1 else f"{form.times(1 / smaller)} times more"
        sentences.append(f"It takes {amount(deployed.megabytes)} MB, {change}.")
    return Answer(question, f"{form.times(ratio)} ×", " ".join(sentences))


def _distillation_answer(data: ReportData, student: SystemRow, control: SystemRow | None) -> Answer:
    question = "What did distillation bring?"
    apart = difference(data, student, control, data.verdict.metric)
    if apart is None or control is None:
        return Answer(
            question, "not known", "No control, the same model trained on the human translations, was scored."
        )
    sign = "±" if not apart.visible else "+" if (apart.gain > 0) == (apart.metric != "TER") else "−"
    sentences = [
        f"The {student.name} has {_value(data.verdict, student)}; the {control.name}, the same model trained on the "
        f"human translations, {_value(data.verdict, control)}: {apart.tested}."
    ]
    if data.verdict.lessons:
        sentences.insert(0, data.verdict.lessons.replace("It ", f"The {student.name} ", 1))
    if _no_translation(data.verdict.metric, student, control):
        sentences.append("Neither of them translates yet, so that says nothing of distillation.")
    elif apart.p_value is not None and not apart.significant:
        sentences.append("On this test set the two cannot be told apart.")
    value = f"{sign}{apart.size} {apart.metric}"
    if seeds := over_seeds(data, student.name, control.name, apart.metric, student.pair):
        value = f"{form.signed(apart.metric, mean_gain(seeds))} {apart.metric}"
        sentences.insert(0, distillation_over_seeds(seeds))
    else:
        if apart.significant and apart.gain < 0:
            sentences.append("Here the teacher's output taught less than the human translations did.")
        sentences.append(ONE_SEED)
    sentences += _other_metrics(data, student, control, apart)
    return Answer(question, value, " ".join(sentences))


def _no_translation(metric: str, *rows: SystemRow) -> bool:
    """Whether the output of none of them has much to do with its source."""
    scores = [score.value for row in rows if (score := row.score(metric)) is not None]
    return metric == "BLEU" and all(score < NO_TRANSLATION for score in scores)


def _other_metrics(data: ReportData, row: SystemRow, other: SystemRow, apart: Difference) -> Iterator[str]:
    """Metrics that point the other way: a reader of one number should know of them."""
    for metric in data.metrics():
        second = difference(data, row, other, metric) if metric != apart.metric else None
        if second is not None and second.visible and apart.visible and second.gain * apart.gain < 0:
            yield f"{metric} says the opposite: {second.place} it ({second.tested})."


def _faster(row: SystemRow, other: SystemRow) -> float | None:
    if not row.sentences_per_second or not other.sentences_per_second:
        return None
    return row.sentences_per_second / other.sentences_per_second


def difference(data: ReportData, row: SystemRow, other: SystemRow | None, metric: str) -> Difference | None:
    """How far a row is from another, and what the tests say; None where one of them has no such score."""
    score, score_other = row.score(metric), other.score(metric) if other else None
    if score is None or other is None or score_other is None:
        return None
    gain = (score.value - score_other.value) * (1 if score.higher_is_better else -1)
    return Difference(gain, metric, p_value(data, row, other, metric))


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
    return f"{form.metric_score(roles.metric, score.value)} {roles.metric}" if score else f"no {roles.metric}"


def _named(row: SystemRow) -> str:
    """Its name in a sentence, with its kind where the name does not say it."""
    return f"the {row.name}" if row.kind.value in row.name else f"the {row.kind.value} {row.name}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _equals(value: float) -> str:
    return form.p_equals(value).replace(" ", "\u00a0")
