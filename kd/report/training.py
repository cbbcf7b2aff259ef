"""Trainings on the page: their learning curves, from each `metrics.jsonl`, and how each ended.

A training of weeks has more lines than fit into a figure: some are left out, but never the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kd.base.text import duration
from kd.models.systems import SystemKind, labelled
from kd.models.training_log import METRICS, Usage, read_metrics, usage
from kd.pipeline.model import Artifact
from kd.report import formatting as form
from kd.report.table import Cell, Column, Table

MOST_POINTS = 240  # of a curve


@dataclass(frozen=True)
class CurvePoint:
    """The state of a training at one update; in runs of earlier versions, only the update is known."""

    update: int
    dev_loss: float | None = None  # bits per token
    dev_bleu: float | None = None
    train_loss: float | None = None  # mean since the previous entry
    target_tokens: float | None = None  # seen so far
    seconds: float | None = None  # trained so far, over all interruptions
    devices: int | None = None  # that train in parallel

    @property
    def device_hours(self) -> float | None:
        """Hours, of all devices together."""
        if self.seconds is None or self.devices is None:
            return None
        return self.seconds * self.devices / 3600


@dataclass(frozen=True)
class Curve:
    """The learning curve of one training."""

    name: str
    kind: SystemKind
    points: list[CurvePoint] = field(default_factory=list)
    device: str = ""  # cpu, cuda, rocm; empty: not known
    usage: Usage = field(default_factory=Usage)

    @property
    def best_bleu(self) -> CurvePoint | None:
        """The first point with the highest dev BLEU."""
        measured = [point for point in self.points if point.dev_bleu is not None]
        return max(measured, key=lambda point: point.dev_bleu or 0.0, default=None)

    @property
    def best_loss(self) -> CurvePoint | None:
        """The first point with the lowest dev loss."""
        measured = [point for point in self.points if point.dev_loss is not None and point.dev_loss == point.dev_loss]
        return min(measured, key=lambda point: point.dev_loss or 0.0, default=None)


def curves(artifacts: Sequence[Artifact], several: bool) -> list[Curve]:
    """Return the curve of each training that has one, named with its language pair if there are `several`."""
    found = []
    for artifact in artifacts:
        points = _points(artifact)
        if points:  # a model trained elsewhere has none
            system = labelled(artifact)
            name = f"{system.title} ({system.pair})" if several and system.pair else system.title
            used = usage(read_metrics(artifact.path / METRICS))
            found.append(Curve(name, system.kind, points, str(artifact.manifest.get("device") or ""), used))
    return found


def _points(artifact: Artifact) -> list[CurvePoint]:
    """Read the points from the training's log; without one, from the validations in its manifest."""
    points = merged(read_metrics(artifact.path / METRICS))
    if points:
        return thinned(points)
    validations: Iterable[Mapping[str, Any]] = artifact.manifest["facts"].get("validations", [])
    return [CurvePoint(each["update"], each.get("dev_loss"), each.get("dev_bleu")) for each in validations]


def merged(entries: Iterable[Mapping[str, Any]]) -> list[CurvePoint]:
    """Return one point per update, in order; if an update was repeated after a restart, the last value wins."""
    by_update: dict[int, dict[str, Any]] = {}
    for entry in entries:
        values = by_update.setdefault(int(entry["update"]), {})
        if entry.get("split") == "dev":
            values |= {"dev_loss": entry.get("loss"), "dev_bleu": entry.get("bleu")}
        else:
            values |= {"train_loss": entry.get("loss")}
        values["seconds"] = entry.get("seconds")
        # Entries without devices are of an earlier version, where target_tokens counts one update only.
        if entry.get("devices") is not None:
            values |= {"devices": int(entry["devices"]), "target_tokens": entry.get("target_tokens")}
    return [CurvePoint(update, **by_update[update]) for update in sorted(by_update)]


def thinned(points: Sequence[CurvePoint], most: int = MOST_POINTS) -> list[CurvePoint]:
    """Return at most about `most` validations and as many other points, evenly spaced, and always the last point."""
    kept: set[int] = {len(points) - 1} if points else set()
    for validated in (True, False):
        places = [i for i, p in enumerate(points) if validated == (p.dev_loss is not None or p.dev_bleu is not None)]
        kept.update(places[:: max(1, -(-len(places) // most))])
        kept.update(places[-1:])
    return [points[place] for place in sorted(kept)]


def training_table(curves: Sequence[Curve]) -> Table:
    """Make the table of how each training ended, and of its best point."""
    drawn = [curve for curve in curves if curve.points]
    last = [curve.points[-1] for curve in drawn]
    columns = [
        Column("Training", [Cell(curve.name) for curve in drawn], numeric=False),
        Column("Updates", [Cell(form.count(point.update)) for point in last]),
        Column("Best dev BLEU", [_best(curve.best_bleu, lambda point: point.dev_bleu, form.score) for curve in drawn]),
        Column(
            "Lowest dev loss",
            [_best(curve.best_loss, lambda point: point.dev_loss, "{:.3f}".format) for curve in drawn],
        ),
        Column("Target tokens", [Cell(form.count(round(p.target_tokens)) if p.target_tokens else "") for p in last]),
        Column("Time", [Cell(duration(point.seconds) if point.seconds else "") for point in last]),
        _share("Validating", [curve.usage.validating_share for curve in drawn]),
        _share("Saving", [curve.usage.saving_share for curve in drawn]),
        Column("Devices", [Cell(form.count(point.devices) if point.devices else "") for point in last]),
        _share("MFU", [curve.usage.mfu for curve in drawn]),
    ]
    return Table(columns, "How each training ended")


def _share(heading: str, shares: Sequence[float | None]) -> Column:
    return Column.of(heading, shares, lambda share: f"{share:.1%}")


def _best(point: CurvePoint | None, value: Callable[[CurvePoint], float | None], shown: Callable[[float], str]) -> Cell:
    found = value(point) if point else None
    return Cell() if point is None or found is None else Cell(shown(found), detail=f"at {form.count(point.update)}")
