"""How the figures look: one colour, shape and dash for each kind of system, and axes in the colour of the text around.

The colours are middle tones that are told apart on white and on dark; shape or dash says the same as colour does.
"""

from __future__ import annotations

from typing import Any

from kd.report.model import SystemKind

COLOURS = {
    SystemKind.teacher: "#7c8a9a",
    SystemKind.ensemble: "#8b68d0",
    SystemKind.student: "#2b83cf",
    SystemKind.control: "#cf6f25",
    SystemKind.export: "#1f9673",
    SystemKind.external: "#bf5583",
}
SHAPES = {
    SystemKind.teacher: "square",
    SystemKind.ensemble: "diamond",
    SystemKind.student: "circle",
    SystemKind.control: "triangle-up",
    SystemKind.export: "triangle-down",
    SystemKind.external: "cross",
}
DASHES: list[list[int]] = [[1, 0], [7, 3], [2, 2], [8, 3, 2, 3], [4, 2], [1, 3]]
INK = "currentColor"  # of the page, light or dark; black in a file of its own
FONT = "DejaVu Sans, Liberation Sans, Arial, sans-serif"  # of files; the page has its own
WIDTH, HEIGHT = 370, 235  # pixels, axes' labels not counted: about what a phone has, so that text there keeps its size
TEXT = 12  # pixels

CONFIG: dict[str, Any] = {  # of Vega-Lite
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": INK,
        "tickColor": INK,
        "gridColor": INK,
        "gridOpacity": 0.13,
        "labelFontSize": TEXT,
        "titleFontSize": TEXT,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelOverlap": True,
    },
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": TEXT, "labelLimit": 300, "symbolStrokeWidth": 2},
    "text": {"color": INK, "fontSize": 11.5},
}


def chart(description: str, layers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A Vega-Lite chart of layers, with what all figures share."""
    return {
        "description": description,
        "width": WIDTH,
        "height": HEIGHT,
        "background": None,
        "config": CONFIG,
        "layer": layers,
        **more,
    }


def counts(title: str, **more: Any) -> dict[str, Any]:
    """An axis of whole numbers."""
    return {"title": title, "format": ",d", "tickMinStep": 1, **more}
