"""metrics.jsonl: learning curves by updates, target tokens and GPU hours, over interruptions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kd.engines.fairseq import training
from kd.engines.fairseq.binary import IndexedReader, data_prefix
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.training import TrainingProgress
from kd.models.training_log import read_metrics

AXES = {"split", "update", "epoch", "target_tokens", "seconds", "devices"}


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
