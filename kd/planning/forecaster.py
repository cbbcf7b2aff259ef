"""Forecast a run: each task's work, at measured or assumed rates, on the hardware of its job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kd.base.estimate import Estimate, total
from kd.launch.order import Rules
from kd.models.known import Known
from kd.pipeline.forecast import Asked, Sharing, TaskWork, Work
from kd.pipeline.model import Stage, Task
from kd.pipeline.plan import Plan
from kd.planning.assumptions import Assumptions
from kd.planning.forecast import Forecast, Request, StageForecast, TaskForecast, sum_known
from kd.planning.rates import Hardware, Rates
from kd.planning.schedule import lay_out
from kd.recipe.schema import CorpusConfig, LauncherConfig, MachineConfig, ResourcesConfig
from kd.stages.source_only import collects_source_only


class Forecaster:
    """Combine work and rates."""

    def __init__(
        self,
        plan: Plan,
        known: Known,
        rates: Rates,
        assumptions: Assumptions,
        machine: MachineConfig,
        launcher: LauncherConfig,
    ) -> None:
        self._plan, self._known, self._rates, self._assumptions = plan, known, rates, assumptions
        self._machine, self._launcher = machine, launcher
        self._cluster = launcher.kind != "local" or bool(machine.resources)

    def forecast(self, recipe: str, chosen: Sequence[Task], sizes: Mapping[Task, float], data_in: Estimate) -> Forecast:
        """Forecast these tasks. sizes: bytes of finished tasks, which cost nothing more."""
        wanted = set(chosen)
        stages = [
            self._stage(stage, [task for task in stage.tasks if task in wanted], sizes) for stage in self._plan.stages
        ]
        stages = [stage for stage in stages if stage.tasks or stage.done]
        seconds = {item.task: item.seconds.value for stage in stages for item in stage.tasks}
        known = {task: value for task, value in seconds.items() if value is not None}
        collected = [
            each.stage
            for each in stages
            if isinstance(each.stage.config, CorpusConfig) and not collects_source_only(each.stage.kind)
        ]
        return Forecast(
            recipe=recipe,
            machine=self._machine,
            cluster=self._cluster,
            stages=stages,
            spans=lay_out(list(seconds), known, self._rules()) if len(known) == len(seconds) else {},
            assumptions=self._assumptions,
            data_in=self._assumptions.get("data_in") or data_in,
            text={str(stage.axis): self._known.texts[stage].pairs for stage in collected},
        )

    def _stage(self, stage: Stage, tasks: list[Task], sizes: Mapping[Task, float]) -> StageForecast:
        missing = [task for task in tasks if task not in self._known.done]
        work = self._known.work(missing[0]) if missing else None
        return StageForecast(
            stage,
            work.work if work else (),
            self._request(stage),
            len(tasks) - len(missing),
            [self._task(task) for task in missing],
            sum(sizes.get(task, 0.0) for task in tasks),
            self._asked(stage, len(missing)),
        )

    def _asked(self, stage: Stage, missing: int) -> Asked | None:
        """Return tokens and price of a stage's unfinished tasks; None without such tasks, or without a server."""
        forecast = self._known.forecasts[stage]
        if forecast is None or forecast.asked is None or not missing:
            return None
        whole, share = forecast.asked, missing / len(stage.tasks)
        return Asked(whole.prompt.times(share), whole.completion.times(share), whole.price.times(share), whole.currency)

    def _task(self, task: Task) -> TaskForecast:
        work = self._known.work(task)
        seconds, cpu_seconds = self._time(task, work)
        kept = self._kept(task, work)
        temporary = Estimate(0.0, "") if work is None else work.temporary
        if work is not None and work.temporary_share:
            temporary = kept.times(Estimate(work.temporary_share, "benchmarks/bench_memory.py"))
        return TaskForecast(task, seconds, cpu_seconds, kept, temporary)

    # --- time --------------------------------------------------------------------------------------------------------

    def _time(self, task: Task, work: TaskWork | None) -> tuple[Estimate, float | None]:
        """Return the seconds and CPU seconds of a task."""
        otherwise = self._assumptions.get("seconds")
        if assumed := self._known.assumed_of("seconds", task.stage):
            return assumed, None
        if work is None:
            hint = f"set assume.seconds.{task.stage.spec.name}=NUMBER"
            return otherwise or Estimate(None, f"the kind {task.stage.kind.name} has no forecast: {hint}"), None
        hardware = self._hardware(task.stage)
        times = [self._rates.time(task, part, hardware) for part in work.work]
        seconds = [
            time.seconds.times(1 / self._devices(task.stage, part)) for part, time in zip(work.work, times, strict=True)
        ]
        if otherwise and not all(seconds):
            return otherwise, None
        start = self._rates.start(task.stage.kind.name, hardware)
        cpu = sum_known(time.cpu_seconds for time in (start, *times) if time.seconds.value)
        return total([start.seconds, *seconds]), cpu

    def _devices(self, stage: Stage, part: Work) -> float:
        """Return the effective number of devices that share a part of a task: their number times their efficiency."""
        request = self._request(stage)
        if part.sharing is Sharing.one:
            return 1
        if part.sharing is Sharing.gpus:
            return max(1, request.gpus)
        count = max(1, request.nodes) * max(1, request.gpus)
        efficiency = self._assumptions.get("efficiency")
        return count if count == 1 or efficiency is None or not efficiency.value else count * efficiency.value

    def _hardware(self, stage: Stage) -> Hardware:
        """Return the hardware of a stage's tasks in the form of their manifests."""
        request, machine, launcher = self._request(stage), self._machine, self._launcher
        if stage.kind.resources in machine.resources and request.nodes:
            threads = request.cores
        else:
            exclusive = launcher.processes if stage.kind.exclusive else 1
            threads = max(1, launcher.threads // launcher.processes) * exclusive
        device = machine.device if request.gpus else "cpu"
        return Hardware(machine.name, device, threads, None if stage.kind.uses_gpus else machine.device)

    def _request(self, stage: Stage) -> Request:
        given: ResourcesConfig | None = self._machine.resources.get(stage.kind.resources)
        if given is not None and stage.kind.network and not self._machine.reaches_internet(stage.kind.resources):
            return Request(0, 0, 0, None)  # it runs where `kd run` is typed, without a job and without charge
        if given is not None:
            return Request(given.nodes, given.gpus, given.cores, given.hours, given.partition)
        gpus = 1 if self._machine.device != "cpu" and stage.kind.uses_gpus else 0
        cores = max(1, self._launcher.threads // self._launcher.processes)
        return Request(1, gpus, self._launcher.threads if stage.kind.exclusive else cores, None)

    def _rules(self) -> Rules:
        def side_by_side(stage: Stage) -> int:
            given = self._machine.resources.get(stage.kind.resources)
            return given.side_by_side if given is not None else 0

        if self._cluster:
            return Rules(by_stage=True, side_by_side=side_by_side)
        return Rules(slots=self._launcher.processes)

    # --- disk --------------------------------------------------------------------------------------------------------

    def _kept(self, task: Task, work: TaskWork | None) -> Estimate:
        """Return the bytes of a task's output: assumed, forecast by its kind, or measured."""
        if work is None:
            return Estimate(None, f"the kind {task.stage.kind.name} has no forecast")
        if assumed := self._known.assumed_of("bytes", task.stage):
            return (work.pairs or work.work[0].amount).times(assumed)
        if work.kept is not None:
            return work.kept
        measured = self._rates.bytes_left(task.stage.kind.name, work.size_work)
        if measured.value is None and work.allowance is not None:
            return Estimate(work.allowance, "small: an allowance")
        return measured
