"""The sentences on what a student learned from its teachers, on the page and on its card."""

from __future__ import annotations

import dataclasses

import pytest

from kd.report.data import ReportData
from kd.report.verdict import lessons, verdicts

WORDS = {"alpha": 0.5, "end_alpha": None, "top": 8}
TEXT = "It learned from the text that selection kept."


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, TEXT),  # of an earlier version
        ({"distill": {"alpha": 0.0, "end_alpha": None, "top": 8}, "start": {"layers": False}}, TEXT),
        (
            {"distill": WORDS, "start": {"layers": False}},
            "It learned from the text that selection kept and from the teachers' token distributions (weight 0.5, the "
            "8 most probable tokens per position).",
        ),
        (
            {"distill": {**WORDS, "end_alpha": 0.1, "top": 0}, "start": {"layers": True}},
            "It learned from the text that selection kept and from the teachers' token distributions (weight 0.5 to "
            "0.1, the whole vocabulary), and started from layers of a teacher, as did the control.",
        ),
    ],
)
def test_each_part_has_its_sentence(settings: dict, said: str) -> None:
    assert lessons(settings) == said


def test_several_hypotheses_are_named() -> None:
    top = {"variant": "top", "top": 4}
    said = "It learned from the 4 best hypotheses of each source, one per epoch in turn"
    assert lessons({}, top) == f"{said}."
    assert lessons({"distill": WORDS}, top).startswith(f"{said}, and from the teachers' token")
    assert lessons({}, {"variant": "best", "top": 4}) == TEXT


def test_the_verdict_says_it_of_the_student(report: ReportData) -> None:
    roles = dataclasses.replace(report.verdict, lessons=TEXT)
    [verdict] = verdicts(dataclasses.replace(report, verdict=roles))
    assert verdict.answers[-1].text.startswith("The student learned from the text that selection kept. ")
