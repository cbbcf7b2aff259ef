"""Render the report as one self-contained HTML file that needs no network and is readable without JavaScript.

The templates escape text from corpora and names. A content security policy in the page allows only its own two scripts:
Vega, which makes figures interactive, and page.js, which sorts tables and shows segments.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kd.base.escapes import visible
from kd.report import (
    across,
    corpora,
    costs,
    formatting,
    results,
    robustness,
    search,
    seeds,
    selection,
    training,
    weaknesses,
)
from kd.report.data import ReportData
from kd.report.differences import marked
from kd.report.figures.curves import axes
from kd.report.figures.drawing import Figure, javascript, script_json
from kd.report.figures.scatter import marks, pareto
from kd.report.systems import VerdictRoles
from kd.report.verdict import verdicts
from kd.report.weaknesses import Segments

FILTERS = [
    "count", "moment", "of_metric", "of_test_set", "p_meaning", "percent", "score", "sentence_metric", "sentence_score",
    "shortened",
]  # fmt: skip
SECTIONS = (corpora, costs, results, robustness, search, seeds, selection, training, weaknesses)
"""Modules with the tables of a section, which the templates call by name."""
TEMPLATES = Path(__file__).parent / "templates"


def render(data: ReportData, figures: Mapping[str, Figure]) -> str:
    """Render the page with the figures that `kd.report.figures.draw` made of the same data."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in FILTERS:
        environment.filters[name] = getattr(formatting, name)
    environment.filters |= {"browsable": _browsable, "marked": marked, "visible": visible}
    scripts = [Markup(javascript())] if figures else []
    scripts.append(_inline("page.js"))
    return environment.get_template("page.html.j2").render(
        data=data,
        figures=_Figures(figures),
        verdicts=verdicts(data),
        axes=axes(data.curves),
        pareto=[mark.name for mark in pareto(marks(data.systems, data.verdict.metric), data.verdict.metric != "TER")],
        across=across if across.compared_pairs(data) else None,
        **{module.__name__.rpartition(".")[2]: module for module in SECTIONS},
        labels=results.LABELS,
        disturbed=formatting.DISTURBED_MEANING,
        pairs=sorted({row.pair for row in data.systems}),
        style=_inline("page.css"),
        scripts=scripts,
        digests=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
    )


def _browsable(found: Segments, roles: VerdictRoles) -> Markup:
    """Return the segments for the page's script: system names, the two systems compared initially, and the rows."""
    names = list(dict.fromkeys(name for segment in found.segments for name in segment.outputs))
    rows = [
        [
            each.number,
            *(visible(formatting.shortened(text)) for text in (each.source, each.reference)),
            [visible(formatting.shortened(each.outputs.get(name, ""))) for name in names],
            [each.scores.get(name) for name in names],
        ]
        for each in found.segments
    ]
    compared = [
        names.index(name) if name in names else place for place, name in enumerate((roles.student, roles.teacher))
    ]
    systems = [visible(name) for name in names]
    return script_json({"metric": found.metric, "systems": systems, "compared": compared, "rows": rows})


class _Figures(dict[str, Any]):
    """Figures by name; None for a figure without data."""

    def __missing__(self, name: str) -> None:
        return None


def _inline(name: str) -> Markup:
    """Return a file of the templates' folder without escaping."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
