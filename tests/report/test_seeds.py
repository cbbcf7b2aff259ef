"""The table of what was compared seed by seed, and what the verdict makes of several seeds."""

from __future__ import annotations

import dataclasses
import io
import json
import statistics

import pytest
from rich.console import Console

from kd.base.records import plain
from kd.models.systems import System, SystemRole
from kd.report.data import ReportData
from kd.report.figures import draw
from kd.report.page import render
from kd.report.results import results_document, terminal
from kd.report.seeds import seed_table
from kd.report.systems import PairedScore, SystemRow, VerdictRoles, paired
from kd.report.verdict import ONE_SEED, verdicts

SEEDS = [(1, 27.9, 26.1, 0.01), (2, 26.3, 26.0, 0.3), (3, 27.0, 26.2, 0.02)]  # seed, student, control, p


def scores(seeds: list[tuple[int, float, float, float | None]]) -> list[PairedScore]:
    return [
        PairedScore("student", "control", f"student {k}", f"control {k}", "BLEU", ours, theirs, p)
        for k, ours, theirs, p in seeds
    ]


def first_of_several(row: SystemRow, member: str = "1") -> SystemRow:
    return dataclasses.replace(row, system=dataclasses.replace(row.system, member=member))


@pytest.fixture
def seeded(report: ReportData) -> ReportData:
    """The made-up report with three seeds of student and control."""
    rows = [first_of_several(row) if row.name in ("student", "control") else row for row in report.systems]
    roles = VerdictRoles("student 1", "control 1", "teacher ensemble", "student int8")
    return dataclasses.replace(report, systems=rows, verdict=roles, baseline="control 1", paired=scores(SEEDS))


def markdown(report: ReportData) -> str:
    return results_document(report).markdown()


def latex(report: ReportData) -> str:
    return results_document(report).latex()


def test_a_row_a_seed_then_mean_and_standard_deviation(seeded: ReportData) -> None:
    table = seed_table(seeded)
    rows = [[cell.text for cell in cells] for cells in table.rows]
    assert [column.heading for column in table.columns] == ["System", "against", "Δ BLEU", "p (BLEU)"]
    assert rows[:3] == [
        ["student 1", "control 1", "+1.8", "0.010"],
        ["student 2", "control 2", "+0.3", "0.300"],
        ["student 3", "control 3", "+0.8", "0.020"],
    ]
    gains = [1.8, 0.3, 0.8]
    mean = f"+{statistics.mean(gains):.1f} (s.d. {statistics.stdev(gains):.1f})"
    assert rows[3] == ["student, 3 seeds", "control", mean, "p < 0.05 with 2 of 3"]


def test_terminal_page_and_twins_have_it(seeded: ReportData) -> None:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(terminal(seeded))
    assert isinstance(console.file, io.StringIO)
    for text in (console.file.getvalue(), markdown(seeded), render(seeded, draw(seeded))):
        assert "student, 3 seeds" in text and "+1.0 (s.d. 0.8)" in text.replace("\\", "")
    tex = latex(seeded)
    assert "\\textbf{student, 3 seeds} & control & \\textbf{+1.0 (s.d. 0.8)}" in tex and "$\\Delta$ BLEU" in tex
    assert tex.count("\\begin{tabular}") == tex.count("\\end{tabular}") == 2
    assert "−" not in tex and "Δ" not in tex


def test_members_without_one_of_their_seed_are_named(seeded: ReportData) -> None:
    student, control = (
        next(row for row in seeded.systems if row.name == f"{name} 1") for name in ("student", "control")
    )
    others = [first_of_several(row, number) for row, number in ((student, "2"), (student, "3"), (control, "2"))]
    rows = [*seeded.systems, *others]
    uneven = dataclasses.replace(seeded, systems=rows, paired=scores(SEEDS[:2]))
    told = "Not compared: student 3 (no control of its seed)"
    console = Console(file=io.StringIO(), width=500, color_system=None)
    console.print(terminal(uneven))
    assert isinstance(console.file, io.StringIO)
    for text in (console.file.getvalue(), markdown(uneven), latex(uneven), render(uneven, draw(uneven))):
        assert told in text.replace("\\", "")
    assert "Not compared" not in markdown(seeded)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (SEEDS, "Distillation made no proven difference with every seed: over 3 seeds the student is on average "
                "1.0 BLEU above the control, p < 0.05 with 2 of 3."),
        ([(k, a, b, 0.01) for k, a, b, _ in SEEDS], "Distillation helped: over 3 seeds the student is on average 1.0 "
                                                    "BLEU above the control, p < 0.05 with 3 of 3."),
        ([(k, b, a, 0.01) for k, a, b, _ in SEEDS], "Distillation did harm: over 3 seeds the student is on average "
                                                    "1.0 BLEU below the control, p < 0.05 with 0 of 3, in the other "
                                                    "direction with 3."),
    ],
)  # fmt: skip
def test_the_verdict_is_over_all_seeds(
    seeded: ReportData, seeds: list[tuple[int, float, float, float | None]], said: str
) -> None:
    (verdict,) = verdicts(dataclasses.replace(seeded, paired=scores(seeds)))
    assert said in verdict.headline
    answer = verdict.answers[-1]
    assert answer.text.startswith(said) and ONE_SEED not in answer.text  # seeds come before the test of one of them
    assert answer.value == ("−1.0 BLEU" if "harm" in said else "+1.0 BLEU")


def test_one_seed_has_no_row_of_means_and_the_verdict_stays(report: ReportData) -> None:
    one = dataclasses.replace(
        report, paired=[PairedScore("student", "control", "student", "control", "BLEU", 25.9, 24.3, None)]
    )
    assert [len(column.cells) for column in seed_table(one).columns] == [1, 1, 1]
    assert verdicts(one) == verdicts(report)


def test_fewer_errors_are_a_gain() -> None:
    item = {"of": "student", "against": "control", "system": "student-1", "other": "control-1", "metric": "TER",
            "value": 60.0, "other_value": 63.0, "p_value": 0.5}  # fmt: skip
    systems = [System(SystemRole.student, "student", "1"), System(SystemRole.control, "control", "1")]
    (score,) = paired({"systems": plain(systems), "pairs": [item]}, "en-de")
    assert (score.gain, score.system, score.pair) == (3.0, "student 1", "en-de")


def test_it_goes_through_json(seeded: ReportData) -> None:
    assert ReportData.from_dict(json.loads(seeded.to_json())) == seeded
