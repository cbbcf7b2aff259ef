"""How well a training uses more devices: short trainings on 1, 2, 4 … of them, by the launcher that runs use.

Speed-up is tokens a second over those of one; parallel efficiency is that divided by their number. Strong scaling keeps
the target tokens an update, as a recipe does; weak scaling keeps those of each device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from kd.base.errors import UserError
from kd.base.files import write_json
from kd.engines.fairseq.training import METRICS, read_metrics
from kd.pipeline.model import Task
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.run import commands

SEED = 880_000  # of the trainings here: they share no artifact with those of a run
_LEARNING_RATE = "1e-5"  # nothing is learnt, and nothing breaks down


@dataclass(frozen=True)
class Question:
    """What is to be measured."""

    unit: str  # devices (of one node) | nodes
    numbers: tuple[int, ...]
    stage: str = "teacher"  # of the chain: one of kind train
    updates: int = 40
    weak: bool = False


@dataclass(frozen=True)
class Point:
    """One training."""

    number: int
    tokens_per_second: float  # target tokens, over all devices, of the second half of the updates
    target_tokens: float  # an update, measured
    speedup: float = 1.0
    efficiency: float = 1.0


def take(overrides: Sequence[str]) -> tuple[Question, list[str]]:
    """Tells `nodes=`, `devices=`, `stage=` and `updates=` from overrides of the recipe; raises UserError."""
    given: dict[str, str] = {}
    rest = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key in ("nodes", "devices", "stage", "updates"):
            given[key] = value
        else:
            rest.append(text)
    if ("nodes" in given) == ("devices" in given):
        raise UserError("Say what there shall be more of.", "devices=1,2,4 on one node, or nodes=1,2,4.")
    unit = "nodes" if "nodes" in given else "devices"
    numbers = sorted({_count(unit, part) for part in given[unit].strip("[]").split(",")})
    updates = _count("updates", given.get("updates", str(Question.updates)))
    if updates < 8:
        raise UserError(f"updates={updates} are too few to measure.", "Take 8 or more.")
    return Question(unit, tuple(numbers), given.get("stage", Question.stage), updates), rest


def _count(key: str, text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise UserError(
            f"{key}={text} is no number.", f"Say for instance {key}={'40' if key == 'updates' else '1,2,4'}."
        )
    return int(text)


def measure(question: Question, request: Request) -> tuple[list[Point], list[int], Path]:
    """Runs what is missing of the trainings; returns the points, the numbers that are still queued, and the folder.

    Raises UserError where a training failed, or used other devices than it was told to.
    """
    config = compose.compose(request)
    key = _settings(config, question.stage)
    folder = Path(f"{config.run.dir}.scaling")
    points, queued = [], []
    requests = [
        replace(request, **_short(question, config, request.overrides, key, number, folder))
        for number in question.numbers
    ]
    for number, each in zip(question.numbers, requests, strict=True):
        if status := commands.run(each):
            raise UserError(
                f"The training on {number} {question.unit} ended with status {status}.", f"Its logs are in {folder}."
            )
        store, task = _task(each, question.stage)
        if store.paths(task).is_published():
            points.append(_point(store, task, number, question.unit))
        else:
            queued.append(number)
    points = compared(points)
    if points:
        write_json(folder / "scaling.json", {**asdict(question), "points": [asdict(point) for point in points]})
    return points, queued, folder


def compared(points: Sequence[Point]) -> list[Point]:
    """The points with speed-up and efficiency, over the smallest number."""
    if not points:
        return []
    first = min(points, key=lambda point: point.number)
    return [
        replace(point, speedup=ratio, efficiency=ratio * first.number / point.number)
        for point in points
        for ratio in [point.tokens_per_second / first.tokens_per_second]
    ]


def _settings(config: DictConfig, stage: str) -> str:
    """The key that holds the settings of a training."""
    trainings = [
        str(name) for name in config.chain if config.chain[name].kind == "train" and config.chain[name].enabled
    ]
    if stage not in trainings:
        raise UserError(f"There is no training called {stage}.", f"There are: {', '.join(trainings) or 'none'}.")
    key = compose.settings_key(config, stage)
    if OmegaConf.select(config, f"{key}.from_search"):
        raise UserError(
            f"{stage} gets its shape from a search, which would have to run before.",
            f"Add {key}.from_search=false chain=distillation and a shape, such as student=deep_shallow_12_1.",
        )
    return key


def _short(
    question: Question, config: DictConfig, given: Sequence[str], key: str, number: int, folder: Path
) -> dict[str, Any]:
    """The request for one training."""
    updates = question.updates
    batch = int(OmegaConf.select(config, f"{key}.batch.target_tokens"))
    quarter = max(1, updates // 4)
    name = f"{question.unit}-{number}{'-weak' if question.weak else ''}"
    settings = {
        f"{key}.members": 1,
        f"{key}.seed": SEED + number,
        f"{key}.max_update": updates,
        f"{key}.validate_bleu": "false",
        f"{key}.log_every": quarter,
        f"{key}.batch.target_tokens": batch * number if question.weak else batch,
        f"{key}.optimizer.learning_rate": _LEARNING_RATE,
        f"{key}.optimizer.warmup_updates": 1,
        f"{key}.stop": "{patience: 0, target_tokens: 0, hours: 0.0}",
        "checkpoint.every": updates,
        "checkpoint.keep": 1,
        "checkpoint.keep_best": 0,
        "checkpoint.average": 1,
        "checkpoint.average_of": "last",
        "run.dir": f"'{compose.quote(folder / name)}'",
    }
    overrides = [f"{name}={value}" for name, value in settings.items()]
    return {"overrides": (*given, *_where(config, number, question.unit), *overrides), "upto": question.stage}


def _where(config: DictConfig, number: int, unit: str) -> list[str]:
    """What says how many devices or nodes a training gets."""
    name = "nodes" if unit == "nodes" else "processes" if config.machine.device == "cpu" else "gpus"
    if unit == "nodes" and config.launcher.kind == "local":
        raise UserError("Several nodes need a scheduler.", "Add launcher=slurm machine=NAME, or say devices=1,2.")
    if "train" in config.machine.resources:
        return [f"machine.resources.train.{name}={number}"]
    cores = max(1, config.launcher.threads // config.launcher.processes)
    return [f"+machine.resources={{train: {{{name}: {number}, cores: {cores}, hours: 1}}}}"]


def _task(request: Request, stage: str) -> tuple[Store, Task]:
    config = compose.compose(request)
    plan = compose.plan(config)
    return Store(Path(config.store.dir)), plan.find(stage)[0].tasks[0]


def _point(store: Store, task: Task, number: int, unit: str) -> Point:
    manifest, folder = store.paths(task).manifest(), store.paths(task).final
    entries = [entry for entry in read_metrics(folder / METRICS) if entry["split"] == "train"]
    told = str(manifest["facts"].get("batch", ""))
    if unit == "devices" and number > 1 and f"{number} devices" not in told:
        raise UserError(f"The training that was to use {number} devices did not: {told}", f"Its log is in {folder}.")
    first, last = entries[min(1, len(entries) - 2)], entries[-1]
    seconds = float(last["seconds"]) - float(first["seconds"])
    tokens = float(manifest["counts"]["target tokens an update"])
    return Point(number, (int(last["update"]) - int(first["update"])) * tokens / seconds, tokens)


# --- showing ---------------------------------------------------------------------------------------------------------


def show(question: Question, points: Sequence[Point], console: Console) -> None:
    """The table."""
    kind = "weak scaling: the same target tokens a device" if question.weak else "strong scaling: the same update"
    title = f"{question.stage}, {question.updates} updates; {kind}"
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for name in (question.unit, "target tokens an update", "tokens/s", "speed-up", "efficiency"):
        table.add_column(name, justify="right")
    for point in points:
        numbers = (f"{point.target_tokens:,.0f}", f"{point.tokens_per_second:,.0f}")
        table.add_row(str(point.number), *numbers, f"{point.speedup:.2f}", f"{point.efficiency:.0%}")
    console.print(table)


def plot(question: Question, points: Sequence[Point], folder: Path) -> None:
    """Speed-up and efficiency over the number of devices, as `scaling.svg`, `.png` and `.vl.json`."""
    from kd.report.figures.drawing import pictures

    pictures("scaling", _chart(question, points)).write(folder)


def _chart(question: Question, points: Sequence[Point]) -> dict[str, Any]:
    from kd.report.figures.theme import chart, counts

    kind = "same target tokens a device" if question.weak else f"{points[0].target_tokens:,.0f} target tokens an update"
    least = points[0].number
    speedup, efficiency = f"speed-up over {least}", "parallel efficiency"
    rows = [
        {
            question.unit: point.number,
            speedup: point.speedup,
            efficiency: point.efficiency,
            "ideal": point.number / least,
        }
        for point in points
    ]
    x = {
        "field": question.unit,
        "type": "quantitative",
        "axis": counts(question.unit, values=[r[question.unit] for r in rows]),
    }
    parts = []
    for measured, ideal in ((speedup, {"field": "ideal", "type": "quantitative"}), (efficiency, {"datum": 1})):
        y = {"type": "quantitative", "title": measured, "scale": {"zero": True}}
        layers = [
            {
                "mark": {"type": "line", "strokeDash": [4, 3], "color": "#7c8a9a"},
                "encoding": {"x": x, "y": {**y, **ideal}},
            },
            {"mark": {"type": "line", "point": True}, "encoding": {"x": x, "y": {**y, "field": measured}}},
        ]
        parts.append(chart(measured, layers))
    description = f"{question.stage}: {kind}; dashed: as good as can be"
    shared = {name: parts[0][name] for name in ("background", "config")}
    views = [{key: value for key, value in part.items() if key not in shared} for part in parts]
    return {"description": description, "title": description, "data": {"values": rows}, "hconcat": views, **shared}
