"""What a task and a stage would take, each figure with its source: the parts that a forecast is put together of.

A stage asks its machine for nodes, GPUs and cores; its hours are those of all its missing tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from kd.pipeline.model import Stage, Task
from kd.planning.figures import Figure, joined, total
from kd.planning.volume import Part


@dataclass(frozen=True, repr=False)
class TaskForecast:
    """One task that is to be run."""

    task: Task
    seconds: Figure  # of wall time
    cpu_seconds: float | None
    kept: Figure  # bytes on disk
    temporary: Figure  # bytes more while it runs


@dataclass(frozen=True)
class Request:
    """What a job of a stage asks its machine for."""

    nodes: int  # 0: it runs where `kd run` is typed
    gpus: int  # of each node
    cores: int  # of each node
    hours: float | None  # limit of a job; None: none
    partition: str | None = None


@dataclass(repr=False)
class StageForecast:
    """A stage with what is done and what is missing."""

    stage: Stage
    parts: list[Part]  # of its first missing task
    request: Request
    done: int
    tasks: list[TaskForecast] = field(default_factory=list)
    kept_already: float = 0.0  # bytes

    @property
    def seconds(self) -> Figure:
        """The longest of the missing tasks."""
        if not self.tasks:
            return Figure(0.0, "")
        known = [item.seconds.value for item in self.tasks]
        longest = None if None in known else max(value for value in known if value is not None)
        return Figure(longest, joined(item.seconds.source for item in self.tasks))

    def hours(self, each: float) -> Figure:
        """Hours of all missing tasks, times `each` device or core that a task has."""
        return total(item.seconds.times(each / 3600) for item in self.tasks)

    @property
    def gpu_hours(self) -> Figure:
        """GPU hours of what is missing."""
        return self.hours(self.request.nodes * self.request.gpus) if self.request.gpus else Figure(0.0, "")

    @property
    def core_hours(self) -> Figure:
        """CPU core hours of what is missing: cores that are held, idle or busy."""
        return self.hours(self.request.nodes * self.request.cores)

    @property
    def kept(self) -> Figure:
        """Bytes that stay."""
        return total(item.kept for item in self.tasks)

    @property
    def runs_of_jobs(self) -> Figure:
        """Jobs including those that go on after a time limit."""
        if self.request.hours is None:
            return Figure(float(len(self.tasks)), "")
        limit = self.request.hours * 3600
        return total(
            Figure(None if each.seconds.value is None else max(1, math.ceil(each.seconds.value / limit)))
            for each in self.tasks
        )
