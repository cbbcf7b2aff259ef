"""Describe the setup of the measurements: the device, and the sizes of models and data."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kd.base import energy
from kd.base.devices import given
from kd.engines.fairseq.automatic import RESERVED_BYTES, USABLE, Surroundings, largest_size
from kd.recipe.schema import ModelConfig, TrainConfig

BIG, STUDENT = "transformer_big", "student 12+1"
LONGEST = 128  # tokens of a generated sentence, its end included


@dataclass(frozen=True)
class Size:
    """The amount of work.

    Attributes:
        models: Name -> shape of each model that is trained.
        vocabulary: Symbols, special ones included.
        pairs: Generated sentence pairs to train on.
        most_tokens: Tokens of a micro-batch, if memory does not allow fewer.
        passes: Micro-batches of an update.
        seconds: Duration of a training, from the start of its first update.
        updates: Updates of a training at most.
        members: Models of the ensemble.
        sentences: Sentences to translate.
        beam: Width of the search.
        max_pieces: Longest translation in tokens.
        rounds: Times that each side of a comparison runs.
        processes: Processes that communicate if the device is a CPU.
    """

    models: Mapping[str, ModelConfig]
    vocabulary: int
    pairs: int
    most_tokens: int
    passes: int
    seconds: float
    updates: int
    members: int
    sentences: int
    beam: int
    max_pieces: int
    rounds: int
    processes: int = 1


def full(models: Mapping[str, ModelConfig]) -> Size:
    """Return the sizes for a GPU."""
    return Size(
        models=models,
        vocabulary=32_000,
        pairs=300_000,
        most_tokens=16_384,
        passes=4,
        seconds=15.0,
        updates=1_000_000,
        members=4,
        sentences=500,
        beam=5,
        max_pieces=32,
        rounds=2,
    )


def miniature(models: Mapping[str, ModelConfig]) -> Size:
    """Return sizes with which everything runs on a CPU in seconds: models of the same kind, but 32 wide."""
    tiny = {
        name: replace(model, encoder_layers=2, decoder_layers=1, width=32, ffn=64, heads=2)
        for name, model in models.items()
    }
    return Size(
        models=tiny,
        vocabulary=500,
        pairs=600,
        most_tokens=512,
        passes=1,
        seconds=600.0,
        updates=10,
        members=2,
        sentences=8,
        beam=2,
        max_pieces=8,
        rounds=1,
        processes=2,
    )


@dataclass(frozen=True)
class Setup:
    """Everything that a measurement needs.

    Attributes:
        place: Folder for its files, removed at the end.
        device: cpu, cuda or rocm.
        name: The device's name.
        count: GPUs of this computer; 0 on a CPU.
        memory: Free bytes of a GPU's memory; None on a CPU.
        precisions: Precisions in which this device trains, the usual one first.
        threads: CPU threads.
        size: The amount of work.
    """

    place: str
    device: str
    name: str
    count: int
    memory: float | None
    precisions: tuple[str, ...]
    threads: int
    size: Size

    @property
    def folder(self) -> Path:
        """The folder for files."""
        return Path(self.place)

    @property
    def torch_device(self) -> str:
        """The device by torch's name, which is `cuda` for AMD GPUs as well."""
        return "cpu" if self.device == "cpu" else "cuda"

    @property
    def workers(self) -> int:
        """Processes that measure communication: one for each GPU."""
        return self.size.processes if self.device == "cpu" else self.count

    @property
    def decoding_precision(self) -> str:
        """The precision for translation: half precision where the device has it."""
        return next((each for each in self.precisions if each in ("bf16", "fp16")), "fp32")

    def micro_batch(self, config: TrainConfig, workers: int) -> int:
        """Return the tokens of a micro-batch: those of `size`, or fewer if they are forecast not to fit."""
        if self.memory is None:
            return self.size.most_tokens
        return min(self.size.most_tokens, self.largest_micro_batch(config, self.memory, workers))

    def largest_micro_batch(self, config: TrainConfig, memory: float, workers: int = 1) -> int:
        """Return the tokens of the largest micro-batch that is forecast to fit into this many bytes."""
        here = Surroundings(
            device=self.device,
            threads=self.threads,
            world_size=workers,
            gpu_memory=None,
            dictionary=self.folder,
            symbols=self.size.vocabulary,
            longest=LONGEST,
            mean=LONGEST,
        )
        return largest_size(config, here, (memory - RESERVED_BYTES) * USABLE)

    def meter(self, gpus: int) -> energy.Meter:
        """Return a meter of the first GPUs; on a CPU it measures nothing."""
        found, source = given(self.device, os.environ) if self.device != "cpu" else ([], energy.NOT_MEASURED)
        return energy.Meter(self.folder / f"energy-{time.monotonic_ns()}.json", found[:gpus], source)


class NotMeasured(Exception):
    """Raised by a measurement that does not apply here; the message says why."""


Values = dict[str, Any]  # of a measurement: numbers, texts and None, for JSON
