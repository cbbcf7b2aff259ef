"""Learning curves: BLEU and losses of all trainings against updates, target tokens or device hours.

Each combination is a separate chart, so that the page's switch works without JavaScript.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from kd.base.escapes import visible
from kd.models.systems import SystemKind
from kd.report.figures.theme import COLOURS, DASHES, SHAPES, chart
from kd.report.training import Curve, CurvePoint

FEW = 25  # points of a curve up to which each is marked
LONG_NAME = 15  # letters; names up to this stand three in a row in a legend


@dataclass(frozen=True)
class Axis:
    """A horizontal axis: the progress of a training."""

    name: str  # in the figure's name
    label: str  # of the switch
    title: str
    format: str  # of d3
    value: Callable[[CurvePoint], float | None]


@dataclass(frozen=True)
class Measure:
    """A vertical axis: a measure of a training."""

    name: str
    title: str
    value: Callable[[CurvePoint], float | None]
    from_zero: bool = False


MEASURES = [
    Measure("bleu", "dev BLEU", lambda point: point.dev_bleu, from_zero=True),
    Measure("loss", "dev loss", lambda point: point.dev_loss),
    Measure("train-loss", "training loss", lambda point: point.train_loss),
]


def axes(curves: Sequence[Curve]) -> list[Axis]:
    """Return the axes for which at least one curve has values; always includes updates."""
    on_gpus = any(curve.device not in ("", "cpu") for curve in curves)
    several = any((point.devices or 1) > 1 for curve in curves for point in curve.points)
    hours = "GPU hours" if on_gpus else "hours, all processes together" if several else "hours"
    every = [
        Axis("updates", "updates", "updates", ",d", lambda point: point.update),
        Axis("tokens", "target tokens", "target tokens seen", "~s", lambda point: point.target_tokens),
        Axis("hours", "GPU hours" if on_gpus else "hours", hours, ",~f", lambda point: point.device_hours),
    ]
    return [
        axis
        for axis in every
        if axis.name == "updates" or any(axis.value(point) for curve in curves for point in curve.points)
    ]


def learning_curve(curves: Sequence[Curve], measure: Measure, axis: Axis) -> dict[str, Any] | None:
    """Draw one measure of all trainings; None if it was not measured."""
    values = [
        {"training": visible(curve.name), "x": x, "y": y}
        for curve in curves
        for point in curve.points
        if (x := axis.value(point)) is not None and (y := measure.value(point)) is not None and isfinite(y)
    ]
    if not values:
        return None
    scales = _scales(curves, {str(value["training"]) for value in values})
    shown = _encoding(measure, axis, values)
    legend = _legend(scales["color"]["domain"])
    by_training = {"field": "training", "type": "nominal"}
    most = max(Counter(value["training"] for value in values).values())
    line: dict[str, Any] = {
        "params": [_highlight(), _zoom()],
        "mark": {"type": "line", "strokeWidth": 1.8},
        "encoding": {
            **shown,
            "color": {**by_training, "scale": scales["color"], "legend": legend},
            "strokeDash": {**by_training, "scale": scales["dash"], "legend": legend},
        },
    }
    points: dict[str, Any] = {
        "mark": {"type": "point", "filled": True, "size": 28 if most <= FEW else 8},
        "encoding": {
            **shown,
            "color": {**by_training, "scale": scales["color"], "legend": None},
            "shape": {**by_training, "scale": scales["shape"], "legend": None},
        },
    }
    # Only the lines have a legend; merged with that of the points it would show their shapes.
    apart = dict.fromkeys(("color", "shape", "strokeDash"), "independent")
    resolve = {"legend": apart, "scale": dict.fromkeys(("color", "shape"), "independent")}
    description = f"{measure.title} against {axis.title}, one line per training"
    return chart(description, [line, points], data={"values": values}, resolve=resolve)


def _encoding(measure: Measure, axis: Axis, values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the encoding that lines and points share."""
    whole = {"tickMinStep": 1} if axis.name == "updates" else {}
    return {
        "x": {
            "field": "x",
            "type": "quantitative",
            "axis": {"title": axis.title, "format": axis.format, "tickCount": 5, **whole},
            "scale": _from_zero("x", values),
        },
        "y": {
            "field": "y",
            "type": "quantitative",
            "axis": {"title": measure.title, "tickCount": 5, "format": ",~f"},
            "scale": _from_zero("y", values) if measure.from_zero else _around("y", values),
        },
        "opacity": {"condition": {"param": "highlight", "value": 1}, "value": 0.15},
        "tooltip": [
            {"field": "training"},
            {"field": "x", "type": "quantitative", "title": axis.title, "format": axis.format},
            {"field": "y", "type": "quantitative", "title": measure.title, "format": ".4~f"},
        ],
    }


def _scales(curves: Sequence[Curve], drawn: set[str]) -> dict[str, Any]:
    """Choose colours by kind, and dashes by number within the kind."""
    seen: Counter[SystemKind] = Counter()
    names, colours, dashes, shapes = [], [], [], []
    for curve in curves:
        if visible(curve.name) in drawn:
            names.append(visible(curve.name))
            colours.append(COLOURS[curve.kind])
            dashes.append(DASHES[seen[curve.kind] % len(DASHES)])
            shapes.append(SHAPES[curve.kind])
        seen[curve.kind] += 1
    ranges = {"color": colours, "dash": dashes, "shape": shapes}
    return {name: {"domain": names, "range": values} for name, values in ranges.items()}


def _legend(names: Sequence[str]) -> dict[str, Any]:
    columns = 3 if max(map(len, names)) <= LONG_NAME else 1
    return {"orient": "bottom", "columns": columns, "title": None, "symbolType": "stroke", "symbolSize": 500}


def _highlight() -> dict[str, Any]:
    """Highlight the training that is selected in the legend."""
    return {"name": "highlight", "select": {"type": "point", "fields": ["training"]}, "bind": "legend"}


def _zoom() -> dict[str, Any]:
    """Enable zoom and pan only while Shift is held, so that scrolling the page does not move figures."""
    drag = "[pointerdown[event.shiftKey], window:pointerup] > window:pointermove!"
    select = {"type": "interval", "translate": drag, "zoom": "wheel![event.shiftKey]"}
    return {"name": "zoom", "select": select, "bind": "scales"}


def _from_zero(name: str, values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a scale from zero to slightly above the highest value; a single value is centred."""
    highest = max(value[name] for value in values)
    return {"domain": [0, highest * 1.04 if len({v[name] for v in values}) > 1 else 2 * highest or 1], "nice": False}


def _around(name: str, values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    lowest, highest = min(v[name] for v in values), max(v[name] for v in values)
    if lowest == highest:
        return _from_zero(name, values)
    margin = (highest - lowest) * 0.06
    return {"domain": [lowest - margin, highest + margin], "nice": False}
