"""The verdict says what the numbers say, whichever way they came out; the figures expected are worked out by hand."""

import dataclasses

from kd.report.model import Comparison, MetricScore, ReportData, SystemKind, SystemRow, VerdictRoles
from kd.report.verdict import verdicts


def change(report: ReportData, name: str, bleu: float, p: float | None) -> ReportData:
    """The report with another BLEU for one system."""
    rows = [
        dataclasses.replace(row, scores=[dataclasses.replace(row.scores[0], value=bleu, p_value=p), *row.scores[1:]])
        if row.name == name
        else row
        for row in report.systems
    ]
    return dataclasses.replace(report, systems=rows)


def only(report: ReportData) -> tuple[str, str]:
    (verdict,) = verdicts(report)
    return verdict.headline.replace("\u00a0", " "), verdict.text.replace("\u00a0", " ")


def test_better_than_control(report: ReportData) -> None:
    headline, text = only(report)
    assert headline == "Distillation helped: the student is 1.6 BLEU above the control, p = 0.013"  # 25.94 − 24.31
    assert text == (
        "The student reaches 25.9 BLEU, 4.2 BLEU below the teacher ensemble (30.1 BLEU; significance not tested). "
        "The control, the same model trained on the human translations, reaches 24.3 BLEU: "
        "the student is 1.6 BLEU above it (significant, p = 0.013). "
        "The student int8 translates 611 sentences a second, 16 times as many as the teacher ensemble (38.4). "  # 15.9
        "It takes 2.6 MB, 6.6 times less than the teacher ensemble. "  # 17.2 / 2.6
        "In that form it reaches 25.7 BLEU."
    )


def test_worse_than_control(report: ReportData) -> None:
    headline, text = only(change(report, "student", 20.7, 0.001))
    assert headline == "Distillation did harm: the student is 3.6 BLEU below the control, p = 0.001"  # 20.7 − 24.31
    assert "worse than training on the human translations" in text


def test_a_student_that_does_not_translate_is_no_success(report: ReportData) -> None:
    headline, _ = only(change(change(report, "student", 1.7, 0.0001), "control", 0.1, None))
    assert headline == "The student does not translate yet: 1.7 BLEU"


def test_not_told_apart(report: ReportData) -> None:
    for bleu, place in [(24.61, "0.3 BLEU above"), (24.01, "0.3 BLEU below"), (24.33, "level with")]:
        headline, text = only(change(report, "student", bleu, 0.31))
        assert headline == f"No proven difference: the student is {place} the control, p = 0.310"
        assert "not significant, p = 0.310" in text and "cannot be told apart" in text


def test_level_of_significance_is_below_five_per_cent(report: ReportData) -> None:
    assert only(change(report, "student", 30.0, 0.0499))[0].startswith("Distillation helped")
    assert only(change(report, "student", 30.0, 0.05))[0].startswith("No proven difference")


def test_smallest_p(report: ReportData) -> None:
    assert only(change(report, "student", 30.0, 0.000999))[0].endswith("p < 0.001")


def test_untested_difference_is_not_called_real(report: ReportData) -> None:
    headline, text = only(change(report, "student", 30.0, None))
    assert headline == "The student is 5.7 BLEU above the control; significance was not tested"
    assert "helped" not in text


def test_test_against_the_teacher_counts_in_either_direction(report: ReportData) -> None:
    for names in [("student", "teacher ensemble"), ("teacher ensemble", "student")]:
        tested = dataclasses.replace(report, comparisons=[Comparison(*names, "BLEU", 0.2)])
        assert "(30.1 BLEU; not significant, p = 0.200)" in only(tested)[1]
    elsewhere = dataclasses.replace(report, comparisons=[Comparison("student", "teacher ensemble", "chrF2", 0.2)])
    assert "significance not tested" in only(elsewhere)[1]


def test_baseline_may_be_the_student(report: ReportData) -> None:
    swapped = change(change(report, "student", 25.94, None), "control", 24.31, 0.04)
    headline, _ = only(dataclasses.replace(swapped, baseline="student"))
    assert headline == "Distillation helped: the student is 1.6 BLEU above the control, p = 0.040"


def test_p_values_against_something_else_are_not_taken_for_it(report: ReportData) -> None:
    headline, _ = only(dataclasses.replace(report, baseline="teacher 1"))
    assert headline.endswith("significance was not tested")


def test_no_control(report: ReportData) -> None:
    headline, text = only(dataclasses.replace(report, verdict=dataclasses.replace(report.verdict, control="")))
    assert headline == "The student is 4.2 BLEU below its teacher"
    assert "does not say what distillation brought" in text


def test_student_alone(report: ReportData) -> None:
    headline, text = only(dataclasses.replace(report, verdict=VerdictRoles("student")))
    assert headline == "The student reaches 25.9 BLEU"
    assert "speed was not compared" in text


def test_slower_and_larger_is_said(report: ReportData) -> None:
    rows = [
        dataclasses.replace(row, sentences_per_second=19.2, megabytes=34.4) if row.kind is SystemKind.export else row
        for row in report.systems
    ]
    _, text = only(dataclasses.replace(report, systems=rows))
    assert "19.2 sentences a second, 0.50 times as many as" in text
    assert "takes 34.4 MB, 2.0 times more than" in text


def test_fewer_errors_are_better() -> None:
    def row(name: str, kind: SystemKind, ter: float, p: float | None) -> SystemRow:
        return SystemRow(name, kind, [MetricScore("TER", ter, "signature", None, p)])

    rows = [row("student", SystemKind.student, 50.0, 0.01), row("control", SystemKind.control, 55.0, None)]
    roles = VerdictRoles("student", "control", metric="TER")
    headline, _ = only(ReportData("title", "date", rows, roles, "control"))
    assert headline == "Distillation helped: the student is 5.0 TER better than the control, p = 0.010"


def test_one_verdict_a_pair(report: ReportData) -> None:
    other = change(report, "student", 20.7, 0.001).systems
    rows = [dataclasses.replace(row, pair="en-de") for row in report.systems]
    rows += [dataclasses.replace(row, pair="en-sv") for row in other]
    first, second = verdicts(dataclasses.replace(report, systems=rows))
    assert (first.pair, second.pair) == ("en-de", "en-sv")
    assert "helped" in first.headline and "did harm" in second.headline
