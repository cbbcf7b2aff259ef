"""The cells of a search: quality against speed in each number format, with the Pareto front and the chosen cell.

Only cells on the front are named; the others show their name in a tooltip.
"""

from __future__ import annotations

from typing import Any

from kd.base.escapes import visible
from kd.models.systems import SystemKind
from kd.report.figures.scatter import Mark, lettering, quality_domain, rate_ticks, speed_domain
from kd.report.figures.theme import INK, chart
from kd.report.formatting import d3_format
from kd.report.search import CellForm, Search

AXES = {
    "one_core": "sentences per second on one core",
    "all_cores": "sentences per second on all cores",
    "latency": "sentences per second, one by one",
    "latency_p99": "sentences per second, one by one, slowest 1 %",
}
COLOURS = ["#2b83cf", "#1f9673", "#8b68d0", "#cf6f25"]  # of formats, which also differ in shape
SHAPES = ["circle", "triangle-down", "diamond", "square"]
_CHOSEN = "#bf5583"


def search_figure(search: Search) -> dict[str, Any] | None:
    """Draw each cell in each format that has a speed; None for fewer than two."""
    values = [value for cell in search.cells for form in cell.forms if (value := _value(search, cell.name, form))]
    if len(values) < 2:
        return None
    found = [Mark(value["cell"], SystemKind.export, value["speed"], value["quality"]) for value in values]
    speeds, qualities = speed_domain(found), quality_domain([*found, *_ends(values)])
    x = {
        "field": "speed",
        "type": "quantitative",
        "scale": {"type": "log", "domain": list(speeds), "nice": False},
        "axis": {"title": f"{AXES[search.speed]} (logarithmic)", "values": rate_ticks(*speeds), "format": ",~f"},
    }
    y = {
        "field": "quality",
        "type": "quantitative",
        "scale": {"domain": list(qualities), "nice": False},
        "axis": {"title": f"{search.metric} on dev", "tickCount": 6},
    }
    line = sorted((value for value in values if value["front"]), key=lambda value: value["speed"])
    chosen = [value for value in values if value["chosen"]]
    front = {"type": "line", "interpolate": "step-before", "color": INK, "opacity": 0.55, "strokeDash": [5, 3]}
    ring = {"type": "point", "filled": False, "size": 330, "color": _CHOSEN, "strokeWidth": 2, "opacity": 1}
    seeds = {"type": "rule", "color": INK, "opacity": 0.35}
    layers = [
        {"data": {"values": line}, "mark": front, "encoding": {"x": x, "y": y}},
        {"data": {"values": [v for v in values if v["low"] < v["high"]]}, "mark": seeds,
         "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}}},
        {"data": {"values": values}, "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.95},
         "encoding": {"x": x, "y": y, **_by_format(values, search.metric)}},
        {"data": {"values": chosen}, "mark": ring, "encoding": {"x": x, "y": y}},
        *_named(values, found, {"x": x, "y": y}, speeds, qualities),
    ]  # fmt: skip
    return chart(
        f"{search.metric} against {AXES[search.speed]}, one mark per cell and format, with the Pareto front", layers
    )


def _value(search: Search, cell: str, form: CellForm) -> dict[str, Any] | None:
    score = form.score(search.metric)
    speed = {
        "one_core": form.sentences_per_second,
        "all_cores": form.sentences_per_second_all_cores,
        "latency": form.latency_ms and 1000 / form.latency_ms,
        "latency_p99": form.latency_p99_ms and 1000 / form.latency_p99_ms,
    }[search.speed]
    if score is None or not speed:
        return None
    chosen = (cell, form.format) == (search.chosen.name, search.format)
    return {
        "cell": visible(cell), "format": form.format, "speed": speed, "quality": score.mean,
        "low": min(score.values), "high": max(score.values), "front": form.on_front, "chosen": chosen,
    }  # fmt: skip


def _ends(values: list[dict[str, Any]]) -> list[Mark]:
    """Return the lowest and highest scores over seeds, which must also fit on the axis."""
    return [Mark(v["cell"], SystemKind.export, v["speed"], v[end]) for v in values for end in ("low", "high")]


def _by_format(values: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    formats = sorted({value["format"] for value in values})
    shown = {"orient": "bottom", "title": None}
    number = {"type": "quantitative", "format": d3_format(metric)}
    return {
        "color": {"field": "format", "scale": {"domain": formats, "range": COLOURS[: len(formats)]}, "legend": shown},
        "shape": {"field": "format", "scale": {"domain": formats, "range": SHAPES[: len(formats)]}, "legend": shown},
        "tooltip": [
            {"field": "cell"},
            {"field": "format"},
            {"field": "quality", "title": metric, **number},
            {"field": "low", "title": "lowest seed", **number},
            {"field": "high", "title": "highest seed", **number},
            {"field": "speed", "type": "quantitative", "title": "sentences per second", "format": ",.1f"},
        ],
    }


def _named(
    values: list[dict[str, Any]],
    found: list[Mark],
    encoding: dict[str, Any],
    speeds: tuple[float, float],
    qualities: tuple[float, float],
) -> list[dict[str, Any]]:
    """Return the layers of names: of the front and of the chosen cell."""
    wanted = [i for i, value in enumerate(values) if value["front"] or value["chosen"]]
    texts = [{**values[i], "system": values[i]["cell"]} for i in wanted]
    others = [mark for i, mark in enumerate(found) if i not in wanted]
    return lettering([found[i] for i in wanted], texts, encoding, speeds, qualities, others=others)
