"""What is missing of a run, and what it would take: time, devices, disk, energy, along the chain of dependencies.

Every figure has its source; where one is unknown, so is every sum that it enters, and the forecast says so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from kd.pipeline.execute import USING_GPUS
from kd.pipeline.model import Stage, Task
from kd.pipeline.plan import Plan
from kd.planning.assumptions import Assumptions
from kd.planning.figures import Figure, joined, total
from kd.planning.needs import Request, StageForecast, TaskForecast
from kd.planning.rates import Place, Rates
from kd.planning.schedule import Rules, Span, critical, lay_out
from kd.planning.shapes import BYTES_A_CHECKPOINTED_WEIGHT, BYTES_A_WEIGHT
from kd.planning.trainings import training_of
from kd.planning.volume import Part, Volume, checkpoints_kept, models_behind, parts_of, size_part, updates_of, weights
from kd.recipe.schema import ExportConfig, LauncherConfig, MachineConfig, ResourcesConfig

# What a stage holds on disk beside what it leaves, as a share of that: benchmarks/bench_memory.py, disk at 10 M pairs
# (clean 1.29 times its compressed input at the fullest, of which about 1.0 stays; shard 2.48).
TEMPORARY = {"clean": 0.3, "shard": 1.5}
SMALL = {
    "translate": 5e6,
    "speed": 1e6,
    "evaluate": 5e6,
    "choose": 1e6,
    "report": 5e6,
    "release": 1e9,
    "split": 5e6,
    "vocabulary": 5e6,
}
UNKNOWN_INTENSITY = (
    "the grid's carbon intensity is not known: say machine.carbon_intensity=0.3 or what it is, in kg CO2e a kWh"
)
UNKNOWN_PUE = (
    "the PUE (all the centre takes by what its computers take) is not known: say machine.pue=1.2 or what it is"
)
_FORMATS = {"float32": 4, "int8_float32": 1.1, "int8": 1.1}  # bytes a weight of an export; others: 2


@dataclass(repr=False)
class Forecast:
    """The whole."""

    recipe: str
    machine: MachineConfig
    cluster: bool
    stages: list[StageForecast]
    spans: Mapping[Task, Span]  # empty where a time is unknown
    assumptions: Assumptions
    data_in: Figure
    data_out: Figure
    text: Mapping[str, Figure]  # sentence pairs of each language pair, as collected
    notes: list[str] = field(default_factory=list)
    measured: bool = True  # whether any of it was

    def stands_on(self, sources: Collection[str]) -> bool:
        """Whether a time or a size of what is missing comes from one of these."""
        figures = [figure for stage in self.stages for figure in (stage.seconds, stage.kept)]
        parts = {part for figure in figures for part in figure.source.split("; ")}
        return any(part.startswith(tuple(sources)) for part in parts)

    @property
    def wall(self) -> Figure:
        """Seconds along the chain, waiting in queues not counted."""
        sources = joined(stage.seconds.source for stage in self.stages if stage.tasks)
        if self.unknown:
            return Figure(None, sources)
        return Figure(max((span.end for span in self.spans.values()), default=0.0), sources)

    @property
    def unknown(self) -> list[StageForecast]:
        """Stages whose time is unknown."""
        return [stage for stage in self.stages if stage.seconds.value is None]

    @property
    def cpu_seconds(self) -> float | None:
        """CPU seconds of what is missing; None where a part was not measured so."""
        known = [item.cpu_seconds for stage in self.stages for item in stage.tasks]
        return None if None in known else sum(each for each in known if each is not None)

    @property
    def gpu_hours(self) -> Figure:
        """GPU hours of what is missing."""
        return total(stage.gpu_hours for stage in self.stages)

    @property
    def core_hours(self) -> Figure:
        """CPU core hours of what is missing."""
        return total(stage.core_hours for stage in self.stages)

    @property
    def node_hours(self) -> Figure:
        """Node hours: the share of a node that a job holds, by GPUs or by cores, whichever is more."""
        return total(stage.hours(stage.request.nodes * self._share(stage.request)) for stage in self.stages)

    @property
    def node_hours_by_partition(self) -> dict[str, Figure]:
        """The same for each of the machine's partitions, whose nodes differ and are applied for apart."""
        stages: dict[str, list[StageForecast]] = {}
        for stage in self.stages:
            if stage.tasks and stage.request.nodes:
                stages.setdefault(stage.request.partition or "default", []).append(stage)
        return {
            name: total(stage.hours(stage.request.nodes * self._share(stage.request)) for stage in here)
            for name, here in stages.items()
        }

    def _share(self, request: Request) -> float:
        shares = [request.gpus / self.machine.gpus_per_node if self.machine.gpus_per_node else 0.0]
        if self.machine.cores_per_node:
            shares.append(request.cores / self.machine.cores_per_node)
        return min(1.0, max(shares)) or 1.0

    @property
    def kept(self) -> Figure:
        """Bytes that are there in the end, with what is there already."""
        there = Figure(sum(stage.kept_already for stage in self.stages), "")
        return total([there, *(stage.kept for stage in self.stages)])

    @property
    def peak(self) -> Figure:
        """Bytes at the fullest: everything that is kept, and the temporary files of what runs side by side."""
        temporary = [item.temporary for stage in self.stages for item in stage.tasks]
        if not self.kept or any(each.value is None for each in temporary):
            return Figure(None, joined([self.kept.source, *(each.source for each in temporary)]))
        items = {item.task: item for stage in self.stages for item in stage.tasks}
        moments = [span.begin for span in self.spans.values()]
        aside = [
            sum(items[task].temporary.value or 0.0 for task, span in self.spans.items() if span.begin <= now < span.end)
            for now in moments
        ]
        most = max(aside, default=sum(each.value or 0.0 for each in temporary))
        return Figure((self.kept.value or 0.0) + most, self.kept.source)

    @property
    def most_gpus(self) -> int | None:
        """GPUs in use at once; None where times are unknown."""
        return self._most(lambda request: request.nodes * request.gpus)

    @property
    def most_nodes(self) -> float | None:
        """Nodes in use at once, shares added up and rounded up."""
        found = self._most(lambda request: request.nodes * self._share(request))
        return None if found is None else math.ceil(found - 1e-9)

    def _most(self, size) -> int | None:  # type: ignore[no-untyped-def]
        if self.unknown:
            return None
        requests = {item.task: stage.request for stage in self.stages for item in stage.tasks}
        now_running = [
            [task for task, other in self.spans.items() if other.begin <= span.begin < other.end]
            for span in self.spans.values()
        ]
        return max((sum(size(requests[task]) for task in tasks) for tasks in now_running), default=0)

    @property
    def kwh(self) -> Figure:
        """Energy, the centre's overhead (PUE) in it where the machine says it."""
        parts = []
        for hours, key, what in ((self.gpu_hours, "gpu_watts", "GPUs"), (self.core_hours, "core_watts", "CPU cores")):
            watts = self.assumptions.get(key)
            if hours.value != 0:
                parts.append(hours.times(watts or Figure(None, f"the draw of {what}: say assume.{key}=")).times(1e-3))
        return total(parts).times(self.machine.pue if self.machine.pue is not None else 1.0)

    @property
    def co2(self) -> Figure:
        """kg CO2e."""
        intensity = self.machine.carbon_intensity
        return self.kwh.times(Figure(intensity, "" if intensity is not None else UNKNOWN_INTENSITY))

    @property
    def critical(self) -> list[Task]:
        """The chain of tasks that the wall time is made of."""
        return critical(self.spans)


class Forecaster:
    """Puts work and rates together."""

    def __init__(
        self,
        plan: Plan,
        volume: Volume,
        rates: Rates,
        machine: MachineConfig,
        launcher: LauncherConfig,
        sizes: Mapping[Task, float],
    ) -> None:
        self._plan, self._volume, self._rates, self._sizes = plan, volume, rates, sizes
        self._machine, self._launcher = machine, launcher
        self.cluster = launcher.kind != "local" or bool(machine.resources)

    def forecast(self, recipe: str, chosen: Sequence[Task], data_in: Figure) -> Forecast:
        """The forecast of these tasks; those of them that are done cost nothing more."""
        stages = [
            self._stage(stage, [task for task in stage.tasks if task in set(chosen)]) for stage in self._plan.stages
        ]
        stages = [stage for stage in stages if stage.tasks or stage.done]
        seconds = {item.task: item.seconds.value for stage in stages for item in stage.tasks}
        known = {task: value for task, value in seconds.items() if value is not None}
        spans = lay_out(list(seconds), known, self._rules()) if len(known) == len(seconds) else {}
        exports = [stage for stage in stages if stage.stage.kind.name in ("export", "release", "report")]
        text = {str(s.stage.axis): self._volume.texts[s.stage].pairs for s in stages if s.stage.kind.name == "collect"}
        return Forecast(
            recipe=recipe,
            machine=self._machine,
            cluster=self.cluster,
            stages=stages,
            spans=spans,
            assumptions=self._volume.assumptions,
            data_in=self._volume.assumptions.get("data_in") or data_in,
            data_out=total([*(each.kept for each in exports), Figure(sum(each.kept_already for each in exports), "")]),
            text=text,
        )

    def _stage(self, stage: Stage, tasks: list[Task]) -> StageForecast:
        missing = [task for task in tasks if task not in self._volume.manifests]
        found = [self._task(task) for task in missing]
        return StageForecast(
            stage,
            (parts_of(missing[0], self._volume) or []) if missing else [],
            self._request(stage),
            len(tasks) - len(missing),
            found,
            sum(self._sizes.get(task, 0.0) for task in tasks),
        )

    # --- time ----------------------------------------------------------------------------------------------------

    def _task(self, task: Task) -> TaskForecast:
        parts = parts_of(task, self._volume)
        kept = self._kept(task, parts)
        temporary = self._temporary(task)
        stages = task.stage.name, task.stage.spec.name
        if assumed := self._volume.assumptions.get(*(f"seconds.{stage}" for stage in stages)):
            return TaskForecast(task, assumed, None, kept, temporary)
        otherwise = self._volume.assumptions.get("seconds")
        if parts is None and otherwise:
            return TaskForecast(task, otherwise, None, kept, temporary)
        if parts is None:
            unknown = Figure(
                None, f"nothing is known of the kind {task.stage.kind.name}: say assume.seconds.{stages[1]}="
            )
            return TaskForecast(task, unknown, None, kept, temporary)
        place = self._place(task.stage)
        times = [self._rates.time(task, part, place) for part in parts]
        seconds = [
            time.seconds.times(1 / self._devices(task.stage, part)) for part, time in zip(parts, times, strict=True)
        ]
        if otherwise and any(not each for each in seconds):
            return TaskForecast(task, otherwise, None, kept, temporary)
        start = self._rates.start(task.stage.kind.name, place)
        cpu = [time.cpu_seconds for time in (start, *times) if time.seconds.value]
        known = None if None in cpu else sum(each for each in cpu if each is not None)
        return TaskForecast(task, total([start.seconds, *seconds]), known, kept, temporary)

    def _devices(self, stage: Stage, part: Part) -> float:
        """Devices' worth of speed that a part of a task gets: shards of lists are made apart, a training together."""
        request = self._request(stage)
        if part.resource == "decode":
            return max(1, request.gpus)
        if part.resource != "train":
            return 1
        count = max(1, request.nodes) * max(1, request.gpus)
        efficiency = self._volume.assumptions.get("efficiency")
        return count if count == 1 or efficiency is None or not efficiency.value else count * efficiency.value

    def _place(self, stage: Stage) -> Place:
        """Where its tasks run, as their manifests would say it."""
        request, machine, launcher = self._request(stage), self._machine, self._launcher
        if stage.kind.resources in machine.resources and request.nodes:
            threads = request.cores  # as its jobs are told
        else:
            exclusive = launcher.processes if stage.kind.exclusive else 1
            threads = max(1, launcher.threads // launcher.processes) * exclusive
        device = machine.device if request.gpus else "cpu"
        return Place(machine.name, device, threads, None if stage.kind.resources in USING_GPUS else machine.device)

    def _request(self, stage: Stage) -> Request:
        given: ResourcesConfig | None = self._machine.resources.get(stage.kind.resources)
        if given is not None and stage.kind.network and not self._machine.online:
            return Request(0, 0, 0, None)  # where `kd run` is typed: no job, and nothing that is charged for
        if given is not None:
            nodes = given.nodes if stage.kind.resources == "train" else 1
            return Request(nodes, given.gpus, given.cores, given.hours, given.partition)
        gpus = 1 if self._machine.device != "cpu" and stage.kind.resources in ("train", "decode") else 0
        cores = max(1, self._launcher.threads // self._launcher.processes)
        return Request(1, gpus, self._launcher.threads if stage.kind.exclusive else cores, None)

    def _rules(self) -> Rules:
        def side_by_side(stage: Stage) -> int:
            given = self._machine.resources.get(stage.kind.resources)
            return given.side_by_side if given is not None else 0

        return Rules(0 if self.cluster else self._launcher.processes, self.cluster, side_by_side)

    # --- disk ----------------------------------------------------------------------------------------------------

    def _kept(self, task: Task, parts: list[Part] | None) -> Figure:
        kind, config = task.stage.kind.name, task.stage.config
        if assumed := self._volume.assumptions.get(f"bytes.{task.stage.name}", f"bytes.{task.stage.spec.name}"):
            pairs = parts[0].amount if parts else Figure(None)
            if parts and parts[0].unit == "hypotheses":  # of which a pair has several
                pairs = self._volume.texts[task.stage].pairs.times(1 / len(task.stage.tasks))
            return pairs.times(assumed)
        if training := training_of(task):
            updates = updates_of(task.stage, self._volume.assumptions).value or 0.0
            checkpoints = checkpoints_kept(training, updates) * BYTES_A_CHECKPOINTED_WEIGHT
            told = "weights x (4 bytes + 12 a checkpoint kept)"
            return Figure(float(weights(training.model, self._volume) * (checkpoints + BYTES_A_WEIGHT)), told)
        if kind in ("average", "release"):
            role = {"average": "models", "release": "systems"}[kind]
            models = models_behind([item.task for item in task.inputs.get(role, [])])
            # A release holds one of the systems: the largest, at most.
            size = float(max((weights(model, self._volume) for model in models), default=0)) * BYTES_A_WEIGHT
            return Figure(size or None, "weights x 4 bytes")
        if isinstance(config, ExportConfig):
            models = models_behind([item.task for item in task.inputs["models"]])
            each = _FORMATS.get(str(task.identity.get("format")), 2)
            size = sum(weights(model, self._volume) for model in models) * each
            return Figure(float(size) or None, "weights x bytes of the format")
        measured = self._rates.bytes_left(kind, size_part(task, self._volume, parts)) if parts else Figure(None)
        if measured.value is None and kind in SMALL:
            return Figure(SMALL[kind], "small: an allowance")
        return measured if parts else Figure(None, f"nothing is known of the kind {kind}")

    def _temporary(self, task: Task) -> Figure:
        if training := training_of(task):
            # A new checkpoint is whole before an old one goes.
            size = weights(training.model, self._volume) * BYTES_A_CHECKPOINTED_WEIGHT
            return Figure(float(size), "one checkpoint more")
        share = TEMPORARY.get(task.stage.kind.name)
        if share is None:
            return Figure(0.0, "")
        kept = self._kept(task, parts_of(task, self._volume))
        return kept.times(Figure(share, "benchmarks/bench_memory.py"))
