"""The page of a run in a real browser: it complains of nothing, asks nobody, sorts, is read on a phone and on paper."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Tab, tab
from runs_of_tiny import Workplace

from kd.report.data import ReportData
from kd.report.figures import draw
from kd.report.page import render
from kd.report.weaknesses import Example, Segment, Segments

pytestmark = pytest.mark.system

SCRIPTS = ["<script>window.ran = 1</script>", "<img src=x onerror='window.ran = 2'>", "</script><svg onload=ran()>"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(finished: Workplace, browser: Tab) -> Iterator[Tab]:
    """The page, opened anew on a wide screen."""
    browser.events.clear()
    browser.send("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    browser.open((finished.run / "report" / "all" / "index.html").resolve())
    yield browser
    browser.send("Emulation.setEmulatedMedia", media="")
    browser.send("Emulation.setScriptExecutionDisabled", value=False)


def show(report: ReportData, browser: Tab, folder: Path) -> Tab:
    """Open a page made of other data."""
    (folder / "page.html").write_text(render(report, draw(report)), "utf-8")
    browser.events.clear()
    browser.open(folder / "page.html")
    return browser


def live(browser: Tab, figures: str = "figure.chart") -> None:
    """Scroll to each figure and wait until it is interactive."""
    shown = f"[...document.querySelectorAll('{figures}')].filter((figure) => figure.offsetHeight)"
    for number in range(browser.ask(f"{shown}.length")):
        browser.ask(f"{shown}[{number}].scrollIntoView()")
        browser.until(f"{shown}[{number}].matches('.enlivened')")


def test_the_page_opens_without_errors_and_without_requests_to_other_hosts(page: Tab, finished: Workplace) -> None:
    live(page)
    assert page.ask("document.querySelectorAll('figure.enlivened .live svg').length") >= 4
    assert page.complaints() == []
    away = [url for url in page.requests() if not url.startswith(("data:", "blob:"))]
    assert away == [(finished.run / "report" / "all" / "index.html").resolve().as_uri()]


def test_verdict_comes_first_and_answers_three_questions(page: Tab) -> None:
    first = page.ask("document.querySelector('main').firstElementChild.innerText")
    for question in ("How good is the student", "How much faster is it?", "What did distillation gain?"):
        assert question in first
    assert page.ask("document.querySelector('.answers').getBoundingClientRect().bottom") < 900  # without scrolling


def test_table_sorts_by_keyboard(finished: Workplace, browser: Tab, tmp_path: Path) -> None:
    report = finished.report()
    rows = [
        dataclasses.replace(
            row,
            scores=[
                dataclasses.replace(score, value=float(place)) if score.metric == "BLEU" else score
                for score in row.scores
            ],
        )
        for place, row in enumerate(report.systems)
    ]
    page = show(dataclasses.replace(report, systems=rows), browser, tmp_path)
    bleu = "[...document.querySelectorAll('.results thead button')].find((b) => b.textContent === 'BLEU')"
    place = page.ask(f"{bleu}.closest('th').cellIndex")
    values = (
        f"[...document.querySelectorAll('.results tbody tr')].map((row) => Number(row.cells[{place}].dataset.sort))"
    )
    before = page.ask(values)
    page.ask(f"{bleu}.focus()")
    page.press("Enter", 13)
    assert page.ask(values) == sorted(before, reverse=True) != before
    assert page.ask(f"{bleu}.closest('th').getAttribute('aria-sort')") == "descending"
    page.press(" ", 32)
    assert page.ask(values) == sorted(before)
    assert page.ask(f"{bleu}.closest('th').getAttribute('aria-sort')") == "ascending"


def test_curves_are_switched_by_keyboard(finished: Workplace, browser: Tab, tmp_path: Path) -> None:
    report = finished.report()
    timed = [
        dataclasses.replace(
            curve,
            points=[
                dataclasses.replace(point, target_tokens=90.0 * point.update, seconds=0.1 * point.update, devices=2)
                for point in curve.points
            ],
        )
        for curve in report.curves
    ]
    page = show(dataclasses.replace(report, curves=timed), browser, tmp_path)
    labels = page.ask("[...document.querySelectorAll('.switch label')].map((label) => label.textContent)")
    assert labels == ["updates", "target tokens", "hours"]  # trained on a CPU
    shown = "[...document.querySelectorAll('#curves .figures')].map((f) => f.offsetHeight > 0)"
    assert page.ask(shown) == [True, False, False]
    page.ask("document.querySelector('.switch input').focus()")
    page.press("ArrowRight", 39)
    assert page.ask(shown) == [False, True, False]
    live(page, "#curves figure.chart")
    assert "target tokens seen" in page.ask("document.querySelector('.along-tokens .live svg').textContent")
    assert page.complaints() == []


def test_figures_answer_to_a_pointer_and_let_the_page_be_scrolled(page: Tab) -> None:
    live(page, "#curves figure.chart")
    page.ask("document.querySelector('#curves').scrollIntoView()")
    mark = "document.querySelector('#curves .live svg .mark-symbol path').getBoundingClientRect()"
    x, y = page.ask(f"[{mark}.x + {mark}.width / 2, {mark}.y + {mark}.height / 2]")
    page.point(x, y)
    page.until("document.querySelector('#vg-tooltip-element.visible')?.innerText.includes('dev BLEU')")
    axis = "document.querySelector('#curves .live svg .role-axis-label').textContent"
    before, place = page.ask(axis), page.ask("scrollY")
    page.wheel(x, y, -100)
    page.until(f"scrollY < {place}")
    assert page.ask(axis) == before
    page.ask("document.querySelector('#curves').scrollIntoView()")
    page.wheel(x, y, -300, shift=True)
    page.until(f"{axis} !== '{before}'")  # zoomed
    assert page.complaints() == []


def test_everything_that_takes_the_focus_has_a_name(page: Tab) -> None:
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    taken = [
        node
        for node in nodes
        if any(item["name"] == "focusable" and item["value"].get("value") for item in node.get("properties", []))
        and node["role"]["value"] not in ("RootWebArea", "code", "generic")
    ]
    roles = {node["role"]["value"] for node in taken}
    assert {"button", "link", "region"} <= roles
    # A block of code (the recipe as it was run) is focusable to be scrolled; its summary names it.
    nameless = [n["role"]["value"] for n in taken if not n["name"]["value"] and n["role"]["value"] != "pre"]
    assert nameless == []


def test_a_segment_that_is_a_script_is_shown_and_not_run(finished: Workplace, browser: Tab, tmp_path: Path) -> None:
    report = finished.report()
    names = [row.name for row in report.systems]
    rows = [
        dataclasses.replace(row, system=dataclasses.replace(row.system, label=f"{row.system.label} {SCRIPTS[0]}"))
        for row in report.systems
    ]
    hostile = dataclasses.replace(
        report,
        title=SCRIPTS[2],
        systems=rows,
        curves=[dataclasses.replace(curve, name=f"{curve.name} {SCRIPTS[2]}") for curve in report.curves],
        examples=[Example(text, text, dict.fromkeys(names, text)) for text in SCRIPTS],
    )
    show(hostile, browser, tmp_path)
    live(browser)
    shown = browser.ask("[...document.querySelectorAll('#examples .given dd')].map((dd) => dd.innerText)")
    assert shown == [text for text in SCRIPTS for _ in ("source", "reference")]
    assert browser.ask("document.querySelector('#speed svg').textContent").count(SCRIPTS[0]) >= 2
    assert browser.ask("window.ran") is None
    # Not by the policy's mercy: nothing was tried that it had to forbid.
    assert browser.complaints() == []


def test_without_a_script_and_on_paper_there_are_pictures(page: Tab, finished: Workplace) -> None:
    pictures = "[...document.querySelectorAll('figure.chart')].filter((f) => f.querySelector('.picture').offsetHeight)"
    live(page)
    assert page.ask(f"{pictures}.length") == 0
    page.send("Emulation.setEmulatedMedia", media="print")
    printed = page.ask(f"{pictures}.length")
    assert printed >= 4 and page.ask("document.querySelector('.live').offsetHeight") == 0
    pdf = base64.b64decode(page.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])  # A4
    assert (
        pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page>") + pdf.count(b"/Page ") > 1
    )
    page.send("Emulation.setEmulatedMedia", media="")
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.open((finished.run / "report" / "all" / "index.html").resolve())
    assert page.ask(f"{pictures}.length") == printed
    assert page.ask("document.querySelectorAll('.results button').length") == 0  # a table like any other


def browsed(outputs: list[tuple[str, float, float]]) -> Segments:
    """Segments whose source names their place; the student's outputs and both scores are given."""
    return Segments(
        "chrF2",
        [
            Segment(
                n,
                f"source {n}",
                f"reference {n}",
                {"student": text, "teacher": "same"},
                {"student": one, "teacher": two},
            )
            for n, (text, one, two) in enumerate(outputs, 1)
        ],
        len(outputs),
    )


def test_segments_are_searched_filtered_and_sorted(finished: Workplace, browser: Tab, tmp_path: Path) -> None:
    outputs = [("same", 50.0, 50.0), (SCRIPTS[1], 10.0, 90.0), ("Better", 70.0, 60.0), *[("other", 40.0, 41.0)] * 22]
    page = show(dataclasses.replace(finished.report(), segments=[browsed(outputs)]), browser, tmp_path)
    numbers = "(s) => s.querySelector('dt').innerText.split(' ').pop()"
    shown = f"[...document.querySelectorAll('#segments .segment')].map({numbers})"
    status = "document.querySelector('#segments [role=status]').innerText"
    assert page.ask(status) == "25 of 25 segments" and page.ask(f"{shown}.length") == 20
    assert page.ask(shown)[0] == "2"  # the student is furthest behind
    assert page.ask("document.querySelector('#segments .student dd').innerText") == SCRIPTS[1]  # text, not markup
    page.ask("document.querySelector('#segments button').click()")
    assert page.ask(f"{shown}.length") == 25
    change = "(e) => e.dispatchEvent(new Event('input'))"
    page.ask(f"(e => {{ e.value = 'BETTER'; ({change})(e) }})(document.querySelector('#segments [type=search]'))")
    assert page.ask(shown) == ["3"] and page.ask(status) == "1 of 25 segments"
    page.ask(f"(e => {{ e.value = ''; ({change})(e) }})(document.querySelector('#segments [type=search]'))")
    page.ask(f"(e => {{ e.checked = true; ({change})(e) }})(document.querySelector('#segments [type=checkbox]'))")
    assert page.ask(status) == "24 of 25 segments"  # without the one where both wrote the same
    page.ask(f"(e => {{ e.value = 1; ({change})(e) }})(document.querySelectorAll('#segments select')[2])")
    assert page.ask(shown)[0] == "3"  # furthest ahead
    assert page.ask("window.ran") is None and page.complaints() == []


def test_a_phone_shows_the_main_columns_and_that_the_table_scrolls(page: Tab) -> None:
    page.send("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True)
    main = page.ask(
        "[...document.querySelectorAll('.results thead th')].filter((th) => th.getBoundingClientRect().right <= 400)"
        ".map((th) => th.innerText)"
    )
    assert main[0] == "System" and {"chrF2", "p", "Sentences/s", "Size, MB"} <= set(main)
    assert page.ask("document.querySelector('.sideways').offsetHeight") > 0
    page.send("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    assert page.ask("document.querySelector('.sideways').offsetHeight") == 0


def test_paper_has_no_controls(page: Tab) -> None:
    page.send("Emulation.setEmulatedMedia", media="print")
    controls = "[...document.querySelectorAll('nav, input, select, .switch, .browser, .hint')]"
    assert page.ask(f"{controls}.filter((e) => e.offsetHeight).length") == 0 < page.ask(f"{controls}.length")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_fits_a_phone_in_both_themes(page: Tab, theme: str) -> None:
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    page.send("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True)
    live(page)
    assert page.ask("document.documentElement.scrollWidth") <= 400
    ink, paper = page.ask("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    dark = [sum(map(int, colour[4:-1].split(","))) < 384 for colour in (ink, paper)]
    assert dark == [theme == "light", theme == "dark"]
    # Figures take their ink from the page: what is drawn in it is read on either ground.
    assert page.ask("getComputedStyle(document.querySelector('#speed .live svg text')).fill") == ink
