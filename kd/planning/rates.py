"""How fast work went where it was measured: by a probe, or in runs whose manifests are in the store.

An observation is a part of work with the seconds that it took. Other work of the same name is scaled from the one
nearest to it, by amount x effort (operations of a model, bytes of text): the model of `volume.py`, on both sides alike.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd.corpora.index import read_json
from kd.engines.fairseq.training import METRICS, read_metrics
from kd.pipeline.model import Task
from kd.pipeline.plan import Plan
from kd.pipeline.store import Store
from kd.planning.assumptions import Assumptions
from kd.planning.figures import Figure
from kd.planning.volume import Part, Text, Volume, parts_of, size_part
from kd.stages.outputs import SPEED

START = "start "  # followed by a kind: what a task of it spends before its work begins
BYTES = "bytes "  # followed by a kind: what a task of it leaves
TRAININGS = ("train", "search")  # kinds whose tasks train a model each
_FEW = 3  # lines of metrics.jsonl at the beginning that say nothing: everything is done for the first time


@dataclass(frozen=True)
class Observation:
    """Work that was done, and what it took."""

    name: str  # of a Part, or START + kind, or BYTES + kind (seconds are bytes then)
    amount: float
    effort: float | None
    seconds: float
    cpu_seconds: float | None  # of all processes and threads; None where it was not measured
    machine: str
    device: str
    threads: int
    source: str  # in words: what was measured, when, where
    probed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """Where tasks shall run, as far as speed goes."""

    machine: str
    device: str
    threads: int
    # What is as good: work that leaves a GPU alone is written down under `cpu` by a job without one, and under the
    # machine's device by a probe and by a launcher that gives every task one.
    as_good: str | None = None


@dataclass(frozen=True)
class Time:
    """What a part of work takes on one device (or process)."""

    seconds: Figure
    cpu_seconds: float | None = None


class Rates:
    """All that was observed."""

    def __init__(self, observations: Iterable[Observation], assumptions: Assumptions) -> None:
        self._by_name: dict[str, list[Observation]] = {}
        for each in observations:
            self._by_name.setdefault(each.name, []).append(each)
        self._assumptions = assumptions

    def time(self, task: Task, part: Part, place: Place) -> Time:
        """What a part of a task takes: by assumption, else by the observation that is nearest to it."""
        if part.amount.value is None:
            return Time(Figure(None, part.amount.source))
        if assumed := self._assumed(task, part):
            return Time(assumed)
        found = self._nearest(part.name, part.effort, place)
        if found is None:
            return Time(Figure(None, f"{part.name} was not measured on {place.machine}"))
        factor = _factor(part, found)
        cpu = None if found.cpu_seconds is None else found.cpu_seconds * factor
        return Time(Figure(found.seconds * factor, _told(part, found)), cpu)

    def start(self, kind: str, place: Place) -> Time:
        """What passes before a task's work begins; 0 where nobody measured it."""
        found = self._nearest(START + kind, None, place)
        return Time(Figure(0.0, "")) if found is None else Time(Figure(found.seconds, ""), found.cpu_seconds)

    def bytes_left(self, kind: str, part: Part) -> Figure:
        """What a task whose work is this part leaves on disk; where it was measured does not matter."""
        if part.amount.value is None:
            return part.amount
        found = self._nearest(BYTES + kind, part.effort, None)
        if found is None:
            return Figure(None, f"the size of what {kind} leaves was not measured")
        return Figure(found.seconds * _factor(part, found), found.source)

    def _assumed(self, task: Task, part: Part) -> Figure | None:
        assert part.amount.value is not None
        stages = task.stage.name, task.stage.spec.name
        unit = {"target tokens": "tokens_per_second", "sentences": "sentences_per_second"}.get(
            part.unit, "pairs_per_second"
        )
        rate = self._assumptions.get(*(f"{unit}.{stage}" for stage in stages))
        if rate is not None and part.name != "validate":
            return Figure(part.amount.value / rate.value if rate.value else None, rate.source)
        model = part.effort is not None and (part.resource or part.name.startswith(("validate", "translate")))
        speed = self._assumptions.get(f"tflops.{'train' if part.name == 'train' else 'decode'}") if model else None
        if speed is None or not speed.value or part.effort is None:
            return None
        return Figure(part.amount.value * part.effort / (speed.value * 1e12), speed.source)

    def _nearest(self, name: str, effort: float | None, place: Place | None) -> Observation | None:
        found = [each for each in self._by_name.get(name, []) if place is None or _same(each, place)]
        if place is not None and place.device == "cpu":  # results depend on the number, and so does speed
            found = [each for each in found if each.threads == place.threads] or found

        def distance(each: Observation) -> tuple[float, float]:
            far = 0.0 if not (effort and each.effort) else abs(math.log(each.effort / effort))
            # Of those equally near (within a tenth), the longest says most.
            return round(far, 1), -each.seconds

        return min(found, key=distance, default=None)


def _same(each: Observation, place: Place) -> bool:
    return each.machine == place.machine and each.device in (place.device, place.as_good)


def _factor(part: Part, found: Observation) -> float:
    assert part.amount.value is not None
    effort = part.effort / found.effort if part.effort and found.effort else 1.0
    return part.amount.value / found.amount * effort


def _told(part: Part, found: Observation) -> str:
    if part.effort and found.effort and not 0.8 < part.effort / found.effort < 1.25:
        return f"{found.source}, scaled by {part.effort / found.effort:.2g} in the cost of one of the {part.unit}"
    return found.source


# --- what runs have left ---------------------------------------------------------------------------------------------


def manifests(plan: Plan, store: Store) -> dict[Task, Mapping[str, Any]]:
    """The manifests of what is done."""
    return {task: store.paths(task).manifest() for task in plan.tasks() if store.paths(task).is_published()}


def lengths(plan: Plan, found: Mapping[Task, Mapping[str, Any]]) -> Text:
    """Mean lengths of the sentences in pieces, from the data folders that are done."""
    counts = [each["counts"] for task, each in found.items() if task.stage.kind.name == "encode"]
    pairs = sum(each["pairs out"] for each in counts)
    if not pairs:
        return Text()
    source, target = (sum(each[f"{side} pieces"] for each in counts) / pairs - 1 for side in ("source", "target"))
    told = "counted in what is done"
    return Text(source_pieces=Figure(source, told), target_pieces=Figure(target, told))


def observe(plan: Plan, store: Store, volume: Volume, label: str) -> Iterator[Observation]:
    """What the finished tasks of a plan took, by their manifests. `volume` has followed all of its stages."""
    for task, manifest in volume.manifests.items():
        parts = parts_of(task, volume)
        if not parts or parts[0].amount.value in (None, 0):
            continue
        where: dict[str, Any] = {
            "machine": str(manifest.get("machine")),
            "device": str(manifest["device"]),
            "threads": int(manifest["threads"]),
            "source": f"{label} ({task.full_name}, {str(manifest['finished'])[:10]})",
        }
        kind = task.stage.kind.name
        if kind in TRAININGS:
            yield from of_training(store.paths(task).final, parts, manifest, where)
            continue
        if kind == "speed":
            yield from of_speed(store.paths(task).final, parts, where)
        amount, effort = float(parts[0].amount.value or 0), parts[0].effort
        left = float(manifest["bytes"])
        yield Observation(BYTES + kind, amount, size_part(task, volume, parts).effort, left, None, **where)
        if len(parts) == 1:
            cpu = manifest.get("cpu_seconds")
            seconds = max(1e-3, float(manifest["seconds"])) * _devices(manifest)
            yield Observation(parts[0].name, amount, effort, seconds, cpu, **where)


def _devices(manifest: Mapping[str, Any]) -> int:
    """Devices, or processes on the CPU, that shared the work."""
    return max(1, int(manifest["facts"].get("devices") or 1))


def of_training(
    folder: Path, parts: Sequence[Part], manifest: Mapping[str, Any], where: Mapping[str, Any]
) -> Iterator[Observation]:
    """Updates and validations told apart by `metrics.jsonl`; its seconds run on over both."""
    efforts = {part.name: part for part in parts}
    tokens_an_update = float(manifest["counts"]["target tokens an update"])
    entries = list(read_metrics(folder / METRICS))
    updates = validations = 0
    trained = validated = 0.0
    for number, (before, now) in enumerate(itertools.pairwise(entries)):
        spent = float(now["seconds"]) - float(before["seconds"])
        if now["split"] == "dev":
            validations += 1
            validated += spent
        elif before["split"] == "train" and number >= min(_FEW, len(entries) // 2):
            updates += int(now["update"]) - int(before["update"])
            trained += spent
    if updates and trained > 0:
        amount, spent = updates * tokens_an_update, trained * _devices(manifest)
        yield Observation("train", amount, efforts["train"].effort, spent, None, **where)
    if validations and "validate" in efforts:
        part = efforts["validate"]
        settings = manifest["settings"].get("training", manifest["settings"])  # of a search, or of a training
        made = max(1, int(manifest["counts"]["updates"]) // int(settings["checkpoint"]["every"]))
        amount = float(part.amount.value or 0) / made * validations
        if amount:
            yield Observation("validate", amount, part.effort, validated, None, **where)


def of_speed(folder: Path, parts: Sequence[Part], where: Mapping[str, Any]) -> Iterator[Observation]:
    """What the rounds of each system took, by its own record."""
    systems = read_json(folder / SPEED)["systems"].values()
    for part, system in zip(parts, systems, strict=False):
        rounds, rate = sum(system["seconds"]), float(system["sentences_per_second"])
        sentences = len(system["seconds"]) * rate * statistics.median(system["seconds"])
        yield Observation(part.name, sentences, part.effort, rounds, None, **where)
