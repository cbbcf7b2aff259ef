"""Robustness on page, evaluation card and model card: counts of every system, and failures as they were."""

from __future__ import annotations

import dataclasses
import json

import pytest

from kd.base.records import plain, record
from kd.metrics.robustness import Checked, Failure, Robustness
from kd.report.card import Card, render
from kd.report.data import ReportData
from kd.report.evaluation_card import evaluation_card, to_json
from kd.report.page import render as page
from kd.report.robustness import RobustnessOfPair, check_table, gathered, kind_table

SCRIPT = "<script>alert(2)</script>"


def made(failed: int) -> Robustness:
    failures = [Failure("url", "copying", f"See {SCRIPT}.", "Siehe.", "https://example.org")] if failed else []
    return Robustness(
        inputs=180,
        checks={"copying": Checked(90, failed), "case": Checked(0, 0), "sound": Checked(180, 0)},
        kinds={"plain": Checked(10, 0), "url": Checked(10, failed)},
        failures=failures,
    )


@pytest.fixture
def robust(report: ReportData) -> ReportData:
    systems = {"teacher ensemble": made(0), "student": made(4), "student int8": made(5)}
    return dataclasses.replace(report, robustness=[RobustnessOfPair(systems)])


def test_tables_name_failures_and_the_inputs_that_could_fail(robust: ReportData) -> None:
    systems = robust.robustness[0].systems
    rows = {cells[0].text: [cell.text for cell in cells[1:]] for cells in check_table(systems).rows}
    assert rows["lost an address, number, emoji or placeholder"] == ["0 of 90", "4 of 90", "5 of 90"]
    assert "changed the case" not in rows  # a language without case
    assert rows["failed any check"] == ["0 of 180", "4 of 180", "5 of 180"]
    kinds = {cells[0].text: cells[2].text for cells in kind_table(systems).rows}
    assert kinds == {"sentence as it is": "0 of 10", "with a URL": "4 of 10"}


def test_the_page_has_a_section_with_failures_of_student_and_export(robust: ReportData) -> None:
    text = page(robust, {})
    section = text.partition('<section id="robustness">')[2].partition("</section>")[0]
    assert '<a href="#robustness">' in text and text.index('id="weaknesses"') < text.index('id="robustness"')
    assert "student: 4 inputs failed; 1 failure shown" in section and "student int8: 5 inputs failed" in section
    assert "missing: https://example.org" in section and "teacher ensemble: " not in section
    assert SCRIPT not in section and "&lt;script&gt;" in section


def test_a_run_without_the_suite_has_no_section(report: ReportData) -> None:
    assert "obustness" not in page(report, {}).partition("</style>")[2]


def test_it_survives_json_and_is_on_the_evaluation_card(robust: ReportData) -> None:
    assert record(ReportData, plain(robust), "report.json").robustness == robust.robustness
    found = json.loads(to_json(evaluation_card(robust)))["robustness"]
    assert [each["system"] for each in found] == ["teacher ensemble", "student", "student int8"]
    assert found[1]["checks"]["copying"] == {"inputs": 90, "failed": 4}


def test_what_evaluate_left_has_the_titles_of_the_table() -> None:
    counted = {"en-de": {"systems": {"student-int8": plain(made(2))}}}
    assert gathered(counted, {"en-de": {"student-int8": "student int8"}}, several=True) == [
        RobustnessOfPair({"student int8": made(2)}, "en-de")
    ]


def test_the_model_card_compares_the_model_with_its_teacher() -> None:
    card = Card(
        "student-int8",
        "t",
        "en",
        "de",
        "ctranslate2",
        {"compute_type": "int8", "preprocessing": {"normalization": "identity"}},
    )
    assert "obustness" not in render(card)
    text = render(dataclasses.replace(card, robustness={"": {"student-int8": made(5), "teacher-ensemble": made(0)}}))
    assert "| Inputs that a system … | student-int8 | teacher-ensemble |" in text
    assert "| lost an address, number, emoji or placeholder | 5 of 90 | 0 of 90 |" in text
    assert "\n## Provenance\n" in text  # the table ends before the next heading
    several = render(dataclasses.replace(card, robustness={"en-da": {"student-int8": made(5)}}))
    assert "Robustness (en-da): failures on inputs like those of users" in several
