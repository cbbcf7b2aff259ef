"""Measured rates of work: from a probe, or from runs whose manifests are in the store.

An observation is a part of work with its duration. Other work of the same name is scaled from the observation with the
nearest cost, by amount x cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kd.base.estimate import NOTHING, Estimate
from kd.models.known import VALIDATED, Known, Text
from kd.pipeline.forecast import Spent, TaskWork, Work
from kd.pipeline.model import Task
from kd.pipeline.plan import Plan
from kd.pipeline.store import Store
from kd.planning.assumptions import Assumptions

START = "start "  # followed by a kind: the time of a task before its work begins
BYTES = "bytes "  # followed by a kind: the bytes of a task's output
# Unit of work -> the assumption that has its rate; pairs_per_second for all others.
_RATES = {"target tokens": "tokens_per_second", "sentences": "sentences_per_second", VALIDATED: ""}


@dataclass(frozen=True)
class Observation:
    """Finished work, and the time it took."""

    name: str  # of a `Work`, or START + kind, or BYTES + kind (seconds are bytes then)
    amount: float
    cost: float | None
    seconds: float
    cpu_seconds: float | None  # of all processes and threads; None where it was not measured
    machine: str
    device: str
    threads: int
    source: str  # in words: the measurement, its date and place
    probed: bool = False

    @staticmethod
    def of_work(spent: Spent, where: Mapping[str, Any]) -> Observation:
        """Return an observation from the time that a task spent on a part of its work.

        Args:
            spent: The part and its time.
            where: The hardware and the source, as keyword arguments.
        """
        return Observation(spent.work.name, spent.amount, spent.work.cost, spent.seconds, spent.cpu_seconds, **where)


@dataclass(frozen=True)
class Hardware:
    """The hardware that determines the speed of a task."""

    machine: str
    device: str
    threads: int
    # A device with the same speed: work that does not use a GPU is recorded under `cpu` by a job without one, and under
    # the machine's device by a probe and by a launcher that gives each task a GPU.
    equivalent: str | None = None


@dataclass(frozen=True)
class Time:
    """The time of a part of work on one device or process."""

    seconds: Estimate
    cpu_seconds: float | None = None


class Rates:
    """All observations, and the rates that the user assumes instead."""

    def __init__(self, observations: Iterable[Observation], assumptions: Assumptions) -> None:
        self._by_name: dict[str, list[Observation]] = {}
        for each in observations:
            self._by_name.setdefault(each.name, []).append(each)
        self._assumptions = assumptions

    def time(self, task: Task, work: Work, hardware: Hardware) -> Time:
        """Return the time of a part of a task: assumed, else scaled from the nearest observation."""
        if work.amount.value is None:
            return Time(Estimate(None, work.amount.source))
        if assumed := self._assumed(task, work):
            return Time(assumed)
        found = self._nearest(work.name, work.cost, hardware)
        if found is None:
            return Time(Estimate(None, f"{work.name} was not measured on {hardware.machine}"))
        factor = _factor(work, found)
        cpu = None if found.cpu_seconds is None else found.cpu_seconds * factor
        return Time(Estimate(found.seconds * factor, _source(work, found)), cpu)

    def start(self, kind: str, hardware: Hardware) -> Time:
        """Return the time before a task's work begins; 0 if it was not measured."""
        found = self._nearest(START + kind, None, hardware)
        return Time(NOTHING) if found is None else Time(Estimate(found.seconds, ""), found.cpu_seconds)

    def bytes_left(self, kind: str, work: Work) -> Estimate:
        """Return the output bytes of a task with this work, as measured on any machine."""
        if work.amount.value is None:
            return work.amount
        found = self._nearest(BYTES + kind, work.cost, None)
        if found is None:
            return Estimate(None, f"the size of the output of {kind} was not measured")
        return Estimate(found.seconds * _factor(work, found), found.source)

    def _assumed(self, task: Task, work: Work) -> Estimate | None:
        assert work.amount.value is not None
        unit = _RATES.get(work.unit, "pairs_per_second")
        rate = self._assumptions.get(f"{unit}.{task.stage.name}", f"{unit}.{task.stage.spec.name}")
        if rate is not None:
            return Estimate(work.amount.value / rate.value if rate.value else None, rate.source)
        speed = self._assumptions.get(f"tflops.{work.flops}") if work.flops and work.cost is not None else None
        if speed is None or not speed.value or work.cost is None:
            return None
        return Estimate(work.amount.value * work.cost / (speed.value * 1e12), speed.source)

    def _nearest(self, name: str, cost: float | None, hardware: Hardware | None) -> Observation | None:
        found = [each for each in self._by_name.get(name, []) if hardware is None or _same(each, hardware)]
        if hardware is not None and hardware.device == "cpu":  # the number of threads changes speed and results
            found = [each for each in found if each.threads == hardware.threads] or found

        def distance(each: Observation) -> tuple[float, float]:
            far = 0.0 if not (cost and each.cost) else abs(math.log(each.cost / cost))
            # Of those equally near (within a tenth), prefer the longest.
            return round(far, 1), -each.seconds

        return min(found, key=distance, default=None)


def _same(each: Observation, hardware: Hardware) -> bool:
    return each.machine == hardware.machine and each.device in (hardware.device, hardware.equivalent)


def _factor(work: Work, found: Observation) -> float:
    assert work.amount.value is not None
    cost = work.cost / found.cost if work.cost and found.cost else 1.0
    return work.amount.value / found.amount * cost


def _source(work: Work, found: Observation) -> str:
    if work.cost and found.cost and not 0.8 < work.cost / found.cost < 1.25:
        return f"{found.source}, scaled by {work.cost / found.cost:.2g} in the cost of one of the {work.unit}"
    return found.source


# --- finished tasks --------------------------------------------------------------------------------------------------


def manifests(plan: Plan, store: Store) -> dict[Task, Mapping[str, Any]]:
    """Return the manifests of the finished tasks."""
    return {task: store.paths(task).manifest() for task in plan.tasks() if store.paths(task).is_published()}


def lengths(found: Mapping[Task, Mapping[str, Any]]) -> Text:
    """Return the mean lengths of sentences, as counted in the finished data folders."""
    counts = [each["counts"] for each in found.values() if "source pieces" in each["counts"]]
    pairs = sum(each["pairs out"] for each in counts)
    if not pairs:
        return Text()
    # The counts include the ends of sentences.
    source, target = (sum(each[f"{side} pieces"] for each in counts) / pairs - 1 for side in ("source", "target"))
    label = "counted in finished tasks"
    return Text(source_tokens=Estimate(source, label), target_tokens=Estimate(target, label))


def observe(store: Store, known: Known, label: str) -> Iterator[Observation]:
    """Yield the observations of the finished tasks of a plan. `known` has the forecasts of all stages."""
    for task, manifest in known.done.items():
        work = known.work(task)
        if work is None or not work.has_amount:
            continue
        where = {
            "machine": str(manifest.get("machine")),
            "device": str(manifest["device"]),
            "threads": int(manifest["threads"]),
            "source": f"{label} ({task.full_name}, {str(manifest['finished'])[:10]})",
        }
        yield from (Observation.of_work(each, where) for each in _spent(store, task, manifest, work))
        if not work.kept:
            yield bytes_observation(task, work, float(manifest["bytes"]), where)


def bytes_observation(task: Task, work: TaskWork, left: float, where: Mapping[str, Any]) -> Observation:
    """Return the observation of a task's output bytes."""
    amount = float(work.work[0].amount.value or 0)
    return Observation(BYTES + task.stage.kind.name, amount, work.size_work.cost, left, None, **where)


def _spent(store: Store, task: Task, manifest: Mapping[str, Any], work: TaskWork) -> Iterator[Spent]:
    return task.stage.kind.spent(store.paths(task).final, manifest, work)
