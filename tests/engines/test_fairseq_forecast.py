"""Forecasts of memory and disk of a training, compared with torch's memory and the files on disk."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kd.engines.fairseq import checkpoints, compat, forecast, training
from kd.engines.fairseq.flags import TrainSpec, arguments
from kd.engines.fairseq.model import build
from kd.engines.fairseq.saving import SaveCheckpoint
from kd.engines.fairseq.watch import Watch
from kd.recipe.compose import compose, parse_request, resolve
from kd.recipe.schema import CheckpointConfig, Metric, ModelConfig, Precision, TrainConfig, Which

VOCABULARY = 500


def kept_for_backward(model_config: ModelConfig, dictionary: Path, dtype: object, sentences: int, length: int) -> int:
    """Bytes that torch keeps between forward and backward pass, each storage once, parameters not counted."""
    model = build(model_config, dictionary)
    import torch

    model = model.to(dtype).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    source = torch.randint(4, VOCABULARY, (sentences, length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        lengths = torch.full((sentences,), length)
        source[-1, :3], lengths[-1] = 1, length - 3  # as in any real batch, one is shorter: padded on the left
        net = model(src_tokens=source, src_lengths=lengths, prev_output_tokens=source)
        model.get_normalized_probs(net, log_probs=True).sum()
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("pre_norm", [True, False])
@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
def test_the_forecast_of_activations_equals_what_torch_keeps(
    tmp_path: Path, pre_norm: bool, precision: Precision
) -> None:
    dictionary = tmp_path / "dict.txt"
    dictionary.write_text("".join(f"piece{number} 1\n" for number in range(VOCABULARY - 4)), "utf-8")
    # No dropout: its masks are a byte a number on a GPU, and more on the CPU that this runs on.
    model = ModelConfig(4, 2, 128, 512, 8, pre_norm, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
    config = TrainConfig(model=model, checkpoint=CheckpointConfig(every=1), precision=precision)
    sentences, length = 8, 40
    import torch

    dtype = torch.float32 if precision is Precision.fp32 else torch.bfloat16
    kept = kept_for_backward(model, dictionary, dtype, sentences, length)
    tokens = sentences * length
    said = forecast.memory(config, vocabulary=VOCABULARY, max_tokens=tokens, longest=length)
    log_probabilities = 4 * tokens * VOCABULARY
    assert said.activations + log_probabilities == pytest.approx(kept, rel=0.03)


def test_a_checkpoint_is_as_large_as_said(trained, spec: TrainSpec) -> None:
    from kd.engines.fairseq.loading import load
    from kd.engines.fairseq.model import count_parameters, load_models

    (model,), dictionary = load_models([trained.folder])
    said = forecast.forecast(spec.config, vocabulary=len(dictionary), max_tokens=spec.max_tokens, longest=41)
    assert said.parameters == count_parameters(model)
    newest = checkpoints.numbered(trained.folder / "checkpoints")[0].path
    assert load(newest)["last_optimizer_state"]
    overhead = newest.stat().st_size - said.files.checkpoint
    assert 0 < overhead < 300_000  # settings, names, alignment: what does not grow with the model
    # No more of them at once than said, the one in the making and the one that a signal asked for not counted here.
    assert len(checkpoints.numbered(trained.folder / "checkpoints")) == said.files.kept


def test_the_forecast_of_disk_counts_kept_checkpoints() -> None:
    checkpoint = CheckpointConfig(10_000, keep=5, keep_best=3, keep_every=50_000, average=5, average_of=Which.best)
    config = TrainConfig(checkpoint=checkpoint, max_update=300_000)
    # 5 last, 5 best (as many as are averaged), 6 of each 50,000, of which the last counts already; one requested by a
    # signal, one being written; 12 bytes each.
    files = forecast.disk(config, 1_000_000)
    assert (files.checkpoint, files.at_once) == (12_000_000, 5 + 5 + 5 + 2)
    short = replace(config, max_update=20_000)
    assert forecast.disk(short, 1_000_000).at_once == 2 + 2  # no more than are ever written


SETTINGS = [
    CheckpointConfig(
        every=100, keep=keep, keep_best=keep_best, keep_every=keep_every, metric=metric, average=average, average_of=of
    )
    for keep, keep_best, keep_every, average in itertools.product((1, 3), (0, 2), (0, 300), (1, 5))
    for of, metric in itertools.product(Which, Metric)
]


@pytest.mark.parametrize("updates", [100, 1000, 1050])
def test_the_forecast_of_kept_checkpoints_equals_those_of_a_training(
    spec: TrainSpec, tmp_path: Path, updates: int
) -> None:
    for number, checkpoint in enumerate(SETTINGS):
        config = replace(spec.config, checkpoint=checkpoint, max_update=updates, validate_bleu=True)
        kept = kept_at_most(replace(spec, config=config), tmp_path / str(number))
        assert kept == forecast.disk(config, 1).kept == checkpoints.number_kept(checkpoint, updates), checkpoint


def kept_at_most(spec: TrainSpec, folder: Path) -> int:
    """Count kept checkpoints if the best ones are not kept for another reason."""
    checkpoint, updates = spec.config.checkpoint, spec.config.max_update
    sign = 1 if checkpoint.metric is Metric.loss else -1
    last = list(range(100, updates + 1, 100))[-checkpoint.keep :]
    every = checkpoint.keep_every

    def value(update: int) -> float:
        stays_anyway = update in last or (every and update % every == 0)
        return sign * (update + (10_000 if stays_anyway else 0))

    kept = kept_after(spec, folder, value)
    # Where each validation is better than those before, the best are among the last.
    assert kept_after(spec, folder.with_name(f"{folder.name}-better"), lambda update: -sign * update) <= kept
    return kept


def test_the_plan_counts_the_best_checkpoints_that_are_averaged() -> None:
    checkpoint = CheckpointConfig(every=100, keep=3, average=5, average_of=Which.best)
    assert checkpoints.number_kept(checkpoint, 1000) == 8  # 3 last and 5 best of 10


def kept_after(spec: TrainSpec, folder: Path, value: Callable[[int], float]) -> int:
    """Count the checkpoints that the saving of a whole training leaves; value: of the validation at an update."""
    compat.install()
    folder.mkdir()
    flags = arguments(spec, folder)
    asked = training._description(spec, flags, folder)
    every, keep = (int(flags[flags.index(f"--{name}-interval-updates") + 1]) for name in ("save", "keep"))
    maximize = "--maximize-best-checkpoint-metric" in flags
    cfg = SimpleNamespace(
        save_dir=str(folder), save_interval_updates=every, keep_interval_updates=keep,
        maximize_best_checkpoint_metric=maximize,
    )  # fmt: skip
    save = SaveCheckpoint(Watch(every=every, higher_is_better=maximize), **asked["keep"])
    last = spec.config.max_update
    for update in sorted({*range(every, last + 1, every), last}):
        trainer = SimpleNamespace(
            consolidate_optimizer=lambda: None,
            get_num_updates=lambda update=update: update,
            should_save_checkpoint_on_current_rank=True,
            save_checkpoint=lambda path, _state: Path(path).touch(),
        )
        epoch = SimpleNamespace(epoch=1, state_dict=dict)
        save(cfg, trainer, epoch, float(value(update)))
    return len(checkpoints.numbered(folder))


def test_transformer_big_in_fp32_fits_where_its_parts_do() -> None:
    """Adam's 16 bytes a parameter, for 209,125,376 of them (counted by hand); more processes need one gradient more."""
    model = ModelConfig(6, 6, 1024, 4096, 16, False, dropout=0.3, attention_dropout=0.0, activation_dropout=0.0)
    config = TrainConfig(model=model, checkpoint=CheckpointConfig(every=1), precision=Precision.fp32)
    alone = forecast.memory(config, vocabulary=32_000, max_tokens=4096, longest=257)
    assert alone.weights + alone.gradients + alone.optimizer == 16 * 209_125_376
    assert alone.communication == 0
    four = forecast.memory(config, vocabulary=32_000, max_tokens=4096, longest=257, world_size=4)
    assert four.communication == 4 * 209_125_376
    assert four.total - four.communication == alone.total
    assert alone.output == 8 * 4096 * 32_000


def test_costly_saving_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    def line(saves: int, saving: float, seconds: float) -> str:
        told = {"saves": saves, "saving": saving, "seconds": seconds, "gpu_memory": None}
        return f"2026-11-21 | INFO | kd.train | kd-told {json.dumps(told)}"

    told = training.Told(every=1000)
    told.read("2026-11-21 | INFO | kd.train | saved checkpoint_1_1000.pt in 9.0 s")
    told.read(line(1, 30.0, 100.0))  # the first ones are no measure
    told.read(line(2, 60.0, 1000.0))
    assert told.notes == []
    told.read(line(3, 90.0, 3000.0))
    told.read(line(4, 121.0, 4000.0))
    # 3.025 % of the time at each 1000 updates is 1 % at each 3025.
    expected = "Saving checkpoints took 3.0% of the time: checkpoint.every=3025 instead of 1000 would bring it to 1%."
    assert told.notes == [expected]
    assert caplog.text.count("Saving checkpoints took") == 1  # once, not at each checkpoint
    told.read(line(5, 130.0, 14000.0))
    assert told.notes == []


def test_long_trainings_save_as_the_talk_does() -> None:
    request = parse_request(["recipe=files", "source=a", "target=b", "teacher=transformer_big", "checkpoint=long"])
    checkpoint = resolve(compose(request))["teacher"]["checkpoint"]
    assert (checkpoint["every"], checkpoint["keep"], checkpoint["keep_best"]) == (10_000, 5, 3)
