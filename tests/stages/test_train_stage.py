"""Trainings as they are planned: members, what they start from, second phases, averages."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline.model import Artifact
from kd.pipeline.plan import Plan
from kd.recipe import compose
from kd.recipe.schema import AverageConfig, Metric, Precision, TrainConfig, Which
from kd.run import commands
from kd.stages import average
from kd.stages.train import Train

# On in-domain data, each member from the member of the first phase; then what decodes reads from the second.
SECOND_PHASE = """
  second_phase:
    kind: train
    over: pairs
    inputs: {data: encode, start: teacher}
    settings: ${teacher}
    changes: {max_update: 500, seed: 11, optimizer: {learning_rate: 0.0001}}
"""


def plan(place: Path, *overrides: str, chain: str = "") -> Plan:
    """Of the demo, with the store in this folder and more in its chain."""
    recipe = place / "mine" / "recipe.yaml"
    recipe.parent.mkdir(exist_ok=True)
    recipe.write_text("defaults: [/demo/recipe@_global_, _self_]\n" + (f"chain:{chain}" if chain else ""), "utf-8")
    arguments = [f"recipe={recipe}", f"store.dir={place}/store", f"run.dir={place}/run", *overrides]
    return compose.plan(compose.compose(compose.parse_request(arguments)))


def test_members_differ_by_their_seed_alone(tmp_path: Path) -> None:
    [stage] = plan(tmp_path, "teacher.members=4").find("teacher")
    assert [task.name for task in stage.tasks] == [f"member-{number}" for number in (1, 2, 3, 4)]
    assert [task.identity["seed"] for task in stage.tasks] == [1, 2, 3, 4]
    rest = [{key: value for key, value in task.identity.items() if key != "seed"} for task in stage.tasks]
    assert all(each == rest[0] for each in rest)
    assert len({task.fingerprint for task in stage.tasks}) == 4


def test_a_second_phase_goes_on_from_each_member(tmp_path: Path) -> None:
    planned = plan(tmp_path, "chain.decode.inputs.teachers=second_phase", chain=SECOND_PHASE)
    [teacher], [second], [decode] = (planned.find(name) for name in ("teacher", "second_phase", "decode"))
    starts = [[item.task for item in task.inputs["start"]] for task in second.tasks]
    assert starts == [[task] for task in teacher.tasks]
    assert second.config.optimizer.learning_rate == 0.0001
    assert {item.task.stage.name for item in decode.tasks[0].inputs["teachers"]} == {second.name}
    # Another first phase makes another second one; another second phase leaves the first alone.
    longer = plan(tmp_path, "teacher.max_update=9000", chain=SECOND_PHASE)
    assert longer.find("second_phase")[0].tasks[0].fingerprint != second.tasks[0].fingerprint
    other = plan(tmp_path, chain=SECOND_PHASE.replace("0.0001", "0.0002"))
    assert [task.fingerprint for task in other.find("teacher")[0].tasks] == [task.fingerprint for task in teacher.tasks]


def test_all_members_may_start_from_one_model(tmp_path: Path) -> None:
    one = SECOND_PHASE.replace("max_update: 500", "members: 3, max_update: 500")
    planned = plan(tmp_path, "teacher.members=1", chain=one)
    [first] = planned.find("teacher")[0].tasks
    assert [task.inputs["start"][0].task for task in planned.find("second_phase")[0].tasks] == [first] * 3
    with pytest.raises(UserError, match="3 members but 2 models to start from"):
        plan(tmp_path, "teacher.members=2", chain=one)
    with pytest.raises(UserError, match="models to start from and init_from"):
        plan(tmp_path, "teacher.members=1", chain=one.replace("seed: 11", f"init_from: {tmp_path}"))


def folder(place: Path, weights: bytes) -> Path:
    place.mkdir()
    (place / "model.pt").write_bytes(weights)
    (place / "dict.txt").write_text("a 1\n", "utf-8")
    return place


def test_a_start_counts_by_content_wherever_it_lies(tmp_path: Path) -> None:
    def fingerprints(start: Path | None) -> list[str]:
        given = [f"teacher.init_from='{start}'"] if start else []
        return [task.fingerprint for task in plan(tmp_path, *given).find("teacher")[0].tasks]

    here, there = folder(tmp_path / "here", b"weights"), folder(tmp_path / "there", b"weights")
    assert fingerprints(here) == fingerprints(there)
    assert fingerprints(here) != fingerprints(None)
    assert fingerprints(here) != fingerprints(folder(tmp_path / "other", b"other weights"))


def test_a_member_starts_from_its_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        folder(tmp_path / f"m{number}", b"%d" % number)
    monkeypatch.chdir(tmp_path)
    [stage] = plan(tmp_path, "teacher.members=2", "teacher.init_from='m{member}'").find("teacher")
    assert [next(iter(task.files)) for task in stage.tasks] == [tmp_path / f"m{n}" / "model.pt" for n in (1, 2)]
    with pytest.raises(UserError, match=r"init_from: there is no .*m3"):
        plan(tmp_path, "teacher.members=3", "teacher.init_from='m{member}'")


def test_the_micro_batch_is_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    def fingerprints(size: str) -> list[str]:
        [stage] = plan(tmp_path, f"teacher.batch.max_tokens={size}").find("teacher")
        return [task.fingerprint for task in stage.tasks]

    assert fingerprints("auto") == fingerprints("1000") == fingerprints("4000")
    for wrong in ("lots", "0"):
        with pytest.raises(UserError, match=r"batch\.max_tokens"):
            plan(tmp_path, f"teacher.batch.max_tokens={wrong}")


def test_fp16_on_a_cpu_is_refused_before_anything_runs() -> None:
    config = TrainConfig()
    config.precision = Precision.fp16
    with pytest.raises(UserError, match="precision is fp16"):
        Train().suits(config, "cpu")
    Train().suits(config, "cuda")


def test_kd_run_asks_whether_the_machine_can(tmp_path: Path) -> None:
    arguments = ["recipe=demo", f"store.dir={tmp_path}/store", f"run.dir={tmp_path}/run", "student.precision=fp16"]
    with pytest.raises(UserError, match=r"fp16.*machine\.device is cpu"):
        commands.run(compose.parse_request(arguments))
    assert not list((tmp_path / "store").glob("*"))


# --- averages --------------------------------------------------------------------------------------------------------

AVERAGE = """
  average: {kind: average, over: pairs, inputs: {models: teacher}, settings: {count: 3, of: best}}
"""


def test_an_average_is_a_step_of_its_own(tmp_path: Path) -> None:
    planned = plan(tmp_path, "chain.decode.inputs.teachers=average", chain=AVERAGE)
    [teacher], [step] = planned.find("teacher"), planned.find("average")
    assert [task.name for task in step.tasks] == [task.name for task in teacher.tasks]
    assert [task.inputs["models"][0].task for task in step.tasks] == teacher.tasks
    assert (step.config.count, step.config.of) == (3, Which.best)


@pytest.fixture
def trained(tmp_path: Path) -> Artifact:
    """A training's folder as far as choosing goes: checkpoints each 10 updates, the first of them gone."""
    (tmp_path / "checkpoints").mkdir()
    for updates in (20, 30, 37, 40, 50):  # at 37 a signal asked for one
        (tmp_path / "checkpoints" / f"checkpoint_1_{updates}.pt").touch()
    bleu = {10: 30.0, 20: 21.0, 30: 25.0, 40: 24.0, 50: 23.0}
    validations = [{"update": update, "dev_loss": 9 - value / 10, "dev_bleu": value} for update, value in bleu.items()]
    facts = {"updates": 50, "validations": validations}
    settings = {"checkpoint": {"every": 10}}
    return Artifact(tmp_path, "teacher", "teacher.en-de", "member-1", "", "en-de", settings, {"facts": facts})


@pytest.mark.parametrize(
    ("config", "updates"),
    [
        (AverageConfig(count=3), [50, 40, 30]),
        (AverageConfig(count=2, upto=40), [40, 30]),
        (AverageConfig(count=2, of=Which.best), [30, 40]),  # that of update 10 was better, and is not kept
        (AverageConfig(count=1, of=Which.best, metric=Metric.loss), [30]),
    ],
)
def test_last_and_best_are_chosen(trained: Artifact, config: AverageConfig, updates: list[int]) -> None:
    assert [each.updates for each in average._chosen(trained, config)] == updates


def test_too_few_are_refused(trained: Artifact) -> None:
    with pytest.raises(UserError, match=r"count is 5, but teacher\.en-de/member-1 kept only 4 checkpoints"):
        average._chosen(trained, AverageConfig(count=5))
