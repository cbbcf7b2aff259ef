"""Students beside the one: switched off they change nothing, switched on they are in all that judges and shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline.plan import Plan
from kd.recipe import compose

# Of recipe=demo before there were switches: whoever changes one of these makes everybody's store worthless, and says
# so by raising the version of a kind (speed is at 3 since, release at 3, evaluate at 4, report at 4).
BEFORE = {
    "teacher.en-de/member-1": "c3bbb96357bfc553",
    "decode.en-de/worker-0": "2612ea10aabee4b2",
    "encode_selected.en-de/all": "3a0ee2be05a0a073",
    "control.en-de/member-1": "e57d9f53e7f801b8",
    "student.en-de/member-1": "6508015e9b26f653",
    "export.en-de/student-int8": "310b696c067c2de9",
    "translate.en-de/control": "07267b935556dbad",
    "speed.en-de/all": "3caf40073de2f6cd",
    "evaluate.en-de/all": "a68ce701632ee6a0",
    "release.en-de/student-int8": "00d8741d0e107de2",
    "report/all": "d6520cba8bf7958b",
}
ON = ("students.first=true", "students.best_and_gold=true", "students.finetuned=true", "students.in_domain=true")
IN_DOMAIN = "+in_domain.home_assistant=true"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the repository, so that nobody's store is looked at."""
    monkeypatch.chdir(tmp_path)


def plan(*overrides: str) -> Plan:
    return compose.plan(compose.compose(compose.parse_request(["recipe=demo", *overrides])))


def fingerprints(found: Plan) -> dict[str, str]:
    return {task.full_name: task.fingerprint for task in found.tasks()}


def test_switched_off_they_change_no_fingerprint() -> None:
    found = fingerprints(plan())
    assert {name: found[name] for name in BEFORE} == BEFORE
    assert not [name for name in found if "first" in name or "both" in name or "tuned" in name or "domain" in name]


def test_switched_on_they_recompute_nothing_that_was_there_but_what_compares() -> None:
    before, after = fingerprints(plan()), fingerprints(plan(*ON, IN_DOMAIN))
    changed = {name.partition(".")[0].partition("/")[0] for name in before if before[name] != after[name]}
    assert changed == {"speed", "evaluate", "release", "report"}
    new = ("student-first", "student-both", "student-finetuned", "student-in-domain")
    for name in new:
        assert {f"translate.en-de/{name}", f"export.en-de/{name}-int8", f"release.en-de/{name}-int8"} <= set(after)


def test_each_learns_what_it_is_called_for() -> None:
    found = plan(*ON, IN_DOMAIN)
    variants = {name: found.find(name)[0].config.variant.value for name in ("select", "select_first", "select_both")}
    assert variants == {"select": "best", "select_first": "first", "select_both": "best_and_gold"}
    for name, data in {"student_first": "encode_first", "student_both": "encode_both", "finetuned": "encode",
                       "in_domain": "encode_in_domain", "control": "encode"}.items():  # fmt: skip
        (stage,) = found.find(name)
        assert [other.spec.name for _, other in stage.inputs["data"]] == [data]
    (student,), (first,), (tuned,) = found.find("student"), found.find("student_first"), found.find("finetuned")
    assert first.config == student.config
    assert [other.spec.name for _, other in tuned.inputs["start"]] == ["student"]
    assert (tuned.config.model, tuned.config.batch) == (student.config.model, student.config.batch)
    assert tuned.config.max_update == tuned.config.optimizer.decay_updates == 2000


def test_fine_tuning_goes_on_from_the_student_of_its_own_seed() -> None:
    found = plan("student.members=3", "students.finetuned=true")
    (tuned,), (student,) = found.find("finetuned"), found.find("student")
    assert [task.inputs["start"][0].task for task in tuned.tasks] == student.tasks
    (evaluate,) = found.find("evaluate")
    (task,) = evaluate.tasks
    assert task.identity["pairs"] == [
        *([f"student-{k}", f"control-{k}"] for k in (1, 2, 3)),
        *([f"student-finetuned-{k}", f"control-{k}"] for k in (1, 2, 3)),
        *([f"student-finetuned-{k}", f"student-{k}"] for k in (1, 2, 3)),
    ]


def test_more_seeds_keep_the_models_that_are_there() -> None:
    one, three = fingerprints(plan()), fingerprints(plan("student.members=3"))
    for name in ("student.en-de/member-1", "control.en-de/member-1", "export.en-de/student-int8"):
        assert one[name] == three.get(name, three.get(name.replace("student-", "student-1-")))


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["students.frist=true"], "mean students.first"),
        (["students.in_domain=true"], "+in_domain.NAME=true"),
        (["students.in_domain=true", "+in_domain.home=true"], "There are: home_assistant"),
        (["finetune.model.width=64"], "Set student.model.width for all"),
        (["students.finetuned=true", "finetune.max_update=50"], "finetune: optimizer.warmup_updates"),
        (["student.members=3", "evaluate.baseline=controll"], "control"),
    ],
)
def test_mistakes_name_their_key(overrides: list[str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(*overrides)
    assert named in str(caught.value)
