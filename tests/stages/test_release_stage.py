"""Which systems a model card compares with, and which one its p-values are against."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kd.base.records import plain
from kd.models.systems import System, SystemRole
from kd.stages.release import _baseline, _beside

TEACHERS = [System(SystemRole.teacher, "big", str(number), pair="en-de") for number in (1, 2)]
ENSEMBLE = replace(TEACHERS[0], member=None, ensemble=True)
STUDENTS = [System(SystemRole.student, "small", str(number), pair="en-de") for number in (1, 2)]
CONTROLS = [System(SystemRole.control, "gold", str(number), pair="en-de") for number in (1, 2)]
OPUS = System(SystemRole.external, "opus-mt", engine="")
ALL = [*TEACHERS, ENSEMBLE, *STUDENTS, *CONTROLS, OPUS]


def export(system: System) -> System:
    return replace(system, format="int8", engine="ctranslate2")


def test_an_export_is_compared_by_roles_whatever_the_names() -> None:
    found = _beside(export(STUDENTS[1]), ALL)
    assert [each.name for each in found] == ["big-ensemble", "big-1", "small-2", "gold-2", "opus-mt"]
    assert [each.name for each in _beside(ENSEMBLE, ALL)] == ["big-1", "small-1", "gold-1", "opus-mt"]


def test_a_student_of_several_pairs_is_compared_with_one_of_a_single_pair() -> None:
    shared = System(SystemRole.student, "multi")
    found = _beside(export(shared), [shared, STUDENTS[0], ENSEMBLE])
    assert [each.name for each in found] == ["big-ensemble", "multi", "small-1"]


@pytest.mark.parametrize(
    ("system", "tested", "expected"),
    [
        (export(STUDENTS[0]), ["gold-1", "big-ensemble"], "big-ensemble"),
        (export(STUDENTS[0]), ["gold-1"], "gold-1"),
        (STUDENTS[0], ["gold-1", "big-ensemble"], "gold-1"),
        (ENSEMBLE, ["gold-1", "big-ensemble"], "gold-1"),
        (export(STUDENTS[0]), [], None),
    ],
)
def test_p_is_against_the_teacher_for_exports(system: System, tested: list[str], expected: str | None) -> None:
    evaluation: dict[str, Any] = {"systems": plain(ALL), "significance": {name: [] for name in tested}}
    assert _baseline(system, evaluation) == expected
