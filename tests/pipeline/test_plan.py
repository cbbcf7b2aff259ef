"""From chains to tasks: axes, switched-off stages, mistakes, and what changes whose fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline.model import Stage, StageSpec, TaskSpec
from kd.pipeline.plan import Plan, build
from tests.pipeline.dummies import KINDS, PAIRS, Write, entry, plan


def reads(plan_: Plan, stage: str) -> set[str]:
    (found,) = plan_.find(stage)
    return {task.full_name for item in found.tasks for task in item.upstream()}


def prints(plan_: Plan) -> dict[str, str]:
    return {task.full_name: task.fingerprint for task in plan_.tasks()}


# --- axes --------------------------------------------------------------------------------------------------------


def test_the_same_value_where_both_run_over_the_axis() -> None:
    chain = plan(entry("clean", over="pairs"), entry("train", inputs={"one": {"data": "clean"}}, over="pairs"))
    assert reads(chain, "train.da-en") == {"clean.da-en/worker-0"}
    assert reads(chain, "train.nl-en") == {"clean.nl-en/worker-0"}


def test_every_value_where_the_reader_does_not_run_over_it_and_one_stage_for_all() -> None:
    chain = plan(
        entry("clean", over="pairs"),
        entry("split", inputs={"many": {"clean": "clean"}}),
        entry("train", inputs={"one": {"held_out": "split"}}, over="pairs"),
    )
    assert reads(chain, "split") == {"clean.da-en/worker-0", "clean.nl-en/worker-0"}
    assert reads(chain, "train.nl-en") == {"split/worker-0"}


def test_another_axis_means_all_values() -> None:
    axes = {**PAIRS, "groups": {"nordic": {}}}
    chain = plan(entry("clean", over="pairs"), entry("mix", inputs={"many": {"c": "clean"}}, over="groups"), axes=axes)
    assert reads(chain, "mix.nordic") == {"clean.da-en/worker-0", "clean.nl-en/worker-0"}


def test_an_instance_by_its_name() -> None:
    chain = plan(entry("clean", over="pairs"), entry("train", inputs={"one": {"d": "clean.nl-en"}}, over="pairs"))
    assert reads(chain, "train.da-en") == {"clean.nl-en/worker-0"}


def test_several_stages_in_a_role_of_one_are_refused() -> None:
    with pytest.raises(UserError, match=r"chain\.train\.inputs\.one means several stages: clean\.da-en, clean\.nl-en"):
        plan(entry("clean", over="pairs"), entry("train", inputs={"one": {"d": "clean"}}))


def test_the_order_of_stages_is_one_in_which_they_can_run() -> None:
    chain = plan(
        entry("c", inputs={"one": {"x": "b"}}),
        entry("b", inputs={"one": {"x": "a"}}),
        entry("d", after=("c",)),
        entry("a"),
    )
    order = [stage.name for stage in chain.stages]
    assert order.index("a") < order.index("b") < order.index("c") < order.index("d")
    assert [stage.name for stage in chain.needed_for(chain.find("b"))] == ["a", "b"]
    assert [stage.name for stage in chain.needed_for(chain.find("d"))] == ["d"], "after is an order, not a need"


# --- switched off --------------------------------------------------------------------------------------------------


def test_a_stage_switched_off_is_dropped_from_roles_of_many() -> None:
    chain = plan(entry("a", enabled=False), entry("b"), entry("c", inputs={"many": {"a": "a", "b": "b"}}))
    assert reads(chain, "c") == {"b/worker-0"}


def test_a_stage_switched_off_is_an_error_in_a_role_of_one() -> None:
    with pytest.raises(UserError, match="join needs a, which is switched off"):
        plan(entry("a", enabled=False), entry("b"), entry("join", "join", {"one": {"a": "a"}, "many": {"b": "b"}}))


def test_a_stage_that_is_off_is_named_as_such() -> None:
    chain = plan(entry("clean", over="pairs"), entry("extra", enabled=False))
    with pytest.raises(UserError, match="The stage extra is switched off") as caught:
        chain.find("extra")
    assert "chain.extra.enabled=true" in caught.value.hint
    with pytest.raises(UserError, match="There is no stage called extras"):
        chain.find("extras")


def test_a_needed_role_of_many_must_keep_one() -> None:
    with pytest.raises(UserError, match="join lacks its input many: b is switched off"):
        plan(entry("a"), entry("b", enabled=False), entry("join", "join", {"one": {"a": "a"}, "many": {"b": "b"}}))


def test_waiting_for_a_stage_that_is_switched_off_is_no_error() -> None:
    chain = plan(entry("a", enabled=False), entry("b", after=("a",)))
    assert chain.find("b")[0].after == []


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([entry("clean"), entry("b", inputs={"one": {"x": "claen"}})], "called claen.*Did you mean clean"),
        ([entry("clean"), entry("b", after=("claen",))], r"chain\.b\.after.* called claen.*Did you mean clean"),
        ([entry("clean", over="pears")], r"axis of chain\.clean\.over called pears.*Did you mean pairs"),
        ([entry("a"), entry("b", inputs={"ones": {"x": "a"}})], "input of the kind write called ones.*mean one"),
        ([entry("a"), entry("b", inputs={"one": {"x": "a", "y": "a"}})], "names several stages"),
        ([entry("a", over="pairs"), entry("b", inputs={"one": {"x": "a.da-fr"}})], "called a.da-fr.*mean a.da-en"),
        ([entry("a"), entry("b", inputs={"one": {"x": "a.da-en"}})], r"called a\.da-en"),
        ([entry("j", "join")], "lacks its input"),
        ([entry("a", workers=0)], "The stage a has no tasks"),
        ([entry("a", inputs={"one": {"x": "b"}}), entry("b", inputs={"one": {"x": "a"}})], "cycle"),
        ([entry("a", inputs={"one": {"x": "b"}}), entry("b", after=("a",))], "cycle"),
        ([entry("a/b")], "'/' in its name"),
        ([entry("a.b")], "'.' in its name"),
        ([entry("logs")], "cannot be called 'logs'"),
        ([entry("..")], "'.' in its name"),
        ([entry("")], "cannot be called ''"),
    ],
)
def test_mistakes_are_told_in_a_sentence(entries: list[StageSpec], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plan(*entries)


def test_an_axis_without_values_is_told() -> None:
    with pytest.raises(UserError, match="runs over pairs, which is empty"):
        plan(entry("a", over="pairs"), axes={"pairs": {}})


def test_finding_tasks_by_name() -> None:
    chain = plan(entry("a", over="pairs"), entry("b"))
    assert [stage.name for stage in chain.find("a")] == ["a.da-en", "a.nl-en"]
    assert chain.task("b", "worker-0").full_name == "b/worker-0"
    with pytest.raises(UserError, match=r"Did you mean a\.nl-en"):
        chain.find("a.nl-n")
    with pytest.raises(UserError, match="Did you mean worker-0"):
        chain.task("b", "worker-9")


# --- fingerprints --------------------------------------------------------------------------------------------------


def chain(**second: object) -> Plan:
    return plan(
        entry("a"),
        entry("b", inputs={"many": {"x": "a"}}, **second),  # type: ignore[arg-type]
        entry("c", inputs={"many": {"y": "b"}}),
        entry("d", inputs={"many": {"x": "a"}}),
    )


def changed(before: Plan, after: Plan) -> set[str]:
    old = prints(before)
    return {name for name, value in prints(after).items() if old.get(name) != value}


def test_the_same_chain_has_the_same_fingerprints() -> None:
    assert changed(chain(), chain()) == set()


def test_another_setting_changes_the_task_and_what_follows() -> None:
    assert changed(chain(), chain(text="other")) == {"b/worker-0", "c/worker-0"}


def test_a_transient_setting_changes_nothing() -> None:
    assert changed(chain(), chain(seconds=1.0, journal="/somewhere")) == set()


def test_another_extent_changes_the_fingerprint_and_keeps_the_lineage() -> None:
    more = chain(steps=9)
    assert changed(chain(), more) == {"b/worker-0", "c/worker-0"}
    assert more.task("b", "worker-0").lineage == chain().task("b", "worker-0").lineage
    assert more.task("c", "worker-0").lineage != chain().task("c", "worker-0").lineage


def test_a_fifth_worker_leaves_the_others_alone() -> None:
    four, five = plan(entry("a", workers=4)), plan(entry("a", workers=5))
    assert changed(four, five) == {"a/worker-4"}


def test_another_pair_leaves_the_others_alone() -> None:
    one = {"pairs": {"da-en": PAIRS["pairs"]["da-en"]}}
    assert changed(plan(entry("a", over="pairs"), axes=one), plan(entry("a", over="pairs"))) == {"a.nl-en/worker-0"}


def test_the_kinds_version_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan(entry("a"), entry("b", "resume"))
    monkeypatch.setattr(type(KINDS["resume"]), "version", 2)
    assert changed(before, plan(entry("a"), entry("b", "resume"))) == {"b/worker-0"}


def test_labels_and_the_axis_value_are_part_of_it() -> None:
    renamed = plan(
        entry("a"),
        entry("b", inputs={"many": {"x": "a"}}),
        entry("c", inputs={"many": {"other": "b"}}),
        entry("d", inputs={"many": {"x": "a"}}),
    )
    assert changed(chain(), renamed) == {"c/worker-0"}
    other = {"pairs": {**PAIRS["pairs"], "da-en": {"source": "da-DK"}}}
    assert changed(plan(entry("a", over="pairs")), plan(entry("a", over="pairs"), axes=other)) == {"a.da-en/worker-0"}


class ReadFiles(Write):
    name = "read"

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        yield TaskSpec("all", {}, files=[Path(stage.config.text)])


def test_raw_files_count_by_content() -> None:
    def planned(path: str, content: str) -> str:
        read = replace(entry("a", text=path), kind=ReadFiles())
        (task,) = build({"a": read}, {}, lambda _: content).tasks()
        assert task.files == {Path(path): content}
        return task.fingerprint

    assert planned("/here", "hash 1") == planned("/moved", "hash 1") != planned("/here", "hash 2")


class Twins(Write):
    name = "twins"

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        yield from (TaskSpec("same", {"n": n}) for n in range(2))


def test_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="a has two tasks called same"):
        plan(replace(entry("a"), kind=Twins()))
