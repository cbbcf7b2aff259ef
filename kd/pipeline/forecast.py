"""The forecast of a stage: how much work its tasks are and how many bytes they leave, before any of them has run.

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
    """A number of equal items to process. Seconds are proportional to amount x cost.

    Attributes:
        name: what a measured rate is filed under; rates of equal names are compared.
        unit: the item in words, plural.
        cost: of one item, in a unit that belongs to the name: FLOPs, or bytes of text. None where it is unknown.
        flops: the key of `assume.tflops.KEY` that applies; empty where the cost is not in FLOPs.
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
        kept: bytes of the output; None where they have to be scaled from measured outputs of the same kind.
        allowance: bytes of the output to assume where none was measured.
        pairs: sentence pairs of the output, for sizes that are given per pair; None: the amount of the first work.
        size: the work that a measured size is scaled by; None: the first.
        temporary: bytes on disk beside the output while the task runs.
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
        """The work that a measured size is scaled by."""
        return self.size or self.work[0]

    @property
    def has_amount(self) -> bool:
        """Return whether the amount of the first work is known and not 0."""
        return bool(self.work) and bool(self.work[0].amount.value)


@dataclass(frozen=True)
class Asked:
    """The tokens that a language model behind a server reads and writes for a stage, and their price."""

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
        asked: tokens of all tasks, where a server is asked.
    """

    tasks: Mapping[str, TaskWork]
    output: Any = None
    asked: Asked | None = None


@dataclass(frozen=True)
class Spent:
    """Seconds that a finished task spent on one part of its work."""

    work: Work
    amount: float
    seconds: float  # of one device or process
    cpu_seconds: float | None = None

    def with_cpu(self, share: float) -> Spent:
        """Return the same with CPU seconds as a share of its seconds."""
        return replace(self, cpu_seconds=self.seconds * share)
