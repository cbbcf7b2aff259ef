"""The forecast of a stage: the work of its tasks and the bytes of their outputs, before any task has run.

Each kind computes it in `Kind.forecast`. Planning multiplies it by measured rates; see `kd/planning/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from kd.base.estimate import NOTHING, Estimate


class Sharing(Enum):
    """The devices that share one piece of work."""

    one = "one"  # one process, on one device
    gpus = "gpus"  # every GPU of the task's node works on a part of its own
    all = "all"  # all GPUs of all nodes work together, at less than full efficiency


@dataclass(frozen=True)
class Work:
    """A number of equal items to process; the time is proportional to amount x cost.

    Attributes:
        name: key of measured rates; only rates with equal names are comparable.
        unit: the item in words, plural.
        cost: cost of one item, in a unit given by the name: FLOPs, or bytes of text. None if unknown.
        flops: the KEY of `assume.tflops.KEY` that applies; empty if the cost is not in FLOPs.
    """

    name: str
    unit: str
    amount: Estimate
    cost: float | None = 1.0
    sharing: Sharing = Sharing.one
    flops: str = ""


@dataclass(frozen=True)
class TaskWork:
    """The forecast of one task.

    Attributes:
        kept: bytes of the output; None if they have to be scaled from measured outputs of the same kind.
        allowance: bytes of the output to assume if none was measured.
        pairs: sentence pairs of the output, for sizes that are given per pair; None: the amount of the first work.
        size: the work by which a measured size is scaled; None: the first.
        temporary: additional bytes on disk while the task runs.
        temporary_share: the same, as a share of the output.
        models: the shapes of the models in the output.
    """

    work: tuple[Work, ...]
    kept: Estimate | None = None
    allowance: float | None = None
    pairs: Estimate | None = None
    size: Work | None = None
    temporary: Estimate = NOTHING
    temporary_share: float = 0.0
    models: tuple[Any, ...] = ()

    @property
    def size_work(self) -> Work:
        """The work by which a measured size is scaled."""
        return self.size or self.work[0]

    @property
    def has_amount(self) -> bool:
        """Return whether the amount of the first work is known and not 0."""
        return bool(self.work) and bool(self.work[0].amount.value)


@dataclass(frozen=True)
class Asked:
    """The prompt and completion tokens of a stage's requests to a language model, and their price."""

    prompt: Estimate
    completion: Estimate
    price: Estimate
    currency: str


@dataclass(frozen=True)
class StageForecast:
    """The forecast of a stage.

    Attributes:
        tasks: name of a task -> its work.
        output: the text of the output, for the forecasts of later stages; None: the same as that of its input.
        asked: tokens of all tasks; None if the stage uses no server.
    """

    tasks: Mapping[str, TaskWork]
    output: Any = None
    asked: Asked | None = None


@dataclass(frozen=True)
class Spent:
    """Time that a finished task spent on one part of its work."""

    work: Work
    amount: float
    seconds: float  # of one device or process
    cpu_seconds: float | None = None

    def with_cpu(self, share: float) -> Spent:
        """Return a copy with CPU seconds computed as a share of the seconds."""
        return replace(self, cpu_seconds=self.seconds * share)
