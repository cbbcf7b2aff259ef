"""What a training will need, said before it starts: parameters, GPU memory by what it is for, and disk for checkpoints.

The formulas are in `memory` and `disk`; docs/training.md explains them. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kd.engines.fairseq.model import parameter_count
from kd.recipe.schema import Precision, TrainConfig, Which

# Bytes a parameter: weights, gradients, optimiser. Adam keeps two averages in fp32; in lower precision fairseq's
# optimiser has fp32 copies of weights and gradients as well.
_BYTES = {Precision.fp32: (4, 4, 8), Precision.fp16: (2, 2, 16), Precision.bf16: (2, 2, 16)}
_MASK = 1  # of dropout, a number: torch keeps booleans on GPUs


@dataclass(frozen=True)
class Memory:
    """GPU memory of one process in bytes, at its peak: when the backward pass begins."""

    weights: int
    gradients: int
    optimizer: int
    communication: int  # gradients on their way between processes
    activations: int  # what the layers keep for the backward pass
    output: int  # probabilities over the vocabulary and their gradients

    @property
    def total(self) -> int:
        """All of it; the CUDA context (some 0.5 GB) and unused parts of torch's cache come on top."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Forecast:
    """What a training will need."""

    parameters: int
    memory: Memory
    checkpoint: int  # bytes of one
    checkpoints: int  # on disk at once, at most

    @property
    def disk(self) -> int:
        """Bytes that all checkpoints need at once, at most."""
        return self.checkpoint * self.checkpoints

    def lines(self, device: str) -> list[str]:
        """For people, before the training starts."""
        parts = ", ".join(f"{name} {_gigabytes(size)}" for name, size in vars(self.memory).items() if size)
        memory = f"Predicted GPU memory a process: {_gigabytes(self.memory.total)} ({parts})"
        return [
            f"{self.parameters:,} parameters.",
            memory + ("." if device != "cpu" else "; here it is the computer's, and no GPU."),
            f"Disk: at most {self.checkpoints} checkpoints of {_gigabytes(self.checkpoint)} at once, "
            f"{_gigabytes(self.disk)}.",
        ]

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "gpu_memory": {**vars(self.memory), "total": self.memory.total},
            "checkpoint_bytes": self.checkpoint,
            "disk_bytes": self.disk,
        }


def forecast(config: TrainConfig, *, vocabulary: int, max_tokens: int, longest: int, world_size: int = 1) -> Forecast:
    """What a training will need.

    vocabulary: symbols, the special ones included; max_tokens: padded pieces of one side in a pass (BatchPlan);
    longest: pieces of the longest sentence, its end included.
    """
    parameters = parameter_count(config.model, vocabulary)
    return Forecast(
        parameters,
        memory(config, vocabulary=vocabulary, max_tokens=max_tokens, longest=longest, world_size=world_size),
        *disk(config, parameters),
    )


def memory(config: TrainConfig, *, vocabulary: int, max_tokens: int, longest: int, world_size: int = 1) -> Memory:
    """GPU memory of one process.

    Of activations, what torch keeps of fairseq's layers for the backward pass, counted tensor by tensor: with T =
    `max_tokens` target and source pieces (the worst pass has as many of both), width d, feed-forward width f, h heads,
    L = `longest` and e bytes a number,

        encoder layer   e T (8 d + f) + 2 masks T d
        decoder layer   e T (14 d + f) + 8 h T L + 3 masks T d      (attention over the source is kept in fp32, twice)
        embeddings, last norms   e T d (4 with pre-norm, 6 without) + 2 masks T d
        output          12 T V      (log probabilities in fp32, and two gradients of them)

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
        output=max_tokens * vocabulary * 12,
    )


def disk(config: TrainConfig, parameters: int) -> tuple[int, int]:
    """Bytes of a checkpoint, and how many there are at once.

    Weights and Adam's two averages, in fp32 whatever the precision. On disk are `keep` of the last, the
    best, those of each `keep_every` updates, one that a signal asked for, and the newest while it is being written.
    """
    checkpoint = config.checkpoint
    best = max(checkpoint.keep_best, checkpoint.average if checkpoint.average_of is Which.best else 0)
    always = config.max_update // checkpoint.keep_every if checkpoint.keep_every else 0
    regular = config.max_update // checkpoint.every + 1
    return parameters * 12, min(checkpoint.keep + best + always, regular) + 2


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
