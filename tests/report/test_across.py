"""Multilingual beside bilingual students: differences, what is real of them, and sums, as worked out by hand."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest

from kd.models.systems import System, SystemRole
from kd.report import across
from kd.report.data import ReportData
from kd.report.figures import draw
from kd.report.page import render
from kd.report.systems import Comparison, MetricScore, SystemRow, VerdictRoles, verdict_roles
from kd.report.table import Table

# pair -> BLEU of bilingual student, multilingual student and control; p of student against bilingual and control
SCORES = {"da-en": (30.0, 32.0, 29.0, 0.01, 0.2), "sv-en": (25.0, 24.0, 20.0, 0.03, 0.0001)}


STUDENT = System(SystemRole.student, "student")
CONTROL = System(SystemRole.control, "control")
INT8 = replace(STUDENT, format="int8")


def row(pair: str, system: System, bleu: float, p: float | None = None, **facts: object) -> SystemRow:
    scores = [MetricScore("BLEU", bleu, "sig", (bleu - 1, bleu + 1), p)]
    return SystemRow(system, scores, pair=pair, parameters=2_000_000, **facts)  # type: ignore[arg-type]


@pytest.fixture
def data() -> ReportData:
    systems, tests = [], []
    for pair, (own, student, control, p_own, p_control) in SCORES.items():
        systems += [
            row(pair, System(SystemRole.student, "bilingual", pair=pair), own, megabytes=11.0, training_updates=100,
                training_seconds=60.0),
            row(pair, STUDENT, student, p_control, megabytes=12.0, training_updates=200,
                training_seconds=90.0),
            row(pair, CONTROL, control, megabytes=12.0),
            row(pair, INT8, student - 0.1, megabytes=2.5),
        ]  # fmt: skip
        tests.append(Comparison("student", "bilingual", "BLEU", p_own, pair))
    roles = VerdictRoles("student", "control", "", "student int8", bilingual="bilingual")
    return ReportData("Two to English", "2026-11-21", systems, roles, "control", tests)


def cells(table: Table) -> dict[str, list[str]]:
    return {column.heading: [cell.text for cell in column.cells] for column in table.columns}


def test_a_row_a_pair_and_their_mean(data: ReportData) -> None:
    assert cells(across.score_table(data, "BLEU")) == {
        "Pair": ["da-en", "sv-en", "mean"],
        "bilingual, BLEU": ["30.0", "25.0", "27.5"],
        "multilingual, BLEU": ["32.0", "24.0", "28.0"],
        "difference": ["+2.0", "−1.0", "+0.5"],
        "p": ["0.010", "0.030", ""],
        "control, BLEU": ["29.0", "20.0", "24.5"],
        "to control": ["+3.0", "+4.0", "+3.5"],
        "p to control": ["0.200", "< 0.001", ""],
    }


def test_one_model_against_the_sum(data: ReportData) -> None:
    assert cells(across.cost_table(data)) == {
        "Models": ["2 bilingual models together", "one multilingual model", "the same as student int8"],
        "How many": ["2", "1", "1"],
        "Parameters, millions": ["4.0", "2.0", "2.0"],
        "Size, MB": ["22.0", "12.0", "2.5"],
        "Updates": ["200", "200", ""],
        "Training": ["2 min 00 s", "1 min 30 s", ""],
    }


def test_it_says_what_is_real(data: ReportData) -> None:
    assert across.summary(data) == [
        "One model for 2 language pairs is on average 0.5 BLEU above bilingual students of equal architecture.",
        "It is significantly better in da-en (paired bootstrap, p < 0.05).",
        "It is significantly worse in sv-en (paired bootstrap, p < 0.05).",
        "It takes 12.0 MB, the bilingual students 22.0 MB together.",
    ]
    equal = [dataclasses.replace(each, training_updates=100) for each in data.systems]
    assert across.summary(dataclasses.replace(data, systems=equal))[0].endswith("architecture and number of updates.")
    poor = [dataclasses.replace(each, scores=[dataclasses.replace(each.scores[0], value=0.3)]) for each in data.systems]
    [sentence] = across.summary(dataclasses.replace(data, systems=poor))
    assert sentence.startswith("None of these students translates yet")


def test_documents_and_the_page_have_it(data: ReportData) -> None:
    assert "| da-en | 30.0 | 32.0 | +2.0 | 0.010 | 29.0 | +3.0 | 0.200 |" in across.document(data).markdown()
    assert "mean & 27.5 & 28.0 & +0.5" in across.document(data).latex()
    page = render(data, draw(data))
    assert 'id="pairs"' in page and "One model for 2 language pairs is on average" in page


def test_a_run_without_bilingual_students_has_none_of_it(report: ReportData) -> None:
    assert across.compared_pairs(report) == []
    assert 'id="pairs"' not in render(report, draw(report))


def test_the_student_for_all_pairs_is_the_one_in_question(data: ReportData) -> None:
    roles = verdict_roles(data.systems)
    assert (roles.student, roles.bilingual, roles.control) == ("student", "bilingual", "control")
    assert roles.export == "student int8"
    own = [row for row in data.systems if row.system.pair]
    assert (verdict_roles(own).student, verdict_roles(own).bilingual) == ("bilingual", "")
