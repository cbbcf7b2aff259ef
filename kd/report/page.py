"""The report as one HTML file that needs nothing else: no network, no folder beside it, no script to be read.

Whatever comes from a corpus or a name is escaped by the template, and a content security policy in the page lets no
other script run than its own two: Vega, which makes figures live, and one that sorts tables.
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
from kd.report import across, formatting, pairings, search, tables, weaknesses
from kd.report.differences import marked
from kd.report.figures.curves import axes
from kd.report.figures.drawing import Figure, javascript
from kd.report.figures.scatter import marks, pareto
from kd.report.model import ReportData
from kd.report.results import results_table
from kd.report.verdict import verdicts

FILTERS = [
    "count", "moment", "of_metric", "of_test_set", "p_meaning", "percent", "score", "sentence_metric", "sentence_score",
    "shortened",
]  # fmt: skip
TEMPLATES = Path(__file__).parent / "templates"


def render(data: ReportData, figures: Mapping[str, Figure]) -> str:
    """Make the page, with the figures that `kd.report.figures.draw` made of the same data."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in FILTERS:
        environment.filters[name] = getattr(formatting, name)
    environment.filters |= {"marked": marked, "visible": visible}
    scripts = [Markup(javascript())] if figures else []
    scripts.append(_inline("page.js"))
    return environment.get_template("page.html.j2").render(
        data=data,
        figures=_Figures(figures),
        verdicts=verdicts(data),
        results=results_table(data, intervals=True),
        axes=axes(data.curves),
        pareto=[mark.name for mark in pareto(marks(data.systems, data.verdict.metric), data.verdict.metric != "TER")],
        tables=tables,
        weaknesses=weaknesses,
        pairings=pairings,
        across=across if across.compared_pairs(data) else None,
        search=search,
        pairs=sorted({row.pair for row in data.systems}),
        style=_inline("page.css"),
        scripts=scripts,
        digests=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
    )


class _Figures(dict[str, Any]):
    """Figures by name; one that there is no data for is None."""

    def __missing__(self, name: str) -> None:
        return None


def _inline(name: str) -> Markup:
    """A file of ours as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
