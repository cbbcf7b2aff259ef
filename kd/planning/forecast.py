"""The forecast of a run: adds up the forecasts of the kinds to time, devices, disk and energy along the chain.

Each estimate has its source. A sum with an unknown part is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kd.base.estimate import NOTHING, Estimate, joined, total
from kd.pipeline.forecast import Asked, Work
from kd.pipeline.model import Stage, Task
from kd.planning.assumptions import Assumptions
from kd.planning.schedule import Span, critical
from kd.recipe.schema import MachineConfig

UNKNOWN_INTENSITY = "the carbon intensity is not known: set it in kg CO2e per kWh, such as machine.carbon_intensity=0.3"
UNKNOWN_PUE = "the PUE (energy of the centre to energy of its computers) is not known: set it, such as machine.pue=1.2"


@dataclass(frozen=True)
class Request:
    """The resources that a job of a stage requests."""

    nodes: int  # 0: it runs where `kd run` is typed
    gpus: int  # of each node
    cores: int  # of each node
    hours: float | None  # limit of a job; None: no limit
    partition: str | None = None

    def share(self, machine: MachineConfig) -> float:
        """Return the share of its nodes that a job occupies, by GPUs or by cores, whichever is larger."""
        shares = [self.gpus / machine.gpus_per_node if machine.gpus_per_node else 0.0]
        if machine.cores_per_node:
            shares.append(self.cores / machine.cores_per_node)
        return self.nodes * (min(1.0, max(shares)) or 1.0)


@dataclass(frozen=True, repr=False)
class TaskForecast:
    """The forecast of a task that has not run."""

    task: Task
    seconds: Estimate  # of wall time
    cpu_seconds: float | None
    kept: Estimate  # bytes on disk
    temporary: Estimate  # bytes more while it runs


@dataclass(repr=False)
class StageForecast:
    """A stage with its finished and its missing tasks."""

    stage: Stage
    work: tuple[Work, ...]  # of its first missing task
    request: Request
    done: int
    tasks: list[TaskForecast] = field(default_factory=list)
    kept_already: float = 0.0  # bytes
    asked: Asked | None = None  # of the missing tasks

    @property
    def seconds(self) -> Estimate:
        """The seconds of the longest missing task."""
        if not self.tasks:
            return NOTHING
        known = [item.seconds.value for item in self.tasks]
        longest = None if None in known else max(value for value in known if value is not None)
        return Estimate(longest, joined(item.seconds.source for item in self.tasks))

    def hours(self, each: float) -> Estimate:
        """Return the hours of all missing tasks, times the number of devices or cores (`each`) of a task."""
        return total(item.seconds.times(each / 3600) for item in self.tasks)

    @property
    def gpu_hours(self) -> Estimate:
        """GPU hours of the missing tasks."""
        return self.hours(self.request.nodes * self.request.gpus) if self.request.gpus else NOTHING

    @property
    def core_hours(self) -> Estimate:
        """CPU core hours of the missing tasks, for allocated cores, idle or busy."""
        return self.hours(self.request.nodes * self.request.cores)

    @property
    def kept(self) -> Estimate:
        """Bytes that remain."""
        return total(item.kept for item in self.tasks)

    @property
    def temporary(self) -> float | None:
        """Largest number of additional bytes while one of its tasks runs; None if unknown."""
        parts = [item.temporary.value for item in self.tasks]
        return None if None in parts else max(part for part in parts if part is not None)

    @property
    def runs_of_jobs(self) -> int | None:
        """Number of jobs, including continuations after a time limit; None if unknown."""
        seconds = [item.seconds.value for item in self.tasks]
        if self.request.hours is None:
            return len(self.tasks)
        limit = self.request.hours * 3600
        return None if None in seconds else sum(max(1, math.ceil((each or 0.0) / limit)) for each in seconds)


@dataclass(repr=False)
class Forecast:
    """The forecast of a run.

    Attributes:
        spans: Task -> the time span in which it runs; empty if a time is unknown.
        text: Language pair -> its sentence pairs, as collected.
        changes: Values of the recipe that the command line changes.
        measured: Whether any of the forecast was measured.
        licences: Corpus -> licence of its text.
        scaling: Results of `kd scaling` of this run; empty if there are none.
    """

    recipe: str
    machine: MachineConfig
    cluster: bool
    stages: list[StageForecast]
    spans: Mapping[Task, Span]
    assumptions: Assumptions
    data_in: Estimate
    text: Mapping[str, Estimate]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    measured: bool = True
    licences: Mapping[str, str] = field(default_factory=dict)
    scaling: Mapping[str, Any] = field(default_factory=dict)

    def uses(self, sources: Collection[str]) -> bool:
        """Return whether a time or a size of the missing tasks comes from one of these sources."""
        estimates = [estimate for stage in self.stages for estimate in (stage.seconds, stage.kept)]
        parts = {part for estimate in estimates for part in estimate.source.split("; ")}
        return any(part.startswith(tuple(sources)) for part in parts)

    # --- time and devices --------------------------------------------------------------------------------------------

    @property
    def wall(self) -> Estimate:
        """Seconds along the chain, without the time in queues."""
        sources = joined(stage.seconds.source for stage in self.stages if stage.tasks)
        if self.unknown:
            return Estimate(None, sources)
        return Estimate(max((span.end for span in self.spans.values()), default=0.0), sources)

    @property
    def unknown(self) -> list[StageForecast]:
        """Stages whose time is unknown."""
        return [stage for stage in self.stages if stage.seconds.value is None]

    @property
    def critical(self) -> list[Task]:
        """The critical path: the chain of tasks that determines the wall time."""
        return critical(self.spans)

    @property
    def cpu_seconds(self) -> float | None:
        """CPU seconds of the missing tasks; None if a part was not measured."""
        return sum_known(item.cpu_seconds for stage in self.stages for item in stage.tasks)

    @property
    def gpu_hours(self) -> Estimate:
        """GPU hours of the missing tasks."""
        return total(stage.gpu_hours for stage in self.stages)

    @property
    def core_hours(self) -> Estimate:
        """CPU core hours of the missing tasks."""
        return total(stage.core_hours for stage in self.stages)

    @property
    def node_hours(self) -> Estimate:
        """Node hours; each job counts with the share of its nodes that it occupies."""
        return total(stage.hours(stage.request.share(self.machine)) for stage in self.stages)

    @property
    def node_hours_by_partition(self) -> dict[str, Estimate]:
        """Node hours of each partition, which sites grant separately."""
        hours: dict[str, list[Estimate]] = {}
        for stage in self.stages:
            if stage.tasks and stage.request.nodes:
                partition = stage.request.partition or "default"
                hours.setdefault(partition, []).append(stage.hours(stage.request.share(self.machine)))
        return {name: total(parts) for name, parts in hours.items()}

    @property
    def peak_gpus(self) -> int | None:
        """Peak number of GPUs in use; None if times are unknown."""
        found = self._peak(lambda request: request.nodes * request.gpus)
        return None if found is None else int(found)

    @property
    def peak_nodes(self) -> float | None:
        """Peak number of nodes in use, with shares added and rounded up; None if times are unknown."""
        found = self._peak(lambda request: request.share(self.machine))
        return None if found is None else math.ceil(found - 1e-9)

    def _peak(self, size: Callable[[Request], float]) -> float | None:
        if self.unknown:
            return None
        sizes = {item.task: size(stage.request) for stage in self.stages for item in stage.tasks}
        return max((sum(sizes[task] for task in tasks) for tasks in self._together()), default=0)

    def _together(self) -> list[list[Task]]:
        """Return the concurrently running tasks at each time at which a task starts."""
        return [
            [task for task, other in self.spans.items() if other.begin <= moment < other.end]
            for moment in {span.begin for span in self.spans.values()}
        ]

    # --- disk and energy ---------------------------------------------------------------------------------------------

    @property
    def kept(self) -> Estimate:
        """Bytes that remain at the end, including those of finished tasks."""
        there = Estimate(sum(stage.kept_already for stage in self.stages), "")
        return total([there, *(stage.kept for stage in self.stages)])

    @property
    def peak(self) -> Estimate:
        """Peak bytes on disk: everything that remains, and the temporary files of concurrent tasks."""
        temporary = {item.task: item.temporary for stage in self.stages for item in stage.tasks}
        if not self.kept or not all(temporary.values()):
            return Estimate(None, joined([self.kept.source, *(each.source for each in temporary.values())]))
        sums = [sum(temporary[task].value or 0.0 for task in tasks) for tasks in self._together()]
        everything = sum(each.value or 0.0 for each in temporary.values())
        return Estimate((self.kept.value or 0.0) + max(sums, default=everything), self.kept.source)

    @property
    def data_out(self) -> Estimate:
        """Bytes that leave the machine: models and reports."""
        out = [stage for stage in self.stages if stage.stage.kind.delivers]
        return total([*(stage.kept for stage in out), Estimate(sum(stage.kept_already for stage in out), "")])

    @property
    def kwh(self) -> Estimate:
        """Energy, including the centre's overhead (PUE) if the machine states one."""
        parts = []
        for hours, key, what in ((self.gpu_hours, "gpu_watts", "GPUs"), (self.core_hours, "core_watts", "CPU cores")):
            watts = self.assumptions.get(key)
            if hours.value != 0:
                parts.append(
                    hours.times(
                        watts or Estimate(None, f"the power of {what} is not known: set assume.{key}=NUMBER")
                    ).times(1e-3)
                )
        return total(parts).times(self.machine.pue if self.machine.pue is not None else 1.0)

    @property
    def co2(self) -> Estimate:
        """Emissions in kg CO2e."""
        intensity = self.machine.carbon_intensity
        return self.kwh.times(Estimate(intensity, "" if intensity is not None else UNKNOWN_INTENSITY))


def sum_known(values: Iterable[float | None]) -> float | None:
    """Return the sum; None if any value is None."""
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)
