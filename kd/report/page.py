"""The report as one HTML file that needs nothing else: no network, no folder beside it, no script to be read.

Whatever comes from a corpus or a name is escaped by the template, and a content security policy in the page lets no
other script run than its own, which sorts tables.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import jinja2
from markupsafe import Markup

from kd.report import formatting, plots
from kd.report.columns import results_columns
from kd.report.model import ReportData
from kd.report.verdict import verdicts

HERE = Path(__file__).parent


def render(data: ReportData) -> str:
    """Make the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("score", "count", "percent", "duration", "size", "visible", "sentence_metric", "sentence_score"):
        environment.filters[name] = getattr(formatting, name)
    script = _inline("page.js")
    return environment.get_template("page.html.j2").render(
        data=data,
        verdicts=verdicts(data),
        columns=results_columns(data),
        plots=plots,
        bleu=lambda point: point.dev_bleu,
        loss=lambda point: point.dev_loss,
        pairs=sorted({row.pair for row in data.systems}),
        style=_inline("page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _inline(name: str) -> Markup:
    """A file of ours as it is."""
    return Markup((HERE / name).read_text(encoding="utf-8"))
