"""The style of the figures: a colour, shape and dash for each kind of system, and axes in the colour of the text.

The colours are middle tones that are visible on white and on dark; shapes and dashes make the same
distinctions as colours.
"""

from __future__ import annotations

from typing import Any

from kd.models.systems import SystemKind

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
INK = "currentColor"  # the text colour of the page; black in an image file
FONT = "DejaVu Sans, Liberation Sans, Arial, sans-serif"  # of image files; the page sets its own
WIDTH, HEIGHT = 370, 235  # pixels without axis labels: about the width of a phone, so that text keeps its size
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
    """Return a Vega-Lite chart of layers in the common style."""
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
    """Return an axis of whole numbers."""
    return {"title": title, "format": ",d", "tickMinStep": 1, **more}
