"""The verdict says what the numbers say, whichever way they came out; the figures expected are worked out by hand."""

import dataclasses

from kd.models.systems import System, SystemKind, SystemRole
from kd.report.model import Comparison, MetricScore, ReportData, SystemRow, VerdictRoles
from kd.report.verdict import ONE_SEED, verdicts


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
    """The headline, and the answers in one line each."""
    (verdict,) = verdicts(report)
    answers = "\n".join(f"{answer.question} {answer.value}: {answer.text}" for answer in verdict.answers)
    return verdict.headline.replace("\u00a0", " "), answers.replace("\u00a0", " ")


def distillation(report: ReportData) -> str:
    """What the headline says of it: its second sentence."""
    return only(report)[0].partition("). ")[2]


def test_better_than_control(report: ReportData) -> None:
    headline, answers = only(report)
    assert headline == (
        # 611 / 38.4; 30.127 − 25.71
        "The student int8 is 16 times as fast as the teacher ensemble and 4.4 BLEU below it "
        "(significance not tested). "
        "Distillation helped: the student is 1.6 BLEU above the control, p = 0.013."  # 25.94 − 24.31
    )
    assert answers.split("\n") == [
        "How good is the student int8? 25.7 BLEU: The teacher ensemble, its teacher, has 30.1 BLEU; significance not "
        "tested. Before it was converted, the student had 25.9 BLEU.",
        "How much faster is it? 16 ×: 611 sentences a second; the teacher ensemble does 38.4. It takes 2.6 MB, "
        "6.6 times less.",  # 17.2 / 2.6
        "What did distillation bring? +1.6 BLEU: The student has 25.9 BLEU; the control, the same model trained on the "
        f"human translations, 24.3 BLEU: significant, p = 0.013. {ONE_SEED}",
    ]


def test_worse_than_control(report: ReportData) -> None:
    worse = change(report, "student", 20.7, 0.001)  # 20.7 − 24.31
    assert distillation(worse) == "Distillation did harm: the student is 3.6 BLEU below the control, p = 0.001."
    assert "−3.6 BLEU" in only(worse)[1] and "taught less than the human translations did" in only(worse)[1]


def test_a_metric_that_disagrees_is_heard(report: ReportData) -> None:
    # chrF2: 49.8 against 48.4, while BLEU falls behind.
    assert (
        "chrF2 says the opposite: 1.4 chrF2 above it (significant, p = 0.013)."
        in only(change(report, "student", 20.7, 0.001))[1]
    )
    assert "opposite" not in only(report)[1]


def test_a_student_that_does_not_translate_is_no_success(report: ReportData) -> None:
    headline, answers = only(change(change(report, "student", 1.7, 0.0001), "control", 0.1, None))
    assert headline == "The student does not translate yet: 1.7 BLEU."
    assert "Neither of them translates yet" in answers


def test_not_told_apart(report: ReportData) -> None:
    for bleu, place in [(24.61, "0.3 BLEU above"), (24.01, "0.3 BLEU below"), (24.33, "level in BLEU with")]:
        equal = change(report, "student", bleu, 0.31)
        assert distillation(equal) == (
            f"Distillation made no proven difference: the student is {place} the control, p = 0.310."
        )
        assert "not significant, p = 0.310" in only(equal)[1] and "cannot be told apart" in only(equal)[1]


def test_level_of_significance_is_below_five_per_cent(report: ReportData) -> None:
    assert distillation(change(report, "student", 30.0, 0.0499)).startswith("Distillation helped")
    assert distillation(change(report, "student", 30.0, 0.05)).startswith("Distillation made no proven difference")


def test_smallest_p(report: ReportData) -> None:
    assert only(change(report, "student", 30.0, 0.000999))[0].endswith("p < 0.001.")


def test_untested_difference_is_not_called_real(report: ReportData) -> None:
    untested = change(report, "student", 30.0, None)
    assert distillation(untested) == (
        "What distillation brought was not tested: the student is 5.7 BLEU above the control."
    )


def test_test_against_the_teacher_counts_in_either_direction(report: ReportData) -> None:
    for names in [("student int8", "teacher ensemble"), ("teacher ensemble", "student int8")]:
        tested = dataclasses.replace(report, comparisons=[Comparison(*names, "BLEU", 0.2)])
        assert "4.4 BLEU below it (not significant, p = 0.200)" in only(tested)[0]
    elsewhere = dataclasses.replace(report, comparisons=[Comparison("student int8", "teacher ensemble", "chrF2", 0.2)])
    assert "below it (significance not tested)" in only(elsewhere)[0]


def test_baseline_may_be_the_student(report: ReportData) -> None:
    swapped = change(change(report, "student", 25.94, None), "control", 24.31, 0.04)
    assert distillation(dataclasses.replace(swapped, baseline="student")) == (
        "Distillation helped: the student is 1.6 BLEU above the control, p = 0.040."
    )


def test_p_values_against_something_else_are_not_taken_for_it(report: ReportData) -> None:
    assert distillation(dataclasses.replace(report, baseline="teacher 1")).startswith(
        "What distillation brought was not"
    )


def test_no_control(report: ReportData) -> None:
    headline, answers = only(dataclasses.replace(report, verdict=dataclasses.replace(report.verdict, control="")))
    assert headline.endswith("There is no control, so this run does not say what distillation brought.")
    assert "What did distillation bring? not known" in answers


def test_student_alone(report: ReportData) -> None:
    headline, answers = only(dataclasses.replace(report, verdict=VerdictRoles("student")))
    assert headline.startswith("The student reaches 25.9 BLEU. There is no control")
    assert "92.0 sentences/s: Its speed was not compared" in answers and "no teacher to compare" in answers


def test_no_speed(report: ReportData) -> None:
    rows = [dataclasses.replace(row, sentences_per_second=None) for row in report.systems]
    headline, answers = only(dataclasses.replace(report, systems=rows))
    assert headline.startswith("The student int8 is 4.4 BLEU below the teacher ensemble (significance not tested).")
    assert "How much faster is it? not measured" in answers


def test_slower_and_larger_is_said(report: ReportData) -> None:
    rows = [
        dataclasses.replace(row, sentences_per_second=19.2, megabytes=34.4) if row.kind is SystemKind.export else row
        for row in report.systems
    ]
    headline, answers = only(dataclasses.replace(report, systems=rows))
    assert "is 0.50 times as fast as" in headline
    assert "It takes 34.4 MB, 2.0 times more." in answers


def test_fewer_errors_are_better() -> None:
    def row(role: SystemRole, ter: float, p: float | None) -> SystemRow:
        return SystemRow(System(role, role.value), [MetricScore("TER", ter, "signature", None, p)])

    rows = [row(SystemRole.student, 50.0, 0.01), row(SystemRole.control, 55.0, None)]
    roles = VerdictRoles("student", "control", metric="TER")
    headline, answers = only(ReportData("title", "date", rows, roles, "control"))
    assert headline.endswith("Distillation helped: the student is 5.0 TER better than the control, p = 0.010.")
    assert "? −5.0 TER: The student" in answers  # an error rate does not rise when it gets better


def test_one_verdict_a_pair(report: ReportData) -> None:
    other = change(report, "student", 20.7, 0.001).systems
    rows = [dataclasses.replace(row, pair="en-de") for row in report.systems]
    rows += [dataclasses.replace(row, pair="en-sv") for row in other]
    first, second = verdicts(dataclasses.replace(report, systems=rows))
    assert (first.pair, second.pair) == ("en-de", "en-sv")
    assert "helped" in first.headline and "did harm" in second.headline
