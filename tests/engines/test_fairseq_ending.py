"""Trainings that stop early or fail: at which update, for which reason, and with which checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.engines.fairseq import checkpoints, training
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.training import read_metrics, to_average
from kd.engines.fairseq.watch import Watch
from kd.recipe.schema import CheckpointConfig, Metric, StopConfig, TrainConfig, Which


@pytest.fixture(scope="module")
def short(spec: TrainSpec) -> TrainSpec:
    """A short training that is validated by loss each 10 updates."""
    checkpoint = CheckpointConfig(every=10, keep=2, average=1, metric=Metric.loss)
    config = replace(spec.config, checkpoint=checkpoint, max_update=60, validate_bleu=False, log_every=5)
    return replace(spec, config=config)


def with_config(spec: TrainSpec, **changes: object) -> TrainSpec:
    return replace(spec, config=replace(spec.config, **changes))


def dev(folder: Path) -> dict[int, float]:
    """Dev loss by update."""
    return {
        entry["update"]: entry["loss"] for entry in read_metrics(folder / "metrics.jsonl") if entry["split"] == "dev"
    }


def kept(folder: Path) -> list[int]:
    return [each.updates for each in checkpoints.numbered(folder / "checkpoints")]


def test_a_rate_that_is_far_too_high_breaks_down_with_update_and_sentences(short: TrainSpec, tmp_path: Path) -> None:
    training.train(with_config(short, max_update=10), tmp_path)
    wild = replace(short.config.optimizer, learning_rate=1e30, warmup_updates=1)
    with pytest.raises(UserError, match=r"broke down at update 1\d: .*(nan|inf).*sentences \d+, \d+") as caught:
        training.train(with_config(short, optimizer=wild), tmp_path)
    assert "optimizer.learning_rate" in caught.value.hint
    assert kept(tmp_path) == [10]  # the last good one; fairseq itself would have left a crash.pt
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "checkpoint_1_10.pt",
        "checkpoint_last.pt",
    ]


def test_patience_ends_a_training_that_gets_no_better(short: TrainSpec, tmp_path: Path) -> None:
    # Without a step the loss stays what it is: the first validation is the best, the next two are no better.
    still = replace(short.config.optimizer, learning_rate=1e-30, warmup_updates=1)
    spec = with_config(short, optimizer=still, stop=StopConfig(patience=2))
    result = training.train(spec, tmp_path)
    assert result.updates == 30
    assert "2 validations in a row were no better than that of update 10" in str(result.ended)
    again = training.train(spec, tmp_path)  # asked once more, it knows that it is over
    assert (again.updates, again.ended) == (30, result.ended)
    assert list(dev(tmp_path)) == [10, 20, 30]


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(short: TrainSpec, tmp_path: Path) -> None:
    still = replace(short.config.optimizer, learning_rate=1e-30, warmup_updates=1)
    spec = with_config(short, optimizer=still, stop=StopConfig(patience=3))
    training.train(with_config(spec, max_update=25), tmp_path)
    assert training.train(spec, tmp_path).updates == 40


def test_tokens_seen_end_a_training(short: TrainSpec, tmp_path: Path) -> None:
    spec = with_config(short, stop=StopConfig(target_tokens=6000), log_every=1)
    result = training.train(spec, tmp_path)
    seen = [entry["target_tokens"] for entry in read_metrics(tmp_path / "metrics.jsonl") if entry["split"] == "train"]
    assert seen[-1] >= 6000 > seen[-2]
    assert result.updates == len(seen) == kept(tmp_path)[0]
    assert "target tokens seen" in str(result.ended)
    assert result.checkpoints[0].name.endswith(f"_{result.updates}.pt")
    assert result.updates in dev(tmp_path)  # validated and saved as at any training's end


def test_the_best_checkpoints_are_kept_and_averaged(short: TrainSpec, tmp_path: Path) -> None:
    checkpoint = replace(short.config.checkpoint, keep=1, keep_best=2, keep_every=40, average=2, average_of=Which.best)
    spec = with_config(short, checkpoint=checkpoint)
    training.train(with_config(spec, max_update=20), tmp_path)
    # Adam moves each weight by about the learning rate: at 10, a step destroys a model whose weights are below 1.
    wild = replace(short.config.optimizer, learning_rate=10.0, warmup_updates=1)
    result = training.train(with_config(spec, optimizer=wild), tmp_path)
    losses = dev(tmp_path)
    assert list(losses) == [10, 20, 30, 40, 50, 60]
    # Before: less than the log2(300) = 8.2 bits of a guess among 300 pieces, or little more. After: hundreds of bits.
    assert max(losses[10], losses[20]) < 10 < 50 < min(losses[update] for update in (30, 40, 50, 60))
    best = sorted((10, 20), key=losses.__getitem__)
    assert kept(tmp_path) == [60, 40, 20, 10]
    assert [int(path.stem.split("_")[2]) for path in to_average(result, spec.config)] == best


def test_history_goes_through_a_checkpoint() -> None:
    watch = Watch(patience=2, higher_is_better=True)
    watch.tokens = 10
    for update, value in ((1, 5.0), (2, 7.0), (2, 7.0), (3, 6.0)):
        watch.validated(update, value)
    watch.saving, watch.validating = 1.5, 2.5
    other = Watch(patience=2, higher_is_better=True)
    other.restore({"kd": watch.state()})
    times = {"saving": 1.5, "validating": 2.5}
    assert other.state() == watch.state() == {"tokens": 10, "validations": [[1, 5.0], [2, 7.0], [3, 6.0]], **times}
    assert other.reason_to_end() is None
    other.validated(4, float("nan"))  # no number is no improvement
    assert "update 2" in str(other.reason_to_end())
    other.restore(None)
    assert other.reason_to_end() is None


def test_best_is_by_metric_and_the_earlier_of_equals() -> None:
    values = [(10, 2.0), (20, float("nan")), (30, 1.0), (40, 2.0)]
    assert checkpoints.best(values, higher_is_better=False) == [30, 10, 40, 20]
    assert checkpoints.best(values, higher_is_better=True) == [10, 40, 30, 20]


def test_best_by_bleu_needs_bleu() -> None:
    from kd.stages.train import Train

    config = TrainConfig()
    config.checkpoint = CheckpointConfig(every=10, keep=2, average=2, keep_best=1)
    config.model.width, config.model.heads, config.validate_bleu = 64, 4, False
    with pytest.raises(UserError, match="validate_bleu is false"):
        Train().validate(config)
