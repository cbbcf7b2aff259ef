"""Draw Vega-Lite charts as images, and provide the JavaScript that makes the same charts interactive.

Both come from vl-convert, which contains Vega and needs no network, browser or display.
"""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from kd.base.errors import UserError

SCALE = 3  # PNG pixels per pixel of the page: 300 dots per inch at the width of a column
_SNIPPET = """
window.kdChart = (element, spec) =>
  vegaEmbed(element, spec, { mode: "vega-lite", renderer: "svg", actions: false, ast: true, tooltip: { theme: "kd" } });
"""  # ast: expressions are interpreted and never evaluated as code, which the page's policy forbids


@dataclass(frozen=True)
class Figure:
    """A chart and its static images."""

    name: str  # of its files, unique on the page
    spec: Mapping[str, Any]  # Vega-Lite
    svg: str
    png: bytes

    @property
    def description(self) -> str:
        """The chart's description in words."""
        return str(self.spec["description"])

    @property
    def element(self) -> Markup:
        """The image as an element of the page, with the page's colours and width."""
        # Several figures share the page, so their identifiers get the figure's name as prefix.
        svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", self.svg)
        (box,) = re.findall(r'viewBox="[-\d. ]+"', svg[: svg.index(">")])
        opening = f'<svg class="plot" role="img" aria-label="{escape(self.description)}" {box}>'
        return Markup(re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1))

    @property
    def data(self) -> Markup:
        """The chart for a script element."""
        return script_json(self.spec)

    def write(self, folder: Path) -> None:
        """Write the files for papers: SVG, PNG, and the Vega-Lite source."""
        (folder / f"{self.name}.svg").write_text(self.svg, "utf-8")
        (folder / f"{self.name}.png").write_bytes(self.png)
        spec = json.dumps(self.spec, ensure_ascii=False, indent=1)
        (folder / f"{self.name}.vl.json").write_text(f"{spec}\n", "utf-8")


def script_json(value: Any) -> Markup:
    """Return JSON for a script element; characters that could end the element are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def pictures(name: str, spec: Mapping[str, Any]) -> Figure:
    """Draw a chart. Raises UserError if a limit on address space prevents it."""
    import vl_convert

    _check_address_space()
    svg = vl_convert.vegalite_to_svg(dict(spec), allowed_base_urls=[])
    png = vl_convert.vegalite_to_png({**spec, "background": "white"}, scale=SCALE, allowed_base_urls=[])
    return Figure(name, spec, svg, png)


@cache
def javascript() -> str:
    """Return Vega and the function `window.kdChart(element, chart)`; about 0.9 MB."""
    import vl_convert

    _check_address_space()
    code = str(vl_convert.javascript_bundle(_SNIPPET))
    if re.search(r"</script|<!--", code, re.IGNORECASE):
        raise ValueError("vl-convert's JavaScript contains text that would end its script element")
    return code


def _check_address_space() -> None:
    """Refuse a limited address space: V8, inside vl-convert, reserves a terabyte of it and aborts otherwise."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        raise UserError(
            f"Drawing figures needs unlimited address space, but ulimit -v allows {soft / 1e9:,.0f} GB.",
            "Type `ulimit -v unlimited` first, or run `kd report` on another machine with access to the run.",
        )
