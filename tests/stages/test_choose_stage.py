"""Choosing among a search's cells, from scores and speeds as the stages leave them: numbers written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.base.records import plain, record
from kd.corpora.index import read_json
from kd.models.systems import System, SystemRole
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import ChooseConfig, ModelConfig, SpeedMeasure, TrainConfig
from kd.report.search import Search
from kd.stages.choose import Choose
from kd.stages.outputs import CHOICE_TABLE, CHOSEN, SCORES, SPEED
from kd.stages.train import _begun_with, _chosen

RULE = ChooseConfig(metric="bleu", loss_allowed=0.5, speed=SpeedMeasure.one_core, format="int8")
# cell -> BLEU of int8 by seed; float32 is 0.1 better. Means: 30.0, 29.6, 29.7, 28.0
BLEU = {("12-1", "best"): (29.8, 30.2), ("12-1", "gold"): (29.5, 29.7), ("6-1", "best"): (29.6, 29.8),
        ("6-1", "gold"): (27.9, 28.1)}  # fmt: skip
# shape -> sentences a second on one core and all cores, median latency in ms, of int8; float32 half of it
SPEEDS = {"12-1": (100.0, 220.0, 9.0), "6-1": (150.0, 210.0, 10.0)}
LAYERS = {"12-1": (12, 1), "6-1": (6, 1)}


def artifact(folder: Path, stage: str, task: str, **manifest: Any) -> Artifact:
    return Artifact(folder, stage, f"{stage}.en-fi", task, f"f-{task}", "en-fi", {}, manifest)


@pytest.fixture
def job(tmp_path: Path) -> Job[ChooseConfig]:
    """Two shapes on two sorts of data, two seeds each; the speed of the first cell of each shape."""
    cells, exports, scores, speeds = [], [], {}, {}
    for format_, gain, factor in (("float32", 0.1, 0.5), ("int8", 0.0, 1.0)):
        for (shape, data), values in BLEU.items():
            for seed, bleu in enumerate(values, 1):
                name = f"{shape}-{data}-seed{seed}"
                model = dict(zip(("encoder_layers", "decoder_layers"), LAYERS[shape], strict=True))
                facts = {"cell": {"shape": shape, "data": data, "seed": seed, "model": model}, "updates": 500}
                if format_ == "int8":
                    cells.append(
                        artifact(tmp_path, "search", name, facts={**facts, "parameters": model["encoder_layers"] * 10})
                    )
                exported = f"search-{name}-{format_}"
                export = artifact(
                    tmp_path, "search_export", exported, inputs={"models": [f"search.en-fi/{name}@f-{name}"]}
                )
                system = System(SystemRole.student, "search", name, format=format_)
                exports.append(replace(export, subject=plain(system)))
                scores[exported] = [
                    {"metric": "BLEU", "value": bleu + gain, "signature": "tok:13a"},
                    {"metric": "chrF2", "value": 55.0, "signature": "nc:6"},
                ]
                if data == "best" and seed == 1:
                    one, everywhere, latency = SPEEDS[shape]
                    speeds[exported] = {
                        "sentences_per_second": one * factor,
                        "all_cores": {"cores": 2, "sentences_per_second": everywhere * factor},
                        "latency_ms": {"median": latency / factor, "p99": 2 * latency / factor},
                        "memory_megabytes": 100.0,
                        "megabytes": 20.0,
                    }
    (tmp_path / "out").mkdir()
    (tmp_path / SCORES).write_text(json.dumps({"segments": 1000, "scores": scores}))
    (tmp_path / SPEED).write_text(json.dumps({"note": "one thread", "systems": speeds}))
    inputs = {"cells": cells, "exports": exports, "scores": [artifact(tmp_path, "search_evaluate", "all")],
              "speeds": [artifact(tmp_path, "search_speed", "all")]}  # fmt: skip
    return Job("all", "choose.en-fi", RULE, {}, "en-fi", {"source": "en", "target": "fi"}, inputs, {}, tmp_path / "out",
               [], 1, 1, "cpu", {}, Progress(None))  # fmt: skip


def chosen(job: Job[ChooseConfig]) -> Search:
    Choose().run(job)
    Choose().check(job)
    search: Search = record(Search, read_json(job.out / CHOSEN), "chosen")
    return search


def test_the_fastest_of_those_that_lose_little(job: Job[ChooseConfig]) -> None:
    search = chosen(job)
    assert (search.best, search.chosen.name) == ("12-1-best", "6-1-best")  # 0.3 below, and half as fast again
    assert search.chosen.model == {"encoder_layers": 6, "decoder_layers": 1}
    assert search.rule.startswith("The best cell in int8 is 12-1-best with 30.00 BLEU (mean over seeds, dev).")
    assert search.rule.endswith("to the smaller one): 6-1-best, with 29.70 BLEU.")
    assert search.doubts == []
    assert (search.held_out, search.once_a_shape) == ("en-fi dev, 1,000 segments", True)
    assert Choose().check(job).facts["note"] == "6-1-best of 4"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"loss_allowed": 0.2}, "12-1-best"),
        ({"speed": SpeedMeasure.all_cores}, "12-1-best"),
        ({"speed": SpeedMeasure.latency}, "12-1-best"),
        ({"format": "float32"}, "6-1-best"),
        ({"loss_allowed": 5.0}, "6-1-best"),  # as fast as on gold, and better
    ],
)
def test_each_part_of_the_rule_counts(changes: dict[str, Any], expected: str, job: Job[ChooseConfig]) -> None:
    assert chosen(replace(job, config=replace(RULE, **changes))).chosen.name == expected


def test_scores_are_of_all_seeds_and_the_speed_of_a_shape_is_all_its_cells(job: Job[ChooseConfig]) -> None:
    cells = {cell.name: cell for cell in chosen(job).cells}
    (int8,) = [form for form in cells["6-1-gold"].forms if form.format == "int8"]
    score = int8.score("BLEU")
    assert score is not None
    assert (score.values, score.mean, score.spread) == (
        [27.9, 28.1],
        pytest.approx(28.0),
        pytest.approx(0.141421, 1e-4),
    )
    assert (int8.sentences_per_second, int8.latency_ms, int8.latency_p99_ms) == (150.0, 10.0, 20.0)
    front = {(cell.name, form.format) for cell in cells.values() for form in cell.forms if form.on_front}
    # float32 is better by 0.1 and half as fast: of the best alone nothing is better.
    assert front == {("6-1-best", "int8"), ("12-1-best", "int8"), ("12-1-best", "float32")}


def test_seeds_that_differ_more_than_the_cells_are_doubted(job: Job[ChooseConfig]) -> None:
    scores = read_json(job.one("scores").path / SCORES)
    scores["scores"]["search-6-1-best-seed1-int8"][0]["value"] = 29.0
    scores["scores"]["search-6-1-best-seed2-int8"][0]["value"] = 30.4  # mean 29.7 still
    (job.one("scores").path / SCORES).write_text(json.dumps(scores))
    [doubt] = chosen(job).doubts
    assert doubt.startswith("6-1-best is 0.30 BLEU below 12-1-best, the best, and the spread over seeds is 0.99")


def test_the_table_is_for_people(job: Job[ChooseConfig]) -> None:
    chosen(job)
    lines = (job.out / CHOICE_TABLE).read_text("utf-8").split("\n")
    rows = [line for line in lines if line.startswith("|")]
    assert rows[0].startswith(
        "| Cell | Format | BLEU | ± | chrF2 | ± | Sentences/s | all cores | Latency, ms (median) |"
    )
    assert rows[2].startswith("| 12-1-best | float32 | 30.1 | 0.28 |")  # 29.9 and 30.3: 0.2828
    assert len(rows) == 2 + 4 * 2
    assert [row for row in rows if "**6-1-best**" in row and "| int8 |" in row and row.endswith("| yes |")]
    assert "- BLEU: `tok:13a`" in lines


def test_what_was_not_measured_cannot_decide(job: Job[ChooseConfig]) -> None:
    speeds = read_json(job.one("speeds").path / SPEED)
    for system in speeds["systems"].values():
        system["all_cores"] = None  # a machine with one
    (job.one("speeds").path / SPEED).write_text(json.dumps(speeds))
    with pytest.raises(UserError, match=r"which was not measured\. Set search\.choose\.speed=one_core"):
        chosen(replace(job, config=replace(RULE, speed=SpeedMeasure.all_cores)))


def test_a_choice_of_nothing_is_noticed(job: Job[ChooseConfig]) -> None:
    chosen(job)
    content = read_json(job.out / CHOSEN)
    (job.out / CHOSEN).write_text(json.dumps({**content, "cells": content["cells"][:1]}))
    with pytest.raises(IncompleteArtifact, match="none of its cells"):
        Choose().check(job)


def training_job(config: TrainConfig, inputs: dict[str, list[Artifact]], out: Path) -> Job[TrainConfig]:
    return Job(
        name="member-1", stage="student.en-fi", config=config, identity={}, axis=None, axis_value={}, inputs=inputs,
        files={}, out=out, resumable_from=[], attempts=1, threads=1, device="cpu", machine={}, progress=Progress(None),
    )  # fmt: skip


def test_a_training_takes_shape_and_data_from_the_choice(job: Job[ChooseConfig], tmp_path: Path) -> None:
    chosen(job)
    corpora = [replace(artifact(tmp_path, "encode", "all"), label=label) for label in ("gold", "best")]
    config = TrainConfig(from_search=True)
    inputs = {"choice": [replace(artifact(job.out, "choose", "all"))], "data": corpora}
    training = training_job(config, inputs, tmp_path)
    found, data = _chosen(training)
    assert (found.model.encoder_layers, found.model.decoder_layers, data.label) == (6, 1, "best")
    # The control has one corpus, whatever it is called.
    _, data = _chosen(replace(training, inputs={**inputs, "data": corpora[:1]}))
    assert data.label == "gold"
    with pytest.raises(UserError, match=r"chose the data best, which student\.en-fi does not have"):
        _chosen(replace(training, inputs={**inputs, "data": [corpora[0], replace(corpora[0], label="first")]}))


def test_a_training_goes_on_with_the_choice_that_it_began_with(tmp_path: Path) -> None:
    earlier, later, other = (tmp_path / name for name in ("earlier", "later", "other"))
    data = replace(artifact(tmp_path, "encode", "all"), label="best")
    training = training_job(TrainConfig(from_search=True), {}, earlier)
    deep, flat = (replace(training.config, model=ModelConfig(encoder_layers=layers)) for layers in (6, 2))
    for folder, config in ((earlier, deep), (other, flat)):
        folder.mkdir()
        _begun_with(replace(training, out=folder), config, data)
    assert _begun_with(training, deep, data) == training  # begun again
    for config, label in ((flat, "best"), (deep, "gold")):
        with pytest.raises(UserError, match=r"chose differently .* Remove .*earlier to begin again"):
            _begun_with(training, config, replace(data, label=label))
    later.mkdir()
    assert _begun_with(replace(training, out=later, resumable_from=[other, earlier]), deep, data).resumable_from == [
        earlier
    ]
