"""Further students: off, they change nothing; on, they are part of all evaluations and reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline.plan import Plan
from kd.recipe import compose

# Fingerprints of recipe=demo. A change here makes the stores of all users recompute: raise the version of a kind only
# with a reason, and add a line to CHANGELOG.md.
BEFORE = {
    "teacher.en-de/member-1": "cb57a07e1c7da425",
    "decode.en-de/worker-0": "2c673c32b7c1bbab",
    "encode_selected.en-de/all": "bcd0797411d578c4",
    "control.en-de/member-1": "6c6a600dfe510854",
    "student.en-de/member-1": "aaa1da50301984c8",
    "export.en-de/student-int8": "e6d0bbd0942ccd81",
    "translate.en-de/control": "14ac26392a3b1c93",
    "speed.en-de/all": "dfbeb0c6df43178f",
    "evaluate.en-de/all": "e8a1e2528d174685",
    "release.en-de/student-int8": "e38432de3760201d",
    "report/all": "d28642ae1a9e2fd8",
}
# The demo's student as it was: text alone, from random weights.
TEXT_ALONE = (
    "student.distill.alpha=0",
    "student.distill.stored=false",
    "student.start.layers=false",
    "student.max_update=2600",
    "evaluate.speed.sentences=200",
    "evaluate.speed.latency_sentences=100",
)
ON = (
    "students.first=true",
    "students.one_teacher=true",
    "students.best_and_gold=true",
    "students.finetuned=true",
    "students.in_domain=true",
)
IN_DOMAIN = "+in_domain.home_assistant=true"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the repository, so that nobody's store is looked at."""
    monkeypatch.chdir(tmp_path)


def plan(*overrides: str) -> Plan:
    return compose.plan(compose.compose(compose.parse_request(["recipe=demo", *overrides])))


def fingerprints(found: Plan) -> dict[str, str]:
    return {task.full_name: task.fingerprint for task in found.tasks()}


def test_students_that_are_off_change_no_fingerprint() -> None:
    found = fingerprints(plan(*TEXT_ALONE))
    assert {name: found[name] for name in BEFORE} == BEFORE
    assert not [
        name
        for name in found
        if "first" in name or "one" in name or "both" in name or "tuned" in name or "domain" in name
    ]


def test_students_that_are_on_recompute_only_the_comparison() -> None:
    before, after = fingerprints(plan()), fingerprints(plan(*ON, IN_DOMAIN))
    changed = {name.partition(".")[0].partition("/")[0] for name in before if before[name] != after[name]}
    assert changed == {"speed", "evaluate", "release", "report"}
    new = ("student-first", "student-one", "student-both", "student-finetuned", "student-in-domain")
    for name in new:
        assert {f"translate.en-de/{name}", f"export.en-de/{name}-int8", f"release.en-de/{name}-int8"} <= set(after)


def test_each_student_reads_its_training_data() -> None:
    found = plan(*ON, IN_DOMAIN)
    variants = {name: found.find(name)[0].config.variant.value for name in ("select", "select_first", "select_both")}
    assert variants == {"select": "best", "select_first": "first", "select_both": "best_and_gold"}
    for name, data in {"student_first": "encode_first", "student_both": "encode_both", "finetuned": "encode",
                       "in_domain": "encode_in_domain", "control": "encode"}.items():  # fmt: skip
        (stage,) = found.find(name)
        assert [other.spec.name for _, other in stage.inputs["data"]] == [data]
    (decode_one,), (student_one,) = found.find("decode_one"), found.find("student_one")
    for task in (*decode_one.tasks, *student_one.tasks):
        assert [item.task.full_name for item in task.inputs["teachers"]] == ["teacher.en-de/member-1"]
    (student,), (first,), (tuned,) = found.find("student"), found.find("student_first"), found.find("finetuned")
    assert first.config == student.config
    assert [other.spec.name for _, other in tuned.inputs["start"]] == ["student"]
    assert (tuned.config.model, tuned.config.batch) == (student.config.model, student.config.batch)
    assert tuned.config.max_update == tuned.config.optimizer.decay_updates == 2000


def test_fine_tuning_starts_from_the_student_of_the_same_seed() -> None:
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


def test_more_seeds_keep_the_existing_models() -> None:
    one, three = fingerprints(plan()), fingerprints(plan("student.members=3"))
    for name in ("student.en-de/member-1", "control.en-de/member-1", "export.en-de/student-int8"):
        assert one[name] == three.get(name, three.get(name.replace("student-", "student-1-")))


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["students.frist=true"], "mean students.first"),
        (["students.in_domain=true"], "+in_domain.NAME=true"),
        (["students.in_domain=true", "+in_domain.home=true"], "There are: home_assistant"),
        (["finetune.model.width=64"], "To change all of them, type student.model.width=64"),
        (["students.finetuned=true", "finetune.max_update=50"], "finetune: optimizer.warmup_updates"),
        (["student.members=3", "evaluate.baseline=controll"], "control"),
        (["checkpoint.validate_every=300"], "Set checkpoint.validate_every to a multiple of 200, or to 0"),
        (["decode.members=3"], "decode.members is 3, but there are 2 teachers. Set decode.members between 1 and 2"),
        (["soften.members=3"], "soften.members is 3, but there are 2 teachers"),
        (
            ["student.distill.stored=false", "student.distill.members=3"],
            "student.distill.members is 3, but there are 2",
        ),
    ],
)
def test_mistakes_name_their_key(overrides: list[str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(*overrides)
    assert named in str(caught.value)
