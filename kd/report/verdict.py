"""The verdict that a page opens with: quality against speed, and the gain from distillation, in sentences.

It is composed from the numbers alone, and calls a difference real only if a significance test supports it. It leads
with one metric, names metrics that contradict it significantly, and puts results over several seeds before those of
one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Any

from kd.base.text import amount
from kd.models.systems import SystemKind
from kd.report import formatting as form
from kd.report.comparing import Difference, difference, equals, kept_share
from kd.report.data import ReportData
from kd.report.seeds import distillation_over_seeds, mean_gain, over_seeds
from kd.report.source_only import SourceOnly
from kd.report.systems import SystemRow

ONE_SEED = (
    "Both were trained once. The test resamples the test set and does not show how much another seed would change: "
    "train three (student.members=3) before relying on a difference."
)
NO_TRANSLATION = 5.0
"""BLEU below which output is considered unrelated to its source; a difference below it is never called a success."""


@dataclass(frozen=True)
class Answer:
    """An answer to one question of the reader: the number, printed large, and a text that explains it."""

    question: str
    value: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """The results of a run for one language pair; the pair is empty if there is only one."""

    pair: str
    headline: str
    answers: list[Answer]


def lessons(
    settings: Mapping[str, Any],
    selection: Mapping[str, Any] = MappingProxyType({}),
    source_only: SourceOnly | None = None,
) -> str:
    """Describe in one sentence a student's sources: text, token distributions, initial layers of a teacher.

    Args:
        settings: Settings in the training's manifest; earlier versions lack `distill` and `start`.
        selection: Settings of the selection of its text, if known.
        source_only: The part of its text that has no human translations, if any.
    """
    distill, start = settings.get("distill") or {}, settings.get("start") or {}
    alpha, end = distill.get("alpha") or 0, distill.get("end_alpha")
    sentence = "It learned from the text that selection kept"
    if selection.get("variant") == "top":
        sentence = f"It learned from the {selection['top']} best hypotheses of each source, one per epoch in turn,"
    if source_only is not None:
        sentence = f"{sentence.rstrip(',')}, including translations of {source_only.in_words},"
    if alpha or end:
        weight = f"{alpha:g}" if end is None else f"{alpha:g} to {end:g}"
        top = distill.get("top")
        tokens = f"the {top} most probable tokens per position" if top else "the whole vocabulary"
        sentence += f" and from the teachers' token distributions (weight {weight}, {tokens})"
    if start.get("layers"):
        sentence += ", and started from layers of a teacher, as did the control"
    return f"{sentence.rstrip(',')}."


def verdicts(data: ReportData) -> list[Verdict]:
    """Return one verdict for each language pair of the table."""
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
    if _no_translation(student):
        headline = f"The student does not translate yet: {_value('BLEU', student)}."
    else:
        headline = f"{_bargain(data, deployed, teacher)} {_distillation(data, student, control)}"
    answers = [
        _quality_answer(data, deployed, student, teacher),
        _speed_answer(deployed, teacher),
        _distillation_answer(data, student, control),
    ]
    if data.source_only is not None:
        answers.append(_source_only_answer(data, student, data.system(roles.control_selected, pair)))
    return Verdict(shown, headline, answers)


# --- sentences of the headline ---------------------------------------------------------------------------------------


def _bargain(data: ReportData, deployed: SystemRow, teacher: SystemRow | None) -> str:
    """Describe the share of the teacher's quality that the student keeps, and its speed."""
    apart = difference(data, deployed, teacher, data.verdict.metric)
    if teacher is None or apart is None:
        return f"The {deployed.name} reaches {_value(data.verdict.metric, deployed)}."
    ratio, share = _faster(deployed, teacher), kept_share(deployed, teacher, data.verdict.metric)
    speed = f"is {form.times(ratio)} times as fast as {_named(teacher)} and " if ratio else ""
    other = "it" if ratio else _named(teacher)
    if share is None:
        return f"The {deployed.name} {speed or 'is '}{apart.place} {other}{_p(apart)}."
    whose = "its" if ratio else f"{other}'s"
    values = " against ".join(form.metric_score(apart.metric, value) for value in _scores(apart, deployed, teacher))
    contradiction = "".join(f"; {text}" for text in _contradictions(data, deployed, teacher, apart))
    busy = " Its speed was measured while the machine was busy." if ratio and _disturbed(deployed, teacher) else ""
    return (
        f"The {deployed.name} {speed}reaches {form.percent(share)} of {whose} {apart.metric} "
        f"({values}{_p(apart, ', ')}){contradiction}.{busy}"
    )


def _distillation(data: ReportData, student: SystemRow, control: SystemRow | None) -> str:
    """Describe the gain over the same model trained on the human translations."""
    apart = difference(data, student, control, data.verdict.metric)
    if apart is None or control is None:
        return "There is no control, so this run does not show what distillation gained."
    if seeds := over_seeds(data, student.name, control.name, apart.metric, student.pair):
        return distillation_over_seeds(seeds)
    place = f"the student is {apart.place} the control"
    contradiction = "".join(f"; {text}" for text in _contradictions(data, student, control, apart))
    if apart.p_value is None:
        return f"The gain from distillation was not tested: {place}{contradiction}."
    place += f", p\u00a0{equals(apart.p_value)}{contradiction}"
    if not apart.significant:
        return f"Distillation made no proven difference: {place}."
    return f"Distillation {'helped' if apart.gain > 0 else 'did harm'}, as far as one seed shows: {place}."


def _contradictions(data: ReportData, row: SystemRow, other: SystemRow, apart: Difference) -> Iterator[str]:
    """Yield a clause for each other metric with a significant difference that the leading metric does not show."""
    for metric in data.metrics():
        second = difference(data, row, other, metric) if metric != apart.metric else None
        if second and second.visible and second.significant and not (apart.visible and second.gain * apart.gain > 0):
            yield f"{metric} contradicts this: {second.place} it (p\u00a0{equals(second.p_value or 0)})"


# --- answers ---------------------------------------------------------------------------------------------------------


def _quality_answer(data: ReportData, deployed: SystemRow, student: SystemRow, teacher: SystemRow | None) -> Answer:
    metric = data.verdict.metric
    sentences = list(_spread(data, student))
    apart = difference(data, deployed, teacher, metric)
    if teacher is not None and apart is not None:
        sentences.append(f"{_capital(_named(teacher))}, its teacher, has {_value(metric, teacher)}; {apart.tested}.")
        sentences += _opposites(data, deployed, teacher, apart)
    else:
        sentences.append("There is no teacher to compare it with.")
    sentences += _yardsticks(data, deployed, teacher)
    lost = difference(data, deployed, student, metric)
    if lost is not None and deployed is not student:
        sentences.append(
            f"Before it was converted, the {student.name} had {_value(metric, student)}."
            if lost.visible
            else f"Nothing was lost when the {student.name} was converted."
        )
    return Answer(f"How good is the {deployed.name}?", _value(metric, deployed), " ".join(sentences))


def _spread(data: ReportData, student: SystemRow) -> Iterator[str]:
    """Yield the mean over the student's seeds, if there are several."""
    metric = data.verdict.metric
    rows = [
        row
        for row in data.systems
        if row.kind is SystemKind.student and row.system.label == student.system.label and row.pair == student.pair
    ]
    values = [score.value for row in rows if (score := row.score(metric))]
    if len(values) > 1:
        mean, spread = (form.metric_score(metric, value) for value in (fmean(values), stdev(values)))
        yield f"Over {len(values)} seeds the student has {mean} {metric} on average (s.d. {spread})."


def _yardsticks(data: ReportData, deployed: SystemRow, teacher: SystemRow | None) -> Iterator[str]:
    """Yield a comparison with each external system: given outputs, and teachers that were not distilled."""
    metric = data.verdict.metric
    label = teacher.system.label if teacher else ""
    for row in data.systems:
        teaches = row.kind in (SystemKind.teacher, SystemKind.ensemble) and row.system.label != label
        if row.pair != deployed.pair or not (teaches or row.kind is SystemKind.external):
            continue
        apart = difference(data, deployed, row, metric)
        if apart is not None:
            yield f"For comparison, {row.name} has {_value(metric, row)}: the {deployed.name} is {apart.place} it."


def _speed_answer(deployed: SystemRow, teacher: SystemRow | None) -> Answer:
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
        f"{amount(deployed.sentences_per_second or 0)} sentences per second; {_named(teacher)} translates "
        f"{amount(teacher.sentences_per_second or 0)}."
    ]
    if deployed.megabytes and teacher.megabytes:
        smaller = teacher.megabytes / deployed.megabytes
        change = f"{form.times(smaller)} times less" if smaller > 1 else f"{form.times(1 / smaller)} times more"
        sentences.append(f"It takes {amount(deployed.megabytes)} MB, {change}.")
    if _disturbed(deployed, teacher):
        sentences.append("Other processes used the machine during the measurement: repeat it on an idle one.")
    return Answer(question, f"{form.times(ratio)} ×", " ".join(sentences))


def _distillation_answer(data: ReportData, student: SystemRow, control: SystemRow | None) -> Answer:
    question, metric = "What did distillation gain?", data.verdict.metric
    learned = [data.verdict.lessons.replace("It ", f"The {student.name} ", 1)] if data.verdict.lessons else []
    apart = difference(data, student, control, metric)
    if apart is None or control is None:
        missing = "No control (the same model trained on the human translations) was scored."
        return Answer(question, "not known", " ".join([*learned, missing]))
    sentences = [
        f"The {student.name} has {_value(metric, student)}; the {control.name}, the same model trained on the human "
        f"translations, {_value(metric, control)}: {apart.tested}."
    ]
    if data.source_only is not None:
        sentences.append("The difference includes what source-only text brought, which the control cannot use.")
    if _no_translation(student, control):
        sentences.append("Neither of them translates yet, so this shows nothing about distillation.")
    elif apart.p_value is not None and not apart.significant:
        sentences.append("On this test set the two cannot be told apart.")
    if seeds := over_seeds(data, student.name, control.name, apart.metric, student.pair):
        value = f"{form.signed(metric, mean_gain(seeds))} {metric}"
        sentences.insert(0, distillation_over_seeds(seeds))
    else:
        value = _signed(apart)
        if apart.significant and apart.gain < 0:
            sentences.append("Here the teacher's output taught less than the human translations did.")
        sentences.append(ONE_SEED)
    return Answer(question, value, " ".join([*learned, *sentences, *_opposites(data, student, control, apart)]))


def _source_only_answer(data: ReportData, student: SystemRow, control: SystemRow | None) -> Answer:
    question, metric = "What did source-only text bring?", data.verdict.metric
    assert data.source_only is not None
    learned = f"The {student.name} learned from {data.source_only.in_words}."
    apart = difference(data, student, control, metric)
    if apart is None or control is None:
        missing = "No student was trained without them, so this run does not show what they brought."
        return Answer(question, "not known", f"{learned} {missing}")
    sentences = [
        learned,
        f"It has {_value(metric, student)}; the {control.name}, the same model trained on the rest of its text, "
        f"{_value(metric, control)}: {apart.tested}.",
    ]
    if _no_translation(student, control):
        sentences.append("Neither of them translates yet, so this shows nothing about source-only text.")
    elif apart.p_value is not None and not apart.significant:
        sentences.append("On this test set the two cannot be told apart.")
    if seeds := over_seeds(data, student.name, control.name, metric, student.pair):
        value = f"{form.signed(metric, mean_gain(seeds))} {metric}"
        sentences.append(f"The number above is the mean over {len(seeds)} seeds.")
    else:
        value = _signed(apart)
        sentences.append(ONE_SEED)
    return Answer(question, value, " ".join([*sentences, *_opposites(data, student, control, apart)]))


def _signed(apart: Difference) -> str:
    """Format a difference with its sign and metric."""
    sign = "±" if not apart.visible else "+" if (apart.gain > 0) == (apart.metric != "TER") else "−"
    return f"{sign}{apart.size} {apart.metric}"


def _opposites(data: ReportData, row: SystemRow, other: SystemRow, apart: Difference) -> Iterator[str]:
    """Yield a sentence for each metric that points in the other direction, significantly or not."""
    for metric in data.metrics():
        second = difference(data, row, other, metric) if metric != apart.metric else None
        if second is not None and second.visible and apart.visible and second.gain * apart.gain < 0:
            yield f"{metric} shows the opposite: {second.place} it ({second.tested})."


# --- words -----------------------------------------------------------------------------------------------------------


def _no_translation(*rows: SystemRow) -> bool:
    """Return whether the output of all rows is unrelated to its source, judged by BLEU."""
    scores = [score.value for row in rows if (score := row.score("BLEU")) is not None]
    return bool(scores) and all(score < NO_TRANSLATION for score in scores)


def _faster(row: SystemRow, other: SystemRow) -> float | None:
    if not row.sentences_per_second or not other.sentences_per_second:
        return None
    return row.sentences_per_second / other.sentences_per_second


def _disturbed(*rows: SystemRow) -> bool:
    return any(row.speed.disturbed for row in rows)


def _scores(apart: Difference, *rows: SystemRow) -> Sequence[float]:
    return [score.value for row in rows if (score := row.score(apart.metric))]


def _value(metric: str, row: SystemRow) -> str:
    score = row.score(metric)
    return f"{form.metric_score(metric, score.value)} {metric}" if score else f"no {metric}"


def _named(row: SystemRow) -> str:
    """Return a row's name for use in a sentence, with its kind if the name does not contain it."""
    return f"the {row.name}" if row.kind.value in row.name else f"the {row.kind.value} {row.name}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _p(apart: Difference, before: str = " ") -> str:
    """Format a test's outcome to follow a number: after `before`, or in parentheses; empty if untested."""
    if apart.p_value is None:
        return ""
    text = f"{'' if apart.significant else 'not significant, '}p\u00a0{equals(apart.p_value)}"
    return f" ({text})" if before == " " else f"{before}{text}"
