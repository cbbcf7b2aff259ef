"""The page's figures: Vega-Lite charts, drawn as static images, and interactively by the reader's browser.

Both come from one specification, so a paper shows the same figure as the page. Figures are drawn from `ReportData`
alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kd.report.data import ReportData
from kd.report.figures.curves import MEASURES, axes, learning_curve
from kd.report.figures.drawing import Figure, pictures
from kd.report.figures.scatter import quality_and_speed
from kd.report.figures.searching import search_figure
from kd.report.figures.selecting import chosen_ranks, score_distribution, score_gains
from kd.report.formatting import sentence_metric


def draw(data: ReportData) -> dict[str, Figure]:
    """Draw all figures for which there is data, by name."""
    return {name: pictures(name, spec) for name, spec in charts(data) if spec is not None}


def charts(data: ReportData) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield names and charts; None for a figure without data."""
    yield "speed", quality_and_speed(data.systems, data.verdict.metric)
    for number, search in enumerate(data.searches, 1):
        yield f"search-{number}", search_figure(search)
    for axis in axes(data.curves):
        for measure in MEASURES:
            yield f"{measure.name}-{axis.name}", learning_curve(data.curves, measure, axis)
    for number, selection in enumerate(data.selections, 1):
        metric = sentence_metric(selection.metric)
        yield f"ranks-{number}", chosen_ranks(selection)
        yield f"scores-{number}", score_distribution(selection, metric)
        yield f"gains-{number}", score_gains(selection.gains, metric) if selection.gains else None
