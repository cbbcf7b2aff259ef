"""Trainings that start from another model, and members that differ by their seed alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.engines.fairseq import training
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.loading import load
from kd.engines.fairseq.start import prepare_start, start_files
from kd.models.training_log import read_metrics
from kd.recipe.schema import CheckpointConfig, Metric
from tests.tiny_model import write_split


@pytest.fixture(scope="module")
def standing(spec: TrainSpec) -> TrainSpec:
    """Train for two updates without dropout and with learning rate 0, so that each loss identifies the data."""
    config = replace(
        spec.config,
        model=replace(spec.config.model, dropout=0.0),
        optimizer=replace(spec.config.optimizer, learning_rate=1e-30, warmup_updates=1),
        checkpoint=CheckpointConfig(every=2, keep=1, average=1, metric=Metric.loss),
        max_update=2,
        validate_bleu=False,
        log_every=1,
    )
    return replace(spec, config=config, seed=1)


@pytest.fixture(scope="module")
def start(trained, spec: TrainSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model, made ready to start from."""
    out = tmp_path_factory.mktemp("start") / "start.pt"
    prepare_start(start_files(str(trained.folder), 1), trained.folder / "dict.txt", spec.config.model, out)
    return out


def losses(spec: TrainSpec, folder: Path) -> list[float]:
    """Train and return the loss of each update."""
    training.train(spec, folder)
    return [entry["loss"] for entry in read_metrics(folder / "metrics.jsonl") if entry["split"] == "train"]


def weights(folder: Path) -> dict:
    return load(folder / "checkpoints" / "checkpoint_last.pt")["model"]


@pytest.fixture(scope="module")
def from_start(standing, start, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """Folder and losses of the training that starts from it, seed 1."""
    folder = tmp_path_factory.mktemp("from_start")
    return folder, losses(replace(standing, init_from=start), folder)


def test_a_training_really_starts_from_the_weights_given(standing, start, from_start, trained, tmp_path: Path) -> None:
    folder, lost = from_start
    expected, found = load(trained.folder / "model.pt")["model"], weights(folder)
    assert found.keys() == expected.keys()
    # fairseq makes its first step at the rate that the warm-up begins with, 1e-7.
    assert all((found[name] - expected[name]).abs().max() < 3e-7 for name in expected if expected[name].numel() > 1)
    # A model that has learnt the task loses little on it; an untrained one guesses among 300 pieces: log2(300) = 8.2.
    assert max(lost) < 4
    state = load(folder / "checkpoints" / "checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 2  # a training of its own
    # Once there is a checkpoint of its own, it goes on from that.
    longer = replace(standing, init_from=start, config=replace(standing.config, max_update=3))
    copied = shutil.copytree(folder, tmp_path / "longer")
    assert training.train(longer, copied).resumed_from == 2


def test_members_see_the_data_in_another_order(standing, start, from_start, tmp_path: Path) -> None:
    """Of equal weights, without dropout, the loss of an update tells the sentences that it had."""
    assert losses(replace(standing, init_from=start, seed=2), tmp_path) != from_start[1]


def test_members_begin_elsewhere_and_drop_out_other_numbers(standing, start, task, tmp_path: Path) -> None:
    """All data in one batch: no order is left."""
    data = tmp_path / "data"
    data.mkdir()
    for path in task.data.iterdir():
        if not path.name.startswith("train"):
            shutil.copy(path, data / path.name)
    write_split(data, "train", task.train[:16], task.vocabulary)
    model = replace(standing.config.model, dropout=0.3)
    one_batch = replace(standing, data=(data,), update_freq=1, config=replace(standing.config, max_update=1))
    dropping = replace(one_batch, init_from=start, config=replace(one_batch.config, model=model))
    dropped = [losses(replace(dropping, seed=seed), tmp_path / f"dropout-{seed}") for seed in (1, 2)]
    assert dropped[0] != dropped[1]
    begun = [losses(replace(one_batch, seed=seed), tmp_path / f"begin-{seed}") for seed in (1, 2)]
    assert begun[0] != begun[1]


# --- what does not fit -----------------------------------------------------------------------------------------------


def test_another_vocabulary_is_refused(trained, spec: TrainSpec, tmp_path: Path) -> None:
    files = start_files(str(trained.folder), 1)
    lines = (trained.folder / "dict.txt").read_text("utf-8").split("\n")
    other = tmp_path / "dict.txt"
    other.write_text("\n".join([lines[1], lines[0], *lines[2:]]), "utf-8")  # of the same size, in another order
    with pytest.raises(UserError, match="which is not that of the training data"):
        prepare_start(files, other, spec.config.model, tmp_path / "start.pt")
    # Another count beside a symbol is none.
    other.write_text("\n".join(line.rpartition(" ")[0] + " 7" if line else "" for line in lines), "utf-8")
    prepare_start(files, other, spec.config.model, tmp_path / "start.pt")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"encoder_layers": 3}, "encoder_layers 2, but model.encoder_layers is 3"),
        ({"width": 128}, "encoder_embed_dim 64, but model.width is 128"),
        ({"heads": 2}, "encoder_attention_heads 4, but model.heads is 2"),  # which no weight's shape tells
        ({"pre_norm": False}, "encoder_normalize_before True, but model.pre_norm is False"),
        ({"tie_embeddings": False}, "share_all_embeddings True, but model.tie_embeddings is False"),
    ],
)
def test_another_shape_is_refused(trained, spec: TrainSpec, tmp_path: Path, changes: dict, told: str) -> None:
    files = start_files(str(trained.folder), 1)
    with pytest.raises(UserError) as caught:
        prepare_start(files, trained.folder / "dict.txt", replace(spec.config.model, **changes), tmp_path / "start.pt")
    assert told in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"init_from: there is no .*nothing"):
        start_files(str(tmp_path / "nothing"), 1)
    (tmp_path / "member-2.pt").touch()
    with pytest.raises(UserError, match="no dictionary of its source"):
        start_files(str(tmp_path / "member-{member}.pt"), 2)
    for name in ("dict.source.txt", "dict.target.txt"):
        (tmp_path / name).touch()
    names = [path.name for path in start_files(str(tmp_path / "member-{member}.pt"), 2)]
    assert names == ["member-2.pt", "dict.source.txt", "dict.target.txt"]
