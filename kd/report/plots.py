"""The page's figures, drawn by matplotlib as SVG that is part of the page and takes its colours from the page.

Axes and text have the page's text colour (`currentColor`); data has middle tones that are told apart on light and on
dark, and by shape or dash as well as by colour.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from kd.report import formatting as form
from kd.report.model import Curve, CurvePoint, Histogram, Selection, SystemKind, SystemRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # nothing else has this colour: it is replaced by currentColor
COLOURS = {
    SystemKind.teacher: "#7c8a9a",
    SystemKind.ensemble: "#8b68d0",
    SystemKind.student: "#2b83cf",
    SystemKind.control: "#cf6f25",
    SystemKind.export: "#1f9673",
    SystemKind.public: "#bf5583",
}
MARKERS = {
    SystemKind.teacher: "s",
    SystemKind.ensemble: "D",
    SystemKind.student: "o",
    SystemKind.control: "^",
    SystemKind.export: "v",
    SystemKind.public: "X",
}
DASHES = ["-", "--", ":", "-."]
STYLE: dict[Any, Any] = {  # of matplotlib
    "svg.fonttype": "none",  # text stays text: it has the page's font, is found and read aloud
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
WIDTH, HEIGHT = 460, 300  # in points: about what a phone shows, so that text there keeps its size


def learning_curve(
    curves: Sequence[Curve], value: Callable[[CurvePoint], float | None], label: str, identity: str
) -> Markup | None:
    """Draw one measure of all trainings over their updates; None where nothing was measured."""
    drawn = [
        (curve, points)
        for curve in curves
        if (points := [(point.update, y) for point in curve.points if (y := value(point)) is not None and isfinite(y)])
    ]
    if not drawn:
        return None

    def draw(axes: Axes) -> None:
        seen: Counter[SystemKind] = Counter()
        for curve, points in drawn:
            student = curve.kind is SystemKind.student
            axes.plot(
                *zip(*points, strict=True),
                color=COLOURS[curve.kind],
                linestyle=DASHES[seen[curve.kind] % len(DASHES)],
                linewidth=2.2 if student else 1.5,
                marker=MARKERS[curve.kind],
                markersize=3.5,
                label=form.visible(curve.name),
            )
            seen[curve.kind] += 1
        axes.set_xlabel("updates")
        axes.set_ylabel(label)
        axes.xaxis.set_major_formatter(lambda update, _: form.count(round(update)))
        axes.figure.legend(loc="outside lower left", ncols=3, fontsize=10.5, handlelength=2.2, columnspacing=1.2)

    return _svg(identity, f"{label} over updates, one line a training", draw, extra=18 * ((len(drawn) + 2) // 3))


def quality_and_speed(rows: Sequence[SystemRow], metric: str, identity: str) -> Markup | None:
    """Draw each system that has both by speed (logarithmic) and quality; None where fewer than two have."""
    points = [
        (row, row.sentences_per_second, score.value)
        for row in rows
        if row.sentences_per_second and (score := row.score(metric))
    ]
    if len(points) < 2:
        return None

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        for row, speed, quality in points:
            axes.plot(speed, quality, MARKERS[row.kind], color=COLOURS[row.kind], markersize=8)
        axes.margins(x=0.16, y=0.16)
        axes.set_xlabel("sentences per second (logarithmic)")
        axes.set_ylabel(metric)
        axes.xaxis.set_major_formatter(lambda speed, _: f"{speed:,g}")
        axes.xaxis.set_minor_formatter(lambda speed, _: _minor(speed, axes.get_xlim()))
        several = len({row.pair for row, *_ in points}) > 1
        names = [form.visible(f"{row.name} {row.pair}" if several else row.name) for row, *_ in points]
        _label(axes, [(speed, quality) for _, speed, quality in points], names)

    return _svg(identity, f"{metric} against sentences per second, one mark a system", draw)


def chosen_ranks(selection: Selection, identity: str) -> Markup | None:
    """Draw how often the hypothesis of each rank was chosen, as a share of all lists."""
    if not selection.ranks or not selection.lists:
        return None

    def draw(axes: Axes) -> None:
        ranks = range(1, len(selection.ranks) + 1)
        shares = [100 * count / selection.lists for count in selection.ranks]
        bars = axes.bar(ranks, shares, width=0.72, color=COLOURS[SystemKind.student])
        axes.bar_label(bars, [f"{share:.0f}" if share >= 0.5 else "" for share in shares], padding=2, fontsize=10.5)
        axes.set_xlabel("rank in the teacher's list")
        axes.set_ylabel("chosen, % of lists")
        axes.set_xticks(ranks if len(ranks) <= 12 else ranks[::5])
        axes.grid(axis="x", visible=False)

    return _svg(identity, "How often the hypothesis of each rank was chosen", draw)


def score_distribution(selection: Selection, metric: str, identity: str) -> Markup | None:
    """Draw the scores of the teacher's best and of what was chosen, between the same edges."""
    chosen, first = selection.scores, selection.first_scores
    if chosen is None or first is None or not any(chosen.counts):
        return None

    def draw(axes: Axes) -> None:
        axes.stairs(chosen.counts, chosen.edges, fill=True, alpha=0.75, color=COLOURS[SystemKind.student])
        axes.stairs(first.counts, first.edges, linestyle="--", linewidth=2, color=COLOURS[SystemKind.control])
        axes.set_xlabel(f"sentence {metric}")
        axes.set_ylabel("lists")
        axes.yaxis.set_major_formatter(lambda lists, _: form.count(round(lists)))
        axes.grid(axis="x", visible=False)

    return _svg(identity, "Sentence scores of the teacher's best and of the chosen hypotheses", draw)


def score_gains(histogram: Histogram, metric: str, identity: str) -> Markup | None:
    """Draw how much the sentence score rose where another hypothesis than the first was chosen."""
    if not any(histogram.counts):
        return None

    def draw(axes: Axes) -> None:
        axes.stairs(histogram.counts, histogram.edges, fill=True, color=COLOURS[SystemKind.export])
        axes.set_xlabel(f"gain in sentence {metric} over the teacher's best")
        axes.set_ylabel("lists")
        axes.yaxis.set_major_formatter(lambda lists, _: form.count(round(lists)))
        axes.grid(axis="x", visible=False)

    return _svg(identity, "Gain in sentence score where another hypothesis than the first was chosen", draw)


def _svg(identity: str, description: str, draw: Callable[[Axes], None], extra: float = 0) -> Markup:
    """Let `draw` fill a pair of axes, with `extra` points of height for a legend; `identity` is unique on the page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": identity}):
        figure = Figure(figsize=(WIDTH / 72, (HEIGHT + extra) / 72), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        return _element(figure, identity, description)


def _element(figure: Figure, identity: str, description: str) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    # Several figures share the page: their identifiers must not meet.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{identity}-", svg)
    width, height = figure.get_size_inches() * 72
    opening = (
        f'<svg class="plot" role="img" aria-label="{escape(description)}" viewBox="0 0 {width:g} {height:g}" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns="http://www.w3.org/2000/svg">'
    )
    return Markup(re.sub(r"<svg[^>]*>", opening, svg, count=1))


def _minor(speed: float, limits: tuple[float, float]) -> str:
    """Label 2 and 5 between powers of ten where the axis spans little."""
    leading = f"{speed:e}"[0]
    return f"{speed:,g}" if leading in "25" and limits[1] / limits[0] < 100 else ""


def _label(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Write each name beside its point where it meets no other name, no other mark and no border."""
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()  # settles the axes' place, on which all else depends
    radius = 6 * figure.dpi / 72
    taken = [
        Bbox.from_bounds(x - radius, y - radius, 2 * radius, 2 * radius) for x, y in axes.transData.transform(points)
    ]
    places = [
        (9, 0, "left", "center"),
        (-9, 0, "right", "center"),
        (0, 9, "center", "bottom"),
        (0, -9, "center", "top"),
    ]
    places += [(9, 13, "left", "center"), (9, -13, "left", "center"), (-9, 13, "right", "center")]
    for point, name in zip(points, names, strict=True):
        for x, y, horizontal, vertical in places:
            text = axes.annotate(
                name, point, (x, y), textcoords="offset points", ha=horizontal, va=vertical, fontsize=10.5
            )
            box = text.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 and box.y0 >= axes.bbox.y0
            if inside and not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        else:  # nowhere is free: beside the mark, legible or not
            text = axes.annotate(name, point, (9, 0), textcoords="offset points", va="center", fontsize=10.5)
            box = text.get_window_extent()
        taken.append(box)
