"""Figures of selection: ranks of the chosen hypotheses, their scores, and their gains over the teacher's best.

They are histograms with the bins of the stage's own counts.
"""

from __future__ import annotations

import itertools
from typing import Any

from kd.models.systems import SystemKind
from kd.report.figures.theme import COLOURS, chart, counts
from kd.report.selection import Histogram, Selection

CHOSEN, FIRST, GAIN = COLOURS[SystemKind.student], COLOURS[SystemKind.control], COLOURS[SystemKind.export]


def chosen_ranks(selection: Selection) -> dict[str, Any] | None:
    """Draw the share of lists in which the hypothesis of each rank was chosen."""
    if not selection.ranks or not selection.lists:
        return None
    values = [
        {"rank": rank, "share": 100 * count / selection.lists, "lists": count}
        for rank, count in enumerate(selection.ranks, 1)
    ]
    step = 1 if len(values) <= 12 else 5
    encoding = {
        "x": {
            "field": "rank",
            "type": "ordinal",
            "axis": {
                "title": "rank in the teacher's list",
                "labelAngle": 0,
                "grid": False,
                "values": [value["rank"] for value in values][::step],
            },
        },
        "y": {"field": "share", "type": "quantitative", "axis": {"title": "chosen, % of lists", "tickCount": 5}},
        "tooltip": [
            {"field": "rank"},
            {"field": "lists", "type": "quantitative", "format": ","},
            {"field": "share", "type": "quantitative", "title": "% of lists", "format": ".1f"},
        ],
    }
    text = {"field": "share", "type": "quantitative", "format": ".0f"}
    layers = [
        {"mark": {"type": "bar", "color": CHOSEN}, "encoding": encoding},
        {"mark": {"type": "text", "dy": -8}, "encoding": {**encoding, "text": text},
         "transform": [{"filter": "datum.share >= 0.5"}]},
    ]  # fmt: skip
    return chart("How often the hypothesis of each rank was chosen", layers, data={"values": values})


def score_distribution(selection: Selection, metric: str) -> dict[str, Any] | None:
    """Draw the scores of the teacher's best and of the chosen hypotheses, with the same edges."""
    chosen, first = selection.scores, selection.first_scores
    if chosen is None or first is None or not any(chosen.counts):
        return None
    series = {"teacher's best": first, "chosen": chosen}
    values = [
        {"of": name, "from": low, "to": high, "lists": count}
        for name, histogram in series.items()
        for (low, high), count in zip(itertools.pairwise(histogram.edges), histogram.counts, strict=True)
    ]
    x, y = _axes(f"sentence {metric}")
    colour: dict[str, Any] = {
        "field": "of",
        "type": "nominal",
        "scale": {"domain": list(series), "range": [FIRST, CHOSEN]},
        "legend": {"orient": "bottom", "title": None},
    }
    encoding: dict[str, Any] = {**x, **y, "color": colour, "tooltip": [{"field": "of"}, *_tooltip(metric)]}
    bars: dict[str, Any] = {"mark": {"type": "bar", "opacity": 0.75}, "transform": [{"filter": "datum.of == 'chosen'"}]}
    outline: dict[str, Any] = {"mark": {"type": "bar", "fillOpacity": 0, "strokeWidth": 1.6},
               "transform": [{"filter": "datum.of != 'chosen'"}]}  # fmt: skip
    layers = [{**bars, "encoding": encoding}, {**outline, "encoding": {**encoding, "stroke": colour}}]
    return chart("Sentence scores of the teacher's best and of the chosen hypotheses", layers, data={"values": values})


def score_gains(histogram: Histogram, metric: str) -> dict[str, Any] | None:
    """Draw the gain in sentence score where another hypothesis than the first was chosen."""
    if not any(histogram.counts):
        return None
    values = [
        {"from": low, "to": high, "lists": count}
        for (low, high), count in zip(itertools.pairwise(histogram.edges), histogram.counts, strict=True)
    ]
    x, y = _axes(f"gain in sentence {metric} over the teacher's best")
    layer = {"mark": {"type": "bar", "color": GAIN}, "encoding": {**x, **y, "tooltip": _tooltip(metric)}}
    description = "Gain in sentence score where another hypothesis than the first was chosen"
    return chart(description, [layer], data={"values": values})


def _axes(title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    x: dict[str, Any] = {
        "x": {"field": "from", "type": "quantitative", "bin": {"binned": True},
              "axis": {"title": title, "grid": False, "tickCount": 6}},
        "x2": {"field": "to"},
    }  # fmt: skip
    return x, {"y": {"field": "lists", "type": "quantitative", "axis": counts("lists", tickCount=5), "stack": None}}


def _tooltip(metric: str) -> list[dict[str, Any]]:
    edges = [
        {"field": name, "type": "quantitative", "title": f"{metric} {name}", "format": ".1f"} for name in ("from", "to")
    ]
    return [*edges, {"field": "lists", "type": "quantitative", "format": ","}]
