"""Forecast a training: parameters, GPU memory, checkpoints on disk, and the work in FLOPs. Needs no torch.

The training prints the forecast before it starts, and `kd plan` adds it up; docs/training.md explains the formulas.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kd.base.estimate import Estimate
from kd.engines.fairseq.checkpoints import number_kept
from kd.engines.fairseq.flags import validated_every
from kd.models.known import VALIDATED, Known, Text
from kd.models.training_log import METRICS, read_metrics
from kd.models.transformer import CHECKPOINT_BYTES, MODEL_BYTES, parameter_count
from kd.pipeline.forecast import Sharing, Spent, TaskWork, Work
from kd.recipe.schema import Precision, TrainConfig

# Bytes a parameter: weights, gradients, optimiser. Adam keeps two averages in fp32; in lower precision fairseq's
# optimiser has fp32 copies of weights and gradients as well.
_BYTES = {
    **dict.fromkeys((Precision.fp32, Precision.tf32, Precision.auto), (4, 4, 8)),
    **dict.fromkeys((Precision.fp16, Precision.bf16), (2, 2, 16)),
}
_MASK = 1  # byte of a dropout mask, a number: torch keeps booleans on GPUs
_WRITING = 1  # checkpoints: a new one is whole before an old one goes
_SIGNALLED = 1  # checkpoints: one that a signal asked for, until the next regular one
_FIRST_LINES = 3  # of metrics.jsonl: slow, since everything is done for the first time


@dataclass(frozen=True)
class Memory:
    """Peak GPU memory of one process in bytes, reached when the backward pass begins."""

    weights: int
    gradients: int
    optimizer: int
    communication: int  # gradients on their way between processes
    activations: int  # what the layers keep for the backward pass
    output: int  # probabilities over the vocabulary and their gradients
    moving_average: int = 0  # of the weights
    teachers: int = 0  # weights of the models whose distributions are learnt, and these distributions

    @property
    def total(self) -> int:
        """The sum; the CUDA context (some 0.5 GB) and unused parts of torch's cache come on top."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Forecast:
    """The predicted resources of a training."""

    parameters: int
    memory: Memory
    files: Disk

    @property
    def disk(self) -> int:
        """Largest number of bytes of all checkpoints that exist at the same time."""
        return self.files.checkpoint * self.files.at_once

    def lines(self, device: str) -> list[str]:
        """Describe the forecast for people, before the training starts."""
        parts = ", ".join(f"{name} {_gigabytes(size)}" for name, size in vars(self.memory).items() if size)
        memory = f"Predicted GPU memory per process: {_gigabytes(self.memory.total)} ({parts})"
        return [
            f"{self.parameters:,} parameters.",
            memory + ("." if device != "cpu" else "; here it is the computer's, and no GPU."),
            f"Disk: at most {self.files.at_once} checkpoints of {_gigabytes(self.files.checkpoint)} at once, "
            f"{_gigabytes(self.disk)}.",
        ]

    def facts(self) -> dict[str, Any]:
        """Return the forecast in the form that the manifest records."""
        return {
            "gpu_memory": {**vars(self.memory), "total": self.memory.total},
            "checkpoint_bytes": self.files.checkpoint,
            "disk_bytes": self.disk,
        }


def forecast(
    config: TrainConfig, *, vocabulary: int, max_tokens: int, longest: int, world_size: int = 1, teachers: int = 0
) -> Forecast:
    """Predict the resources of a training.

    Args:
        config: The settings of the training.
        vocabulary: Number of symbols, special ones included.
        max_tokens: Padded tokens of one side in a micro-batch.
        longest: Tokens of the longest sentence, end included.
        world_size: Number of processes.
        teachers: Parameters of all teachers whose distributions are computed in each update.
    """
    parameters = parameter_count(config.model, vocabulary)
    return Forecast(
        parameters,
        memory(
            config,
            vocabulary=vocabulary,
            max_tokens=max_tokens,
            longest=longest,
            world_size=world_size,
            teachers=teachers,
        ),
        disk(config, parameters),
    )


def memory(
    config: TrainConfig, *, vocabulary: int, max_tokens: int, longest: int, world_size: int = 1, teachers: int = 0
) -> Memory:
    """Predict the GPU memory of one process.

    Activations are the tensors of fairseq's layers that torch keeps for the backward pass, counted one by one. With T =
    `max_tokens` target and source pieces (the worst pass has as many of both), width d, feed-forward width f, h heads,
    L = `longest` and e bytes a number,

        encoder layer   e T (8 d + f) + 2 masks T d
        decoder layer   e T (14 d + f) + 8 h T L + 3 masks T d      (attention over the source is kept in fp32, twice)
        embeddings, last norms   e T d (4 with pre-norm, 6 without) + 2 masks T d
        output          8 T V in fp32, 10 T V in half precision (fused.py: logits, log probabilities, a conversion)

    V is the vocabulary.
    """
    model, precision = config.model, config.precision
    weights, gradients, optimizer = _BYTES[precision]
    parameters = parameter_count(model, vocabulary)
    size = weights  # of an activation
    masks = _MASK if model.dropout else 0
    encoder = size * (8 * model.width + model.ffn) + 2 * masks * model.width
    decoder = size * (14 * model.width + model.ffn) + 8 * model.heads * longest + 3 * masks * model.width
    rest = (size * (4 if model.pre_norm else 6) + 2 * masks) * model.width
    return Memory(
        weights=parameters * weights,
        gradients=parameters * gradients,
        optimizer=parameters * optimizer,
        communication=parameters * gradients if world_size > 1 else 0,
        activations=max_tokens * (model.encoder_layers * encoder + model.decoder_layers * decoder + rest),
        output=max_tokens * vocabulary * (8 if weights == 4 else 10),
        teachers=teachers * weights + (8 * max_tokens * vocabulary if teachers else 0),
        moving_average=_moving_average(config, parameters),
    )


def _moving_average(config: TrainConfig, parameters: int) -> int:
    """Return the bytes of the averaged weights: in the model's precision, and also in fp32 if that differs."""
    if not config.checkpoint.ema:
        return 0
    size = _BYTES[config.precision][0]
    return parameters * (size if size == 4 else size + 4)


@dataclass(frozen=True)
class Disk:
    """The files that a training keeps.

    Attributes:
        kept: number of checkpoints that remain at the end.
        checkpoint: bytes of one checkpoint.
        model: bytes of the final model.
    """

    kept: int
    checkpoint: int
    model: int

    @property
    def at_once(self) -> int:
        """Largest number of checkpoints on disk at the same time."""
        return self.kept + _WRITING + _SIGNALLED

    @property
    def writing(self) -> int:
        """Bytes of checkpoints that are being written, in addition to those kept."""
        return _WRITING * self.checkpoint

    @property
    def bytes_kept(self) -> int:
        """Bytes that remain at the end: checkpoints and model."""
        return self.kept * self.checkpoint + self.model


def disk(config: TrainConfig, parameters: int, updates: float | None = None) -> Disk:
    """Forecast the files of a training of a given number of updates (default: `config.max_update`).

    A checkpoint has weights and Adam's two averages, in fp32 whatever the precision, and the moving average of the
    weights if one is kept.
    """
    kept = number_kept(config.checkpoint, int(config.max_update if updates is None else updates))
    checkpoint = parameters * CHECKPOINT_BYTES + _moving_average(config, parameters)
    return Disk(kept, checkpoint, parameters * MODEL_BYTES)


# --- work ------------------------------------------------------------------------------------------------------------


def training_work(config: TrainConfig, text: Text, known: Known, assumed: Estimate | None, note: str = "") -> TaskWork:
    """Forecast one training.

    Args:
        config: its settings.
        text: the text that it trains on.
        known: the facts that are known before the run.
        assumed: updates after which the training ends, as assumed by the user.
        note: added to the source of its target tokens.
    """
    updates = assumed or _updates(config)
    tokens = updates.times(config.batch.target_tokens)
    if note:
        tokens = replace(tokens, source=f"{tokens.source}; {note}")
    cost = known.training_flops(config.model, text)
    work = [Work("train", "target tokens", tokens, cost, Sharing.all, "train")]
    validations = None if updates.value is None else updates.value // validated_every(config)
    if validations and config.validate_bleu:
        work.append(validation(config, Estimate(validations * known.dev, "config"), text, known))
    files = disk(config, known.parameters(config.model), updates.value or 0.0)
    return TaskWork(
        tuple(work),
        kept=Estimate(float(files.bytes_kept), "weights x (4 bytes + 12 per checkpoint kept)"),
        temporary=Estimate(float(files.writing), "one checkpoint more"),
        models=(config.model,),
    )


def validation(config: TrainConfig, sentences: Estimate, text: Text, known: Known) -> Work:
    """Forecast the greedy translation of a number of dev sentences."""
    cost = known.translation_flops([config.model], text, beam=1)
    return Work("validate", VALIDATED, sentences, cost, flops="decode")


def _updates(config: TrainConfig) -> Estimate:
    """Return the updates of a training: at most those of the config."""
    updates = float(config.max_update)
    if config.stop.target_tokens:
        updates = min(updates, config.stop.target_tokens / config.batch.target_tokens)
    return Estimate(updates, "config: an upper bound, it may end earlier" if config.stop.patience else "config")


def training_spent(folder: Path, manifest: Mapping[str, Any], work: TaskWork) -> Iterator[Spent]:
    """Divide the seconds of a finished training between updates and validations, by its `metrics.jsonl`."""
    parts = {part.name: part for part in work.work}
    entries = list(read_metrics(folder / METRICS))
    updates = validations = 0
    trained = validated = 0.0
    for number, (before, now) in enumerate(itertools.pairwise(entries)):
        seconds = float(now["seconds"]) - float(before["seconds"])
        if now["split"] == "dev":
            validations += 1
            validated += seconds
        elif before["split"] == "train" and number >= min(_FIRST_LINES, len(entries) // 2):
            updates += int(now["update"]) - int(before["update"])
            trained += seconds
    if updates and trained > 0:
        devices = max(1, int(manifest["facts"].get("devices") or 1))
        tokens = updates * float(manifest["counts"]["target tokens per update"])
        yield Spent(parts["train"], tokens, trained * devices)
    if validations and "validate" in parts:
        settings = manifest["settings"].get("training", manifest["settings"])  # of a search, or of a training
        made = max(1, int(manifest["counts"]["updates"]) // int(settings["checkpoint"]["every"]))
        sentences = float(parts["validate"].amount.value or 0) / made * validations
        if sentences:
            yield Spent(parts["validate"], sentences, validated)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
