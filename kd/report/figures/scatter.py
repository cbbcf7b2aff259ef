"""Quality against speed, with the Pareto front.

Names are placed beside their marks without overlaps, as estimated from the length of the text.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kd.base.escapes import visible
from kd.metrics.tradeoff import Candidate, front
from kd.models.systems import SystemKind
from kd.report.figures.theme import COLOURS, HEIGHT, INK, SHAPES, WIDTH, chart
from kd.report.formatting import d3_format
from kd.report.systems import SystemRow

LETTER, LINE = 6.4, 14.0  # pixels of a name's letter, and of its height
# Places of a name relative to its mark: right, down, alignment; beside it first, then above and below.
PLACES = [(9.0, 0.0, "left"), (-9.0, 0.0, "right")]
PLACES += [(right, down * step, align) for step in (1.0, 2.0, 3.0) for right, down, align in (
    (0.0, -13.0, "center"), (0.0, 13.0, "center"), (9.0, -12.0, "left"), (9.0, 12.0, "left"), (-9.0, -12.0, "right"),
    (-9.0, 12.0, "right"))]  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A system with a speed and a score."""

    name: str
    kind: SystemKind
    speed: float  # sentences a second
    quality: float


def marks(rows: Sequence[SystemRow], metric: str) -> list[Mark]:
    """Return the systems that have both a speed and a score."""
    several = len({row.pair for row in rows}) > 1
    return [
        Mark(f"{row.name} {row.pair}" if several else row.name, row.kind, row.sentences_per_second, score.value)
        for row in rows
        if row.sentences_per_second and (score := row.score(metric))
    ]


def pareto(found: Sequence[Mark], higher_is_better: bool = True) -> list[Mark]:
    """Return the Pareto front of quality and speed, slowest first."""
    sign = 1 if higher_is_better else -1
    candidates = [Candidate(str(i), (sign * mark.quality,), mark.speed) for i, mark in enumerate(found)]
    return [found[int(each.name)] for each in reversed(front(candidates))]


def quality_and_speed(rows: Sequence[SystemRow], metric: str) -> dict[str, Any] | None:
    """Draw all systems with speed and score, speed on a logarithmic axis; None for fewer than two."""
    found = marks(rows, metric)
    if len(found) < 2:
        return None
    better_up = metric != "TER"
    speeds, qualities = speed_domain(found), quality_domain(found)
    x = {
        "field": "speed",
        "type": "quantitative",
        "scale": {"type": "log", "domain": list(speeds), "nice": False},
        "axis": {"title": "sentences per second (logarithmic)", "values": rate_ticks(*speeds), "format": ",~f"},
    }
    y = {
        "field": "quality",
        "type": "quantitative",
        "scale": {"domain": list(qualities), "nice": False, "reverse": not better_up},
        "axis": {"title": metric, "tickCount": 6},
    }
    line = [{"speed": mark.speed, "quality": mark.quality} for mark in pareto(found, better_up)]
    pareto_line = {"type": "line", "interpolate": "step-before", "color": INK, "opacity": 0.55, "strokeDash": [5, 3]}
    values = [{"system": visible(m.name), "kind": m.kind.value, "speed": m.speed, "quality": m.quality} for m in found]
    layers = [
        {"data": {"values": line}, "mark": pareto_line, "encoding": {"x": x, "y": y}},
        {"data": {"values": values}, "mark": {"type": "point", "filled": True, "size": 95, "opacity": 1},
         "encoding": {"x": x, "y": y, **_by_kind(found, metric)}},
        *lettering(found, values, {"x": x, "y": y}, speeds, qualities, better_up),
    ]  # fmt: skip
    return chart(f"{metric} against sentences per second, one mark per system, with the Pareto front", layers)


def _by_kind(found: Sequence[Mark], metric: str) -> dict[str, Any]:
    """Return colours, shapes and tooltips of the marks."""
    kinds = list(dict.fromkeys(mark.kind for mark in found))
    domain = [kind.value for kind in kinds]
    return {
        "color": {"field": "kind", "scale": {"domain": domain, "range": [COLOURS[k] for k in kinds]}, "legend": None},
        "shape": {"field": "kind", "scale": {"domain": domain, "range": [SHAPES[k] for k in kinds]}, "legend": None},
        "tooltip": [
            {"field": "system"},
            {"field": "quality", "type": "quantitative", "title": metric, "format": d3_format(metric)},
            {"field": "speed", "type": "quantitative", "title": "sentences per second", "format": ",.1f"},
        ],
    }


def speed_domain(found: Sequence[Mark]) -> tuple[float, float]:
    """Return a range from below the slowest to above the fastest."""
    low, high = min(mark.speed for mark in found), max(mark.speed for mark in found)
    margin = max(1.15, (high / low) ** 0.14)
    return low / margin, high * margin


def quality_domain(found: Sequence[Mark]) -> tuple[float, float]:
    """Return a range from below the worst to above the best."""
    low, high = min(mark.quality for mark in found), max(mark.quality for mark in found)
    margin = (high - low) * 0.14 or max(abs(high), 1.0) * 0.1
    return low - margin, high + margin


def rate_ticks(low: float, high: float) -> list[float]:
    """Return ticks at 1, 2 and 5 times powers of ten, or fewer if those would be too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) <= 9:
            break
    return ticks


def lettering(
    found: Sequence[Mark],
    values: Sequence[dict[str, Any]],
    encoding: dict[str, Any],
    speeds: tuple[float, float],
    qualities: tuple[float, float],
    better_up: bool = True,
    others: Sequence[Mark] = (),
) -> list[dict[str, Any]]:
    """Return one layer per name, placed to overlap no other name, no mark (including `others`) and no border."""

    def spot(mark: Mark) -> tuple[float, float]:
        x = WIDTH * math.log(mark.speed / speeds[0]) / math.log(speeds[1] / speeds[0])
        up = (mark.quality - qualities[0]) / (qualities[1] - qualities[0])
        return x, HEIGHT * (1 - up if better_up else up)

    spots = [spot(mark) for mark in found]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in (*spots, *map(spot, others))]
    line = [spot(mark) for mark in pareto(found, better_up)]
    for (x, y), (next_x, next_y) in itertools.pairwise(line):  # a step: down or up, then right
        taken.append((x - 1, min(y, next_y), x + 1, max(y, next_y)))
        taken.append((x, next_y - 1, next_x, next_y + 1))
    layers = []
    for (x, y), value in zip(spots, values, strict=True):
        name = str(value["system"])
        boxes = {place: _box(x, y, name, *place) for place in PLACES}
        free = (p for p, box in boxes.items() if _inside(box) and not any(_meet(box, other) for other in taken))
        right, down, align = place = next(free, PLACES[0])
        taken.append(boxes[place])
        text = {"type": "text", "dx": right, "dy": down, "align": align, "baseline": "middle"}
        layers.append(
            {"data": {"values": [value]}, "mark": text, "encoding": {**encoding, "text": {"field": "system"}}}
        )
    return layers


def _box(x: float, y: float, name: str, right: float, down: float, align: str) -> tuple[float, float, float, float]:
    width = LETTER * len(name)
    left = x + right - {"left": 0.0, "center": width / 2, "right": width}[align]
    return left, y + down - LINE / 2, left + width, y + down + LINE / 2


def _inside(box: tuple[float, float, float, float]) -> bool:
    return box[0] >= 0 and box[2] <= WIDTH + 8 and box[1] >= -8 and box[3] <= HEIGHT - 2


def _meet(one: tuple[float, float, float, float], two: tuple[float, float, float, float]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
