"""What students take from their teachers, as it is planned: inputs, identities, and mistakes before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline.plan import Plan, Task
from kd.recipe import compose
from kd.recipe.schema import TrainConfig
from kd.stages.teachers import started

OFF = ("student.distill.alpha=0", "student.distill.stored=false", "student.start.layers=false")
WORDS = (*OFF[2:], "student.distill.alpha=0.5", "student.distill.top=8", "student.distill.stored=false")


def plan(place: Path, *overrides: str, recipe: str = "demo") -> Plan:
    """Of a recipe, with the store in this folder."""
    arguments = [f"recipe={recipe}", f"store.dir={place}/store", f"run.dir={place}/run", *overrides]
    return compose.plan(compose.compose(compose.parse_request(arguments)))


def only(planned: Plan, stage: str) -> Task:
    [found] = planned.find(stage)
    return found.tasks[0]


def read(task: Task) -> dict[str, list[str]]:
    """The tasks that a task reads, by role."""
    return {role: [item.task.full_name for item in items] for role, items in task.inputs.items()}


def test_a_student_without_either_reads_no_teacher(tmp_path: Path) -> None:
    planned = plan(tmp_path, *OFF)
    assert read(only(planned, "student")) == {"data": ["encode_selected.en-de/all"]}
    assert read(only(planned, "control")) == {"data": ["encode.en-de/all"]}
    # What has no effect is no part of the identity.
    more = plan(tmp_path, *OFF, "student.distill.temperature=2", "student.start.decoder=last")
    for stage in ("student", "control"):
        assert only(more, stage).fingerprint == only(planned, stage).fingerprint
        assert not {"distill", "start"} & only(planned, stage).identity.keys()


def test_live_teachers_are_all_members_and_the_control_has_none(tmp_path: Path) -> None:
    planned = plan(tmp_path, *WORDS)
    members = ["teacher.en-de/member-1", "teacher.en-de/member-2"]
    assert read(only(planned, "student")) == {"data": ["encode_selected.en-de/all"], "teachers": members}
    assert read(only(planned, "control")) == {"data": ["encode.en-de/all"]}
    off = plan(tmp_path, *OFF)
    assert only(planned, "control").fingerprint == only(off, "control").fingerprint
    assert only(planned, "student").fingerprint != only(off, "student").fingerprint


def test_stored_distributions_take_the_place_of_the_teachers(tmp_path: Path) -> None:
    planned = plan(tmp_path, *WORDS, "student.distill.stored=true", "soften.workers=2", "students.first=true")
    [soften] = planned.find("soften")
    assert [task.name for task in soften.tasks] == ["worker-0", "worker-1"]
    assert soften.config.top == 8
    assert read(only(planned, "student"))["distributions"] == [task.full_name for task in soften.tasks]
    assert "teachers" not in read(only(planned, "student"))
    # Another student learns another text, for which nothing is stored: it asks the teachers.
    assert read(only(planned, "student_first"))["teachers"] == ["teacher.en-de/member-1", "teacher.en-de/member-2"]
    assert "distributions" not in read(only(planned, "student_first"))
    # Where batches and files end has no effect on what is stored.
    finer = plan(tmp_path, *WORDS, "student.distill.stored=true", "soften.workers=2", "soften.batch_tokens=100")
    assert [task.fingerprint for task in finer.find("soften")[0].tasks] == [task.fingerprint for task in soften.tasks]


def test_student_and_control_start_from_the_same_teacher_member_by_member(tmp_path: Path) -> None:
    planned = plan(tmp_path, *OFF[:2], "student.start.layers=true", "student.members=3")
    expected = [[f"teacher.en-de/member-{number}"] for number in (1, 2, 1)]
    for stage in ("student", "control"):
        [found] = planned.find(stage)
        assert [read(task)["teachers"] for task in found.tasks] == expected
        assert [task.identity["start"]["teacher"] for task in found.tasks] == ["member-1", "member-2", "member-1"]
    both = plan(tmp_path, *WORDS[1:], "student.distill.stored=true", "student.start.layers=true")
    assert read(only(both, "student")) == {
        "data": ["encode_selected.en-de/all"],
        "distributions": ["soften.en-de/worker-0", "soften.en-de/worker-1"],
        "teachers": ["teacher.en-de/member-1"],
    }
    assert read(only(both, "control")) == {"data": ["encode.en-de/all"], "teachers": ["teacher.en-de/member-1"]}


def test_a_start_has_a_learning_rate_of_its_own() -> None:
    config = TrainConfig()
    config.optimizer.learning_rate = 4e-3
    assert started(config).optimizer.learning_rate == 4e-3
    config.start.layers = True
    assert started(config).optimizer.learning_rate == 4e-3
    config.start.learning_rate = 1e-4
    assert started(config).optimizer.learning_rate == 1e-4


def test_the_cells_of_a_search_learn_from_the_teachers_too(tmp_path: Path) -> None:
    search = ("chain=search", "student=tiny_from_search", "search.encoder_layers=[2,4]", "search.seeds=2")
    planned = plan(tmp_path, *search, *WORDS[1:], "student.start.layers=true")
    [found] = planned.find("search")
    members = ["teacher.en-de/member-1", "teacher.en-de/member-2"]
    assert all(read(task)["teachers"] == members for task in found.tasks)
    starts = {task.name.rpartition("-seed")[2]: task.identity["start"]["teacher"] for task in found.tasks}
    assert starts == {"1": "member-1", "2": "member-2"}
    assert not [stage for stage in planned.stages if stage.spec.name == "soften"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["student.distill.alpha=1.5"], r"student.distill.alpha is 1.5. It must be at least 0 and at most 1"),
        ([*WORDS, "student.distill.temperature=0"], r"student.distill.temperature is 0.0. It must be above 0"),
        ([*WORDS, "student.distill.end_alpha=0.1"], r"Set distill.end_updates"),
        ([*WORDS, "student.distill.top=-1"], r"distill.top is -1"),
        ([*WORDS, "student.distill.top=0", "student.distill.stored=true"], r"Set student.distill.top to 8"),
        (
            ["student.distill.alpha=0", "student.distill.stored=true", "student.distill.top=8"],
            r"Set student.distill.stored=false",
        ),
        (["teacher.distill.alpha=0.5"], r"learns token distributions in each update, but has no teachers"),
        ([*OFF[:2], "student.start.layers=true", "teacher.model.width=256"], "model.width is 128 here and 256 there"),
        (["student.start.layers=true", "student.init_from=/nowhere"], "are both set"),
        (["student.start.learning_rate=0"], "start.learning_rate is 0"),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan(tmp_path, *overrides)
