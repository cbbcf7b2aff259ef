"""What source-only text brought: its part of the student's corpus, and the comparison with the second control."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from kd.models.systems import SystemKind
from kd.pipeline.model import Artifact
from kd.report.data import ReportData
from kd.report.evaluation_card import evaluation_card
from kd.report.source_only import SOURCE_ONLY, SourceOnly, source_only
from kd.report.systems import Comparison, verdict_roles
from kd.report.verdict import lessons, verdicts
from tests.report.conftest import system

PART = SourceOnly(sentences=1200, tokens=30_000, share=0.25)
IN_WORDS = "1,200 source-only sentences (30,000 target tokens, 25.0 % of its corpus)"


def with_source_only(report: ReportData, bleu: float | None, p: float = 0.02) -> ReportData:
    """The report of a student with source-only text; with a second control of this BLEU, in front of the first."""
    systems, tests = report.systems, list(report.comparisons)
    if bleu is not None:
        row = system("control-selected", SystemKind.control, bleu, None, 49.0)
        row = dataclasses.replace(row, system=dataclasses.replace(row.system, label="control-selected"))
        systems = [row, *systems]
        tests.append(Comparison("student", "control selected", "BLEU", p))
    verdict = verdict_roles(systems, "bleu")
    return dataclasses.replace(report, systems=systems, comparisons=tests, verdict=verdict, source_only=PART)


def answer(report: ReportData) -> str:
    (verdict,) = verdicts(report)
    last = verdict.answers[-1]
    return f"{last.question} {last.value}: {last.text}".replace("\u00a0", " ")


def training(label: str, axis: str, facts: dict[str, Any]) -> Artifact:
    return Artifact(Path(), label, label, "member-1", "f", axis, {}, {"facts": facts})


def test_the_part_of_the_students_corpus_is_added_up_over_pairs_and_not_over_seeds() -> None:
    one, two = ({SOURCE_ONLY: {"sentences": n, "target tokens": 10 * n, "target tokens of all": 60}} for n in (1, 2))
    of = [training("student", "en-de", one), training("student", "en-de", one), training("student", "en-fi", two)]
    others = [training("control-selected", "en-de", {}), training("control", "en-de", {})]
    assert source_only([*others, *of]) == SourceOnly(3, 30, 0.25)
    assert source_only(others) is None


def test_the_student_is_compared_with_the_second_control_and_distillation_with_the_first(report: ReportData) -> None:
    found = with_source_only(report, 25.0)
    assert (found.verdict.control, found.verdict.control_selected) == ("control", "control selected")
    said = answer(found)
    # 25.86 is the student's; 25.9 − 25.0 as printed
    assert said.startswith(
        f"What did source-only text bring? +0.9 BLEU: The student learned from {IN_WORDS}. It has 25.9 BLEU; the "
        "control selected, the same model trained on the rest of its text, 25.0 BLEU: significant, p = 0.020."
    )
    distillation = verdicts(found)[0].answers[-2].text
    assert "the control, the same model trained on the human translations" in distillation
    assert "The difference includes what source-only text brought, which the control cannot use." in distillation
    assert [each.control for each in evaluation_card(found).control] == ["control", "control selected"]


def test_a_difference_that_is_not_significant_is_called_so(report: ReportData) -> None:
    assert "On this test set the two cannot be told apart." in answer(with_source_only(report, 25.0, 0.4))


def test_without_a_second_control_it_is_not_known(report: ReportData) -> None:
    assert answer(with_source_only(report, None)).startswith("What did source-only text bring? not known: ")


def test_a_report_without_such_text_has_no_such_answer(report: ReportData) -> None:
    assert "source-only" not in answer(report)


def test_the_lesson_names_it() -> None:
    said = lessons({}, {}, PART).replace("\u00a0", " ")
    assert said == f"It learned from the text that selection kept, including translations of {IN_WORDS}."
