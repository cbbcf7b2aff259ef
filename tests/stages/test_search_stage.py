"""A search as it is planned: tasks known by what they train, and mistakes that are told before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline.plan import Plan
from kd.recipe import compose

SEARCH = (
    "recipe=demo",
    "chain=search",
    "student=tiny_from_search",
    "student.start.layers=false",  # the grid below has other numbers of heads than the teachers
    "search.encoder_layers=[2,4]",
    "search.seeds=2",
)


def plan(place: Path, *overrides: str) -> Plan:
    """Of the demo's search, with the store in this folder."""
    arguments = [*SEARCH, f"store.dir={place}/store", f"run.dir={place}/run", *overrides]
    return compose.plan(compose.compose(compose.parse_request(arguments)))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Without further settings."""
    return plan(tmp_path_factory.mktemp("search"))


def fingerprints(found: Plan, *stages: str) -> dict[str, str]:
    """Of the tasks of these stages."""
    return {task.full_name: task.fingerprint for stage in stages for each in found.find(stage) for task in each.tasks}


def test_each_cell_and_seed_is_a_task_that_reads_its_data_alone(found: Plan) -> None:
    [stage] = found.find("search")
    assert len(stage.tasks) == 2 * 2 * 4 * 2
    for task in stage.tasks:
        [item] = task.inputs["data"]
        assert f"-{item.label}-seed{task.identity['seed']}" in task.name
    [gold] = {i.task.stage.name for t in stage.tasks for i in t.inputs["data"] if i.label == "gold"}
    assert gold == "encode.en-de"


def test_a_grid_that_grows_trains_and_translates_nothing_again(found: Plan, tmp_path: Path) -> None:
    stages = ("search", "search_export", "search_translate")
    before = fingerprints(found, *stages)
    more = ["search.encoder_layers=[1,2,4]", "search.seeds=3", "search.heads=[4,8]"]
    assert before.items() < fingerprints(plan(tmp_path, *more), *stages).items()
    fewer = ["search.data.first=false", "search.seeds=1", "search.decoder_layers=[1]"]
    assert fingerprints(plan(tmp_path, *fewer), *stages).items() < before.items()
    # How long the chosen student is trained does not matter to the search; how it is trained does.
    assert before == fingerprints(plan(tmp_path, "student.max_update=9000"), *stages)
    assert not before.items() & fingerprints(plan(tmp_path, "student.batch.target_tokens=500"), *stages).items()


def test_what_is_switched_off_costs_nothing(tmp_path: Path) -> None:
    only_gold = [f"search.data.{name}=false" for name in ("first", "best", "best_and_gold")]
    names = {stage.spec.name for stage in plan(tmp_path, *only_gold).stages}
    assert not {name for name in names if name.startswith(("select", "encode_"))}


def test_a_search_is_judged_on_dev_and_the_run_on_test(found: Plan) -> None:
    sets = {
        stage.spec.name: stage.config.set.value
        for stage in found.stages
        if stage.kind.name in ("translate", "speed", "evaluate")
    }
    assert sets == {
        "search_translate": "dev", "search_speed": "dev", "search_evaluate": "dev",
        "translate": "test", "speed": "test", "evaluate": "test",
    }  # fmt: skip


def test_speed_is_measured_once_for_each_shape_and_format(found: Plan, tmp_path: Path) -> None:
    [speed] = found.find("search_speed")
    measured = [item.task.name for item in speed.tasks[0].inputs["systems"]]
    assert measured == [
        f"search-{shape}-128-gold-seed1-{format_}"
        for format_ in ("float32", "int8")
        for shape in ("2-1", "2-2", "4-1", "4-2")
    ]
    [again] = plan(tmp_path, "search.seeds=5").find("search_speed")
    assert again.tasks[0].fingerprint == speed.tasks[0].fingerprint


def test_student_and_control_read_the_choice_and_their_own_shape_says_nothing(found: Plan, tmp_path: Path) -> None:
    [student], [control] = found.find("student"), found.find("control")
    for stage in (student, control):
        assert [item.task.stage.name for item in stage.tasks[0].inputs["choice"]] == ["choose.en-de"]
        assert stage.tasks[0].identity["from_search"] is True
    assert [i.label for i in student.tasks[0].inputs["data"]] == ["gold", "first", "best", "best_and_gold"]
    assert [i.task.stage.name for i in control.tasks[0].inputs["data"]] == ["encode.en-de"]
    # The grid says every depth, so that what the student's preset says of them is of no effect.
    other = plan(tmp_path, "student.model.encoder_layers=9", "student.model.decoder_layers=3")
    assert fingerprints(other, "search", "choose", "student") == fingerprints(found, "search", "choose", "student")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["search.width=[100]", "search.heads=[8]"], "search: The grid has a model of width 100 with 8 heads"),
        (["+search.data.gould=true"], "no data to learn from .search.data. called gould. Did you mean gold"),
        (["search.changes.max_update=200"], r"search.changes.: optimizer.warmup_updates is 300"),
        (["+search.changes.init_from=x"], r"has a fixed shape. Set \+\+search.changes.init_from=null"),
        (["search.choose.metric=blue"], "search.choose.metric is not valid: blue. .* Did you mean bleu"),
        (["search.choose.metric=comet"], "search_evaluate.en-de does not score. Set evaluate.metrics.comet=true"),
        (
            ["search.choose.speed=all_cores", "evaluate.speed.all_cores=false"],
            "search_speed.en-de does not measure. Set evaluate.speed.all_cores=true",
        ),
        (["search.choose.format=int16"], "search.choose.format. called int16.*int8"),
        (["student=tiny_4_2"], "inputs.data means several stages: .*student=from_search"),
        (["chain=distillation"], "no search among its inputs. Add chain=search"),
    ],
)
def test_mistakes_are_told_when_the_recipe_is_planned(overrides: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        plan(tmp_path, *overrides)


def test_nothing_left_to_learn_from_is_told(tmp_path: Path) -> None:
    off = [f"search.data.{name}=false" for name in ("gold", "first", "best", "best_and_gold")]
    with pytest.raises(UserError, match="switches off all training data"):
        plan(tmp_path, *off)
