"""metrics.jsonl: learning curves by updates, target tokens and GPU hours, over interruptions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kd.engines.fairseq import measures, training
from kd.engines.fairseq.binary import IndexedReader, data_prefix
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.training import TrainingProgress
from kd.engines.fairseq.watch import Watch
from kd.models.training_log import read_metrics, usage

AXES = {"split", "update", "epoch", "target_tokens", "seconds", "devices", "saving_share", "validating_share"}


def test_every_line_stands_on_every_axis(trained) -> None:
    entries = list(read_metrics(trained.folder / "metrics.jsonl"))
    assert {entry["split"] for entry in entries} == {"train", "dev"}
    assert [entry for entry in entries if not entry.keys() >= AXES] == []
    for axis in ("update", "target_tokens", "seconds"):
        values = [entry[axis] for entry in entries]
        assert values == sorted(values)
        assert values[0] > 0
    assert {entry["devices"] for entry in entries} == {1}
    # At each checkpoint the model of that moment has translated the dev set, once: a curve needs no other translations.
    checkpoints = {int(path.stem.rpartition("_")[2]) for path in (trained.folder / "checkpoints").glob("*_*_*.pt")}
    assert (
        {entry["update"] for entry in entries if entry.get("bleu") is not None} == checkpoints == {100, 200, 300, 400}
    )


def test_tokens_and_seconds_go_on_over_an_interruption(spec: TrainSpec, task, tmp_path: Path) -> None:
    checkpoint = replace(spec.config.checkpoint, every=100)
    config = replace(spec.config, checkpoint=checkpoint, validate_bleu=False, log_every=1)
    pieces = IndexedReader(data_prefix(task.data, "train", "target")).pieces
    told: list[TrainingProgress] = []
    for end in (17, 30):
        training.train(replace(spec, update_freq=4, config=replace(config, max_update=end)), tmp_path, told.append)
    lines = [entry for entry in read_metrics(tmp_path / "metrics.jsonl") if entry["split"] == "train"]
    assert [line["update"] for line in lines] == list(range(1, 31))
    seen = 0.0
    for line in lines:
        seen += line["tokens_per_update"]
        assert line["target_tokens"] == seen
    epochs = [line["epoch"] for line in lines]
    assert epochs[-1] > 1  # the corpus was read to its end at least once: all its target pieces, counted on disk
    assert lines[epochs.index(2) - 1]["target_tokens"] == pieces
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert told[-1].epoch == epochs[-1]


def test_each_line_says_what_share_saving_and_validating_took(trained) -> None:
    entries = list(read_metrics(trained.folder / "metrics.jsonl"))
    before = [entry for entry in entries if entry["update"] < 100]
    assert {(entry["saving_share"], entry["validating_share"]) for entry in before} == {(0.0, 0.0)}
    last = entries[-1]
    assert last["split"] == "dev"
    assert min(last["saving_share"], last["validating_share"]) > 0
    assert last["saving_share"] + last["validating_share"] < 1
    # The line of a validation counts this validation: the seconds spent grow from the line before by some of its own.
    spent = [entry["validating_share"] * entry["seconds"] for entry in entries[-2:]]
    assert spent[1] > spent[0]


def test_a_cpu_has_no_utilisation(trained) -> None:
    entries = [entry for entry in read_metrics(trained.folder / "metrics.jsonl") if entry["split"] == "train"]
    assert {entry["mfu"] for entry in entries} == {None}
    assert trained.progress[-1].mfu is None
    assert usage(entries).mfu is None


def test_utilisation_is_model_flops_by_time_and_peak_without_saving_and_validating() -> None:
    watch = Watch()
    now = SimpleNamespace(seconds=0.0)
    trainer = SimpleNamespace(_local_cumulative_training_time=lambda: now.seconds)
    module = SimpleNamespace(
        train=lambda *_: None, get_training_stats=dict, get_valid_stats=lambda _cfg, _trainer, stats, _best: dict(stats)
    )
    measures.install(module, watch, measures.Utilisation(flops_per_token=3e9, peak=1e13))
    module.train(None, trainer, None, None)
    now.seconds = 5.0
    assert "mfu" not in module.get_training_stats({})  # nothing to compare with
    watch.tokens, now.seconds, watch.saving, watch.validating = 10_000, 20.0, 2.0, 3.0
    # 10,000 tokens of 3 GFLOP in 15 - 2 - 3 = 10 s are 3 TFLOP/s, of 10.
    assert float(module.get_training_stats({})["mfu"]) == pytest.approx(0.3)
    found = module.get_valid_stats(None, trainer, {}, False)
    assert (float(found["saving_share"]), float(found["validating_share"])) == (0.1, 0.15)
