"""The verdict says what the numbers say, whichever way they came out; the figures expected are worked out by hand."""

import dataclasses

from kd.models.systems import System, SystemKind, SystemRole
from kd.report.comparing import opponent
from kd.report.data import ReportData
from kd.report.systems import Comparison, MetricScore, Speed, SystemRow, VerdictRoles, lead_metric
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
    """The second sentence of the headline, which is about distillation."""
    return only(report)[0].partition("). ")[2]


def test_better_than_control(report: ReportData) -> None:
    headline, answers = only(report)
    assert headline == (
        # 611 / 38.4; 25.71 / 30.127
        "The student int8 is 16 times as fast as the teacher ensemble and reaches 85.3 % of its BLEU "
        "(25.7 against 30.1). "
        "Distillation helped, as far as one seed shows: the student is 1.6 BLEU above the control, p = 0.013."
    )
    assert answers.split("\n") == [
        "How good is the student int8? 25.7 BLEU: The teacher ensemble, its teacher, has 30.1 BLEU; significance not "
        "tested. Before it was converted, the student had 25.9 BLEU.",
        "How much faster is it? 16 ×: 611 sentences per second; the teacher ensemble translates 38.4. It takes 2.6 MB, "
        "6.6 times less.",  # 17.2 / 2.6
        "What did distillation gain? +1.6 BLEU: The student has 25.9 BLEU; the control, the same model trained on the "
        f"human translations, 24.3 BLEU: significant, p = 0.013. {ONE_SEED}",
    ]


def test_worse_than_control(report: ReportData) -> None:
    worse = change(report, "student", 20.7, 0.001)  # 20.7 − 24.31
    assert distillation(worse) == (
        "Distillation did harm, as far as one seed shows: the student is 3.6 BLEU below the control, p = 0.001; "
        "chrF2 contradicts this: 1.4 chrF2 above it (p = 0.013)."
    )
    assert "−3.6 BLEU" in only(worse)[1] and "taught less than the human translations did" in only(worse)[1]


def test_a_metric_that_points_the_other_way_is_named(report: ReportData) -> None:
    # chrF2: 49.8 against 48.4, while BLEU falls behind.
    assert (
        "chrF2 shows the opposite: 1.4 chrF2 above it (significant, p = 0.013)."
        in only(change(report, "student", 20.7, 0.001))[1]
    )
    assert "opposite" not in only(report)[1]
    insignificant = change(report, "student", 20.7, 0.001)
    rows = [
        dataclasses.replace(row, scores=[row.scores[0], dataclasses.replace(row.scores[1], p_value=0.2)])
        for row in insignificant.systems
    ]
    assert "contradicts" not in only(dataclasses.replace(insignificant, systems=rows))[0]


def test_a_metric_that_contradicts_the_lead_significantly_is_in_the_headline(report: ReportData) -> None:
    names = ("student int8", "teacher ensemble")
    above = change(report, "student int8", 32.227, 0.021)  # 32.227 / 30.127 = 1.0697; chrF2: 3.3 below
    tested = [Comparison(*names, "BLEU", 0.3), Comparison(*names, "chrF2", 0.048)]
    assert only(dataclasses.replace(above, comparisons=tested))[0].startswith(
        "The student int8 is 16 times as fast as the teacher ensemble and reaches 107.0 % of its BLEU "
        "(32.2 against 30.1, not significant, p = 0.300); chrF2 contradicts this: 3.3 chrF2 below it (p = 0.048)."
    )


def test_comet_leads_then_chrf_then_bleu() -> None:
    assert lead_metric(["BLEU", "chrF2", "COMET"]) == "COMET"
    assert lead_metric(["BLEU", "TER", "chrF2++"]) == "chrF2++"
    assert lead_metric(["TER", "BLEU"]) == "BLEU"
    assert lead_metric(["BLEU", "chrF2", "COMET"], "bleu") == "BLEU"
    assert lead_metric(["BLEU", "chrF2"], "comet") == "chrF2"
    assert lead_metric([]) == "BLEU"


def test_systems_from_elsewhere_are_a_yardstick(report: ReportData) -> None:
    opus = SystemRow(System(SystemRole.external, "opus-mt", engine=""), [MetricScore("BLEU", 27.0, "s")])
    general = SystemRow(System(SystemRole.teacher, "nllb"), [MetricScore("BLEU", 20.0, "s")])
    answers = only(dataclasses.replace(report, systems=[*report.systems, opus, general]))[1]
    assert "For comparison, opus mt has 27.0 BLEU: the student int8 is 1.3 BLEU below it." in answers  # 27.0 − 25.71
    assert "For comparison, nllb has 20.0 BLEU: the student int8 is 5.7 BLEU above it." in answers
    assert "teacher 1 has" not in answers  # a member of the teacher that was distilled


def test_a_speed_measured_on_a_busy_machine_is_marked(report: ReportData) -> None:
    rows = [
        dataclasses.replace(row, speed=Speed(others=1.3, disturbed=True)) if row.kind is SystemKind.export else row
        for row in report.systems
    ]
    headline, answers = only(dataclasses.replace(report, systems=rows))
    assert "Its speed was measured while the machine was busy." in headline
    assert "Other processes used the machine during the measurement" in answers
    assert "busy" not in only(report)[0]


def test_each_row_is_tested_against_the_system_that_a_reader_compares_it_with(report: ReportData) -> None:
    names = ("student int8", "teacher ensemble")
    tested = dataclasses.replace(report, comparisons=[Comparison(*names, "BLEU", 0.002)])
    found = {row.name: other.name for row in tested.systems if (other := opponent(tested, row))}
    # The test of float32 against the teacher is missing: the baseline of the evaluation takes its place.
    assert found == {"student": "control", "student float32": "control", "student int8": "teacher ensemble"}


def test_a_student_that_does_not_translate_is_no_success(report: ReportData) -> None:
    headline, answers = only(change(change(report, "student", 1.7, 0.0001), "control", 0.1, None))
    assert headline == "The student does not translate yet: 1.7 BLEU."
    assert "Neither of them translates yet" in answers


def test_not_told_apart(report: ReportData) -> None:
    for bleu, place in [(24.61, "0.3 BLEU above"), (24.01, "0.3 BLEU below"), (24.33, "level in BLEU with")]:
        equal = change(report, "student", bleu, 0.31)
        assert distillation(equal).startswith(
            f"Distillation made no proven difference: the student is {place} the control, p = 0.310"
        )
        assert "not significant, p = 0.310" in only(equal)[1] and "cannot be told apart" in only(equal)[1]


def test_level_of_significance_is_below_five_per_cent(report: ReportData) -> None:
    assert distillation(change(report, "student", 30.0, 0.0499)).startswith("Distillation helped")
    assert distillation(change(report, "student", 30.0, 0.05)).startswith("Distillation made no proven difference")


def test_smallest_p(report: ReportData) -> None:
    assert distillation(change(report, "student", 30.0, 0.000999)).endswith("p < 0.001.")


def test_untested_difference_is_not_called_real(report: ReportData) -> None:
    untested = change(report, "student", 30.0, None)
    assert distillation(untested) == (
        "The gain from distillation was not tested: the student is 5.7 BLEU above the control."
    )


def test_test_against_the_teacher_counts_in_either_direction(report: ReportData) -> None:
    for names in [("student int8", "teacher ensemble"), ("teacher ensemble", "student int8")]:
        tested = dataclasses.replace(report, comparisons=[Comparison(*names, "BLEU", 0.2)])
        assert "(25.7 against 30.1, not significant, p = 0.200)" in only(tested)[0]
    elsewhere = dataclasses.replace(report, comparisons=[Comparison("student int8", "teacher ensemble", "chrF2", 0.2)])
    assert "(25.7 against 30.1)." in only(elsewhere)[0]


def test_baseline_may_be_the_student(report: ReportData) -> None:
    swapped = change(change(report, "student", 25.94, None), "control", 24.31, 0.04)
    assert distillation(dataclasses.replace(swapped, baseline="student")) == (
        "Distillation helped, as far as one seed shows: the student is 1.6 BLEU above the control, p = 0.040."
    )


def test_p_values_against_something_else_are_not_taken_for_it(report: ReportData) -> None:
    assert distillation(dataclasses.replace(report, baseline="teacher 1")).startswith(
        "The gain from distillation was not"
    )


def test_no_control(report: ReportData) -> None:
    headline, answers = only(dataclasses.replace(report, verdict=dataclasses.replace(report.verdict, control="")))
    assert headline.endswith("There is no control, so this run does not show what distillation gained.")
    assert "What did distillation gain? not known" in answers


def test_student_alone(report: ReportData) -> None:
    headline, answers = only(dataclasses.replace(report, verdict=VerdictRoles("student")))
    assert headline.startswith("The student reaches 25.9 BLEU. There is no control")
    assert "92.0 sentences/s: Its speed was not compared" in answers and "no teacher to compare" in answers


def test_no_speed(report: ReportData) -> None:
    rows = [dataclasses.replace(row, sentences_per_second=None) for row in report.systems]
    headline, answers = only(dataclasses.replace(report, systems=rows))
    assert headline.startswith("The student int8 reaches 85.3 % of the teacher ensemble's BLEU (25.7 against 30.1).")
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
    assert headline.endswith(
        "Distillation helped, as far as one seed shows: the student is 5.0 TER better than the control, p = 0.010."
    )
    assert "? −5.0 TER: The student" in answers  # an error rate does not rise when it gets better


def test_one_verdict_a_pair(report: ReportData) -> None:
    other = change(report, "student", 20.7, 0.001).systems
    rows = [dataclasses.replace(row, pair="en-de") for row in report.systems]
    rows += [dataclasses.replace(row, pair="en-sv") for row in other]
    first, second = verdicts(dataclasses.replace(report, systems=rows))
    assert (first.pair, second.pair) == ("en-de", "en-sv")
    assert "helped" in first.headline and "did harm" in second.headline
