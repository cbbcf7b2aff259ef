"""The page as a browser reads it: what it shows, that text stays text, and that nothing outside it is needed."""

import dataclasses
import json
import re
from collections.abc import Mapping
from enum import Enum
from html.parser import HTMLParser
from pathlib import Path

import pytest

import kd.report
from kd.report.data import ReportData
from kd.report.figures.drawing import Figure
from kd.report.figures.theme import COLOURS
from kd.report.page import render

SCRIPT = "<script>alert(1)</script>"
VOID = {"meta", "link", "br", "use", "img", "input", "hr"}

Figures = Mapping[str, Figure]


class Reader(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles, as HTML's rules give them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.code: dict[str, list[str]] = {"script": [], "style": [], "data": []}
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        current = self._open[-1] if self._open else ""
        if current == "script" and self.all("script")[-1].get("type") == "application/json":
            current = "data"
        self.code.get(current, self.text).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def hostile(report: ReportData) -> ReportData:
    """The report with a script tag wherever text is shown."""

    def spoil(value: object) -> object:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {item.name: spoil(getattr(value, item.name)) for item in dataclasses.fields(value)}
            return dataclasses.replace(value, **fields)
        if isinstance(value, dict) and "repetition" not in value:  # kd's own names of guards
            return {f"{key}{SCRIPT}\"'": spoil(item) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        text = isinstance(value, str) and not isinstance(value, Enum)
        return f"{value}{SCRIPT}\"'" if text and value else value

    spoiled = spoil(report)
    assert isinstance(spoiled, ReportData)
    return spoiled


def test_script_in_a_segment_is_shown_not_run(report: ReportData) -> None:
    reader = Reader(render(report, {}))
    assert reader.text.count(SCRIPT) == 3  # as source of an example, of a changed pair and of a weakness
    assert len(reader.code["script"]) == 1 and "alert" not in reader.code["script"][0]


def test_script_anywhere_is_shown_not_run(report: ReportData) -> None:
    plain, spoiled = Reader(render(report, {})), Reader(render(hostile(report), {}))
    assert spoiled.code == plain.code
    # Words that differ are marked, and spoiled words differ elsewhere.
    assert [tag for tag, _ in spoiled.elements if tag != "mark"] == [tag for tag, _ in plain.elements if tag != "mark"]
    assert not [attributes for _, attributes in spoiled.elements if any(name.startswith("on") for name in attributes)]


def test_script_in_the_name_of_a_system_is_shown_in_figures_not_run(report: ReportData) -> None:
    from kd.report.figures import charts
    from kd.report.figures.drawing import pictures

    spec = dict(charts(hostile(report)))["speed"]
    assert spec is not None
    reader = Reader(render(report, {"speed": pictures("speed", spec)}))
    assert any(SCRIPT in text for text in reader.text)  # in the picture, as text
    (data,) = reader.code["data"]
    assert "<" not in data and SCRIPT in json.dumps(json.loads(data))
    assert len(reader.code["script"]) == 2 and not any("alert(1)" in code for code in reader.code["script"])


def test_policy_allows_the_pages_own_scripts_alone(report: ReportData, figures: Figures) -> None:
    import base64
    import hashlib

    reader = Reader(render(report, figures))
    (policy,) = [meta["content"] for meta in reader.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and "default-src 'none'" in policy and "unsafe-eval" not in policy
    digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in reader.code["script"]]
    assert len(digests) == 2
    sources = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert f"script-src {sources};" in policy


def test_nothing_is_fetched(report: ReportData, figures: Figures) -> None:
    reader = Reader(render(report, figures))
    for tag, attributes in reader.elements:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            value = attributes.get(name) or ""
            assert not value or value.startswith("#") or value == "data:,", (tag, value)
        assert "url(" not in re.sub(r"url\(#", "", attributes.get("style") or "")
    assert "@import" not in reader.code["style"][0] and "url(" not in reader.code["style"][0]
    assert not any("http" in data for data in reader.code["data"])


def test_identifiers_are_unique_and_references_meet_them(report: ReportData, figures: Figures) -> None:
    reader = Reader(render(report, figures))
    identifiers = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    used = {
        name.removeprefix("url(").removeprefix("#").removesuffix(")")
        for _, attributes in reader.elements
        for key, name in attributes.items()
        if name and ((key.endswith("href") and name.startswith("#")) or name.startswith("url(#"))
    }
    assert used and used <= set(identifiers)


def test_table_has_scores_intervals_and_signatures(report: ReportData) -> None:
    reader = Reader(render(report, {}))
    text = " ".join(reader.text)
    for shown in ("30.1", "28.8–31.5", "against control", "0.013", "smooth:exp", "nc:6", "10 min 40 s", "611", "17.2"):
        assert shown in text
    assert {"25.94", "92.0", "2600000.0"} & {cell.get("data-sort") for cell in reader.all("td")} == {"25.94", "92.0"}


def test_verdict_comes_first(report: ReportData) -> None:
    page = render(report, {})
    sections = ["results", "speed", "curves", "selection", "guards", "weaknesses", "examples"]
    sections += ["data", "leakage", "costs", "provenance"]
    places = [page.index(mark) for mark in ["Distillation helped", *(f'<section id="{name}"' for name in sections)]]
    assert places == sorted(places)


def test_control_characters_are_visible(report: ReportData) -> None:
    text = " ".join(Reader(render(report, {})).text)
    assert "Lines\\u2028and\u2400controls" in text
    assert "\u202e" not in text and "\x00" not in text


def test_empty_output_is_said_to_be_empty(report: ReportData) -> None:
    empty = [attributes for attributes in Reader(render(report, {})).all("dd") if attributes.get("class") == "empty"]
    assert len(empty) == sum(not output for example in report.examples for output in example.outputs.values()) > 0


def test_same_data_same_page(report: ReportData) -> None:
    assert render(report, {}) == render(report, {})


def test_report_of_nothing_is_a_page() -> None:
    reader = Reader(render(ReportData(title="empty", date="2026-11-21"), {}))
    assert "No system was scored." in reader.text
    assert not reader.all("table") and not reader.all("svg")


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "paper"])
def test_contrast_is_that_of_wcag_aa(theme: int) -> None:
    style = (Path(kd.report.__file__).parent / "templates" / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w{6})", blocks[theme]))
    for name in ("ink", "quiet", "accent", "alarm"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name  # text
    assert contrast(colours["ink"], colours["mark"]) >= 4.5 and contrast(colours["ink"], colours["tint"]) >= 4.5
    for kind, colour in COLOURS.items():
        assert contrast(colour, colours["paper"]) >= 3, kind  # graphics


def test_selection_is_told_in_numbers(report: ReportData) -> None:
    text = " ".join(" ".join(Reader(render(report, {})).text).split())
    assert "Of 14,812 lists" in text and "in 6,517 (44.0 %)" in text  # 6517 / 14812
    assert "The mean sentence BLEU against the human translation rose from 33.2 to 39.4" in text


def test_guards_are_told_in_numbers(report: ReportData) -> None:
    page = render(report, {})
    section = page[page.index('<section id="guards">') :].partition("</section>")[0]
    assert re.search(r'<th scope="row">copy</th><td class="number">37</td><td class="number">0\.2\s%</td>', section)
    assert '<td class="number">30</td><td class="number">7</td>' in section
    assert "Where all hypotheses trip one, the human translation is used." in section
    assert 'id="guards"' not in render(dataclasses.replace(report, guards=[]), {})
