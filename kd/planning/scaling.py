"""Measure how a training scales, by short trainings on 1, 2, 4 … devices with the launcher of real runs.

Speed-up is the ratio of tokens per second to those of the smallest number of devices; parallel efficiency is speed-up
divided by the ratio of devices. Strong scaling keeps the target tokens per update, weak scaling those per device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from kd.base.errors import UserError
from kd.base.files import write_json
from kd.models.training_log import METRICS, read_metrics
from kd.pipeline.model import Task
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.recipe.schema import TrainConfig
from kd.report.table import Table
from kd.run import commands
from kd.stages import load_kind

SEED = 880_000  # of the trainings here, so that they share no artifact with those of a run
_LEARNING_RATE = "1e-5"  # low, so that no training diverges
_FEWEST_UPDATES = 8


@dataclass(frozen=True)
class ScalingRun:
    """The trainings to measure.

    Attributes:
        unit: `devices` (of one node) or `nodes`.
        stage: Name of a training stage of the chain.
    """

    unit: str
    numbers: tuple[int, ...]
    stage: str = "teacher"
    updates: int = 40
    weak: bool = False


@dataclass(frozen=True)
class Point:
    """One training."""

    number: int
    tokens_per_second: float  # target tokens, over all devices, of the second half of the updates
    target_tokens: float  # of an update, measured
    speedup: float = 1.0
    efficiency: float = 1.0


def parse_scaling(overrides: Sequence[str]) -> tuple[ScalingRun, list[str]]:
    """Separate `nodes=`, `devices=`, `stage=` and `updates=` from overrides of the recipe.

    Raises:
        UserError: A number is not valid, or neither nodes nor devices are given, or both.
    """
    options = ("nodes", "devices", "stage", "updates")
    given = dict(text.split("=", 1) for text in overrides if text.partition("=")[0] in options and "=" in text)
    rest = [text for text in overrides if text.partition("=")[0] not in given]
    if ("nodes" in given) == ("devices" in given):
        raise UserError(
            "The numbers of devices or nodes are missing.", "Add devices=1,2,4 (on one node) or nodes=1,2,4."
        )
    unit = "nodes" if "nodes" in given else "devices"
    numbers = sorted({_count(unit, part) for part in given[unit].strip("[]").split(",")})
    updates = _count("updates", given.get("updates", str(ScalingRun.updates)))
    if updates < _FEWEST_UPDATES:
        raise UserError(f"updates={updates} is too few to measure.", f"Use {_FEWEST_UPDATES} or more.")
    return ScalingRun(unit, tuple(numbers), given.get("stage", ScalingRun.stage), updates), rest


def _count(key: str, text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        example = "40" if key == "updates" else "1,2,4"
        raise UserError(f"{key}={text} is not a number of 1 or more.", f"Type a number, such as {key}={example}.")
    return int(text)


def measure(scaling: ScalingRun, request: Request) -> tuple[list[Point], list[int], Path]:
    """Run the missing trainings.

    Returns:
        The points, the numbers of devices whose trainings are still queued, and the folder of the results.

    Raises:
        UserError: A training failed, or did not use all of its devices.
    """
    config = compose.compose(request)
    key = _settings(config, scaling.stage)
    folder = Path(f"{config.run.dir}.scaling")
    requests = {number: _short(scaling, config, request, key, number, folder) for number in scaling.numbers}
    points, queued = [], []
    for number, each in requests.items():
        if status := commands.run(each):
            raise UserError(
                f"The training on {number} {scaling.unit} ended with status {status}.", f"Its logs are in {folder}."
            )
        store, task = _task(each, scaling.stage)
        if store.paths(task).is_published():
            points.append(_point(store, task, number, scaling.unit))
        else:
            queued.append(number)
    points = compared(points)
    if points:
        write_json(folder / "scaling.json", {**asdict(scaling), "points": [asdict(point) for point in points]})
    return points, queued, folder


def compared(points: Sequence[Point]) -> list[Point]:
    """Return the points with speed-up and efficiency, relative to the smallest number."""
    if not points:
        return []
    first = min(points, key=lambda point: point.number)
    return [
        replace(point, speedup=ratio, efficiency=ratio * first.number / point.number)
        for point in points
        for ratio in [point.tokens_per_second / first.tokens_per_second]
    ]


def _settings(config: DictConfig, stage: str) -> str:
    """Return the key that holds the settings of a training."""
    chain = {str(name): config.chain[name] for name in config.chain}
    trainings = [name for name, each in chain.items() if load_kind(each.kind).config is TrainConfig and each.enabled]
    if stage not in trainings:
        raise UserError(f"There is no training called {stage}.", f"There are: {', '.join(trainings) or 'none'}.")
    key = compose.settings_key(config, stage)
    if OmegaConf.select(config, f"{key}.from_search"):
        raise UserError(
            f"{stage} gets its shape from a search, which would have to run first.",
            f"Add {key}.from_search=false chain=distillation and a shape, such as student=deep_shallow_12_1.",
        )
    return key


def _short(scaling: ScalingRun, config: DictConfig, request: Request, key: str, number: int, folder: Path) -> Request:
    """Return the request for one short training."""
    updates = scaling.updates
    batch = int(OmegaConf.select(config, f"{key}.batch.target_tokens"))
    name = f"{scaling.unit}-{number}{'-weak' if scaling.weak else ''}"
    settings = {
        f"{key}.members": 1,
        f"{key}.seed": SEED + number,
        f"{key}.max_update": updates,
        f"{key}.validate_bleu": "false",
        f"{key}.log_every": max(1, updates // 4),
        f"{key}.batch.target_tokens": batch * number if scaling.weak else batch,
        f"{key}.optimizer.learning_rate": _LEARNING_RATE,
        f"{key}.optimizer.warmup_updates": 1,
        f"{key}.stop": "{patience: 0, target_tokens: 0, hours: 0.0}",
        "checkpoint.every": updates,
        "checkpoint.keep": 1,
        "checkpoint.keep_best": 0,
        "checkpoint.average": 1,
        "checkpoint.average_of": "last",
        "run.dir": compose.quoted(str(folder / name)),
    }
    overrides = [f"{name}={value}" for name, value in settings.items()]
    devices = _devices(config, number, scaling.unit)
    return replace(request, overrides=(*request.overrides, devices, *overrides), upto=scaling.stage)


def _devices(config: DictConfig, number: int, unit: str) -> str:
    """Return the override that gives a training this many devices or nodes."""
    name = "nodes" if unit == "nodes" else "processes" if config.machine.device == "cpu" else "gpus"
    if unit == "nodes" and config.launcher.kind == "local":
        raise UserError("Several nodes need a scheduler.", "Add launcher=slurm machine=NAME, or use devices=1,2.")
    if "train" in config.machine.resources:
        return f"machine.resources.train.{name}={number}"
    cores = max(1, config.launcher.threads // config.launcher.processes)
    return f"+machine.resources={{train: {{{name}: {number}, cores: {cores}, hours: 1}}}}"


def _task(request: Request, stage: str) -> tuple[Store, Task]:
    config = compose.compose(request)
    return Store(Path(config.store.dir)), compose.plan(config).find(stage)[0].tasks[0]


def _point(store: Store, task: Task, number: int, unit: str) -> Point:
    manifest, folder = store.paths(task).manifest(), store.paths(task).final
    entries = [entry for entry in read_metrics(folder / METRICS) if entry["split"] == "train"]
    batch = str(manifest["facts"].get("batch", ""))
    if unit == "devices" and number > 1 and f"{number} devices" not in batch:
        raise UserError(f"The training did not use {number} devices: {batch}", f"Its log is in {folder}.")
    first, last = entries[min(1, len(entries) - 2)], entries[-1]
    seconds = float(last["seconds"]) - float(first["seconds"])
    tokens = float(manifest["counts"]["target tokens per update"])
    return Point(number, (int(last["update"]) - int(first["update"])) * tokens / seconds, tokens)


# --- showing ---------------------------------------------------------------------------------------------------------


def show(scaling: ScalingRun, points: Sequence[Point], console: Console) -> None:
    """Print the table of throughput and efficiency by number of devices or nodes."""
    kind = "weak scaling: the same target tokens per device" if scaling.weak else "strong scaling: the same update"
    title = f"{scaling.stage}, {scaling.updates} updates; {kind}"
    headings = (scaling.unit, "target tokens per update", "tokens/s", "speed-up", "efficiency")
    rows = [
        (
            str(each.number),
            f"{each.target_tokens:,.0f}",
            f"{each.tokens_per_second:,.0f}",
            f"{each.speedup:.2f}",
            f"{each.efficiency:.0%}",
        )
        for each in points
    ]
    console.print(Table.of_rows(headings, rows, title=title, text=("",)).terminal())


def plot(scaling: ScalingRun, points: Sequence[Point], folder: Path) -> None:
    """Write the plot of speed-up and efficiency, as `scaling.svg`, `.png` and `.vl.json`."""
    from kd.report.figures.drawing import pictures

    pictures("scaling", _chart(scaling, points)).write(folder)


def _chart(scaling: ScalingRun, points: Sequence[Point]) -> dict[str, Any]:
    from kd.report.figures.theme import chart, counts

    unit, fewest = scaling.unit, points[0].number
    kind = (
        "same target tokens per device" if scaling.weak else f"{points[0].target_tokens:,.0f} target tokens per update"
    )
    description = f"{scaling.stage}: {kind}; dashed: ideal"
    speedup, efficiency = f"speed-up over {fewest}", "parallel efficiency"
    rows = [
        {unit: each.number, speedup: each.speedup, efficiency: each.efficiency, "ideal": each.number / fewest}
        for each in points
    ]
    x = {"field": unit, "type": "quantitative", "axis": counts(unit, values=[row[unit] for row in rows])}
    dashed = {"type": "line", "strokeDash": [4, 3], "color": "#7c8a9a"}
    parts = []
    for measured, ideal in ((speedup, {"field": "ideal", "type": "quantitative"}), (efficiency, {"datum": 1})):
        y = {"type": "quantitative", "title": measured, "scale": {"zero": True}}
        line = {"mark": {"type": "line", "point": True}, "encoding": {"x": x, "y": {**y, "field": measured}}}
        parts.append(chart(measured, [{"mark": dashed, "encoding": {"x": x, "y": {**y, **ideal}}}, line]))
    shared = {name: parts[0][name] for name in ("background", "config")}
    views = [{key: value for key, value in part.items() if key not in shared} for part in parts]
    return {"description": description, "title": description, "data": {"values": rows}, "hconcat": views, **shared}
