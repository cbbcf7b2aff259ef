"""The identity of systems: their names, their roles, and that no two of a run have one name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import UserError
from kd.base.records import plain, record
from kd.models.systems import System, SystemKind, SystemRole, labelled, possible_names, system_of, systems_of
from kd.pipeline.plan import Plan
from kd.recipe import compose

TEACHER, STUDENT = System(SystemRole.teacher, "teacher"), System(SystemRole.student, "student")


@dataclass(frozen=True)
class Model:
    """An input of a stage: a system, and the label that the recipe gives it there."""

    label: str
    system: System
    subject: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject", plain(self.system))


def inputs(label: str, system: System, *members: str) -> list[Model]:
    return [Model(label, replace(system, member=member)) for member in members] or [Model(label, system)]


@pytest.mark.parametrize(
    ("system", "name", "kind"),
    [
        (STUDENT, "student", "student"),
        (replace(STUDENT, label="student-first"), "student-first", "student"),
        (replace(TEACHER, member="2"), "teacher-2", "teacher"),
        (replace(TEACHER, ensemble=True), "teacher-ensemble", "ensemble"),
        (replace(STUDENT, format="int8"), "student-int8", "export"),
        (replace(STUDENT, member="3", checkpoint="600", format="int8"), "student-3-600-int8", "export"),
        (System(SystemRole.control, "public"), "public", "control"),
        (System(SystemRole.external, "opus-mt", engine=""), "opus-mt", "external"),
    ],
)
def test_names_and_kinds_follow_from_the_fields(system: System, name: str, kind: str) -> None:
    assert (system.name, system.title, system.kind) == (name, name.replace("-", " "), SystemKind(kind))
    assert record(System, json.loads(json.dumps(plain(system))), "system") == system


def test_members_come_alone_and_together_where_asked_for_and_exports_last() -> None:
    models = [
        *inputs("export", replace(STUDENT, format="int8")),
        *inputs("teacher", TEACHER, "1", "2"),
        *inputs("student", STUDENT),
    ]
    found = systems_of(models, {"teacher": True, "student": True})
    assert {system.name: len(items) for system, items in found.items()} == {
        "teacher-1": 1, "teacher-2": 1, "teacher-ensemble": 2, "student": 1, "student-int8": 1,
    }  # fmt: skip
    assert [system.name for system in systems_of(models, {"teacher": False})][2] == "student"


def test_a_trained_model_is_called_by_its_label_and_an_export_by_its_own() -> None:
    assert labelled(Model("first", STUDENT)).name == "first"
    assert labelled(Model("export", replace(STUDENT, format="int8"))).name == "student-int8"
    assert labelled(Model("translate", System(SystemRole.external, "opus", engine=""))).name == "opus"
    assert system_of(Model("translate", STUDENT)) == STUDENT


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (
            [*inputs("student", STUDENT, "1", "2"), *inputs("student-2", STUDENT)],
            "student-2: member 2 of student and student-2.",
        ),
        (
            [*inputs("student-2", STUDENT), *inputs("student", STUDENT, "1", "2")],
            "student-2: student-2 and member 2 of student.",
        ),
        (
            [*inputs("teacher", TEACHER, "1", "2"), *inputs("teacher-ensemble", TEACHER)],
            "teacher-ensemble: the ensemble of teacher and teacher-ensemble.",
        ),
        (
            [*inputs("student-int8", STUDENT), *inputs("export", replace(STUDENT, format="int8"))],
            "student-int8: student-int8 and student as int8.",
        ),
        (
            [*inputs("a", STUDENT), *inputs("a", replace(STUDENT, pair="en-de"))],
            "a: a and a (en-de).",
        ),
    ],
)
def test_two_systems_of_one_name_are_refused(models: list[Model], said: str) -> None:
    with pytest.raises(UserError) as caught:
        systems_of(models, {"teacher": True})
    assert caught.value.problem == f"Two systems would have the name {said}"


def test_names_that_another_number_of_members_would_give() -> None:
    names = possible_names("teacher")
    assert {"teacher", "teacher-ensemble", "teacher-1", "teacher-12"} <= names
    assert not {"teacher-0", "teacher-a", "teachers", "teacher-ensembel"} & names


# --- in a recipe -----------------------------------------------------------------------------------------------------


def planned(tmp_path: Path, recipe: str) -> Plan:
    for name in ("a", "b"):
        (tmp_path / name).write_text("one\n", "utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [/files/recipe@_global_, _self_]\nsource: a\ntarget: b\n" + recipe, "utf-8")
    text_alone = ["student.distill.alpha=0", "student.distill.stored=false"]  # further students have no teachers here
    return compose.plan(compose.compose(compose.parse_request([f"recipe={path}", *text_alone])))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


SECOND = """
student: {members: 2}
chain:
  LABEL:
    kind: train
    over: pairs
    inputs: {data: encode}
    settings: ${student}
    changes: {members: 1}
  STAGE: {inputs: {systems: {LABEL: LABEL}}}
"""


@pytest.mark.parametrize("stage", ["translate", "speed", "release"])
def test_a_label_like_a_members_name_is_refused_when_the_recipe_is_planned(tmp_path: Path, stage: str) -> None:
    recipe = SECOND.replace("LABEL", "student-2").replace("STAGE", stage)
    with pytest.raises(
        UserError, match=r"Two systems would have the name student-2: member 2 of student and student-2\."
    ):
        planned(tmp_path, recipe)
    plan = planned(tmp_path, SECOND.replace("LABEL", "student_b").replace("STAGE", stage))
    names = {task.name for task in plan.find("translate")[0].tasks}
    assert {"student-1", "student-2"} <= names and ("student_b" in names) == (stage == "translate")


ROLES = """
chain:
  public: {kind: train, over: pairs, inputs: {data: encode}, settings: "${student}"}
  second_control: {kind: train, role: control, over: pairs, inputs: {data: encode}, settings: "${student}"}
  translate: {inputs: {systems: {public: public, second_control: second_control}}}
"""


def test_roles_are_those_of_the_recipe_whatever_the_names(tmp_path: Path) -> None:
    plan = planned(tmp_path, ROLES)
    (task,) = plan.find("evaluate")[0].tasks
    systems = {each.name: each.kind.value for each in (record(System, s, "s") for s in task.identity["systems"])}
    assert systems["public"] == "student"
    assert systems["control"] == systems["second_control"] == "control"
    assert systems["student-int8"] == "export"
    assert {kind for name, kind in systems.items() if name.startswith("teacher")} <= {"teacher", "ensemble"}


def test_another_role_evaluates_anew_and_trains_and_translates_nothing(tmp_path: Path) -> None:
    one = planned(tmp_path, ROLES)
    other = planned(tmp_path, ROLES.replace("public: {kind: train,", "public: {kind: train, role: control,"))
    before, after = ({task.full_name: task.fingerprint for task in plan.tasks()} for plan in (one, other))
    changed = {name.partition(".")[0] for name in before if before[name] != after[name]}
    assert changed == {"evaluate", "release", "report/all"}


def test_a_training_that_decodes_is_a_teacher_unless_the_recipe_says_otherwise(tmp_path: Path) -> None:
    recipe = """
chain:
  big: {kind: train, over: pairs, inputs: {data: encode}, settings: "${teacher}"}
  decode: {inputs: {teachers: big}}
  report: {inputs: {trainings: {big: big}}}
"""
    assert planned(tmp_path, recipe).find("big")[0].role == "teacher"
    declared = recipe.replace("big: {kind: train,", "big: {kind: train, role: student,")
    assert planned(tmp_path, declared).find("big")[0].role == "student"
    idle = recipe.replace("  decode: {inputs: {teachers: big}}\n", "")
    assert planned(tmp_path, idle).find("big")[0].role == "student"


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ("split: {role: student}", "chain.split.role is student, but the output of a split stage is not a system. "
                                   "Remove chain.split.role."),
        ("student: {role: tutor}", "tutor"),
    ],
)  # fmt: skip
def test_a_role_that_cannot_be_is_refused(tmp_path: Path, chain: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        planned(tmp_path, f"chain:\n  {chain}\n")
    assert said in str(caught.value)
