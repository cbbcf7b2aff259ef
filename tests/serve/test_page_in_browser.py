"""The server's page in a real browser: two models side by side, by keyboard alone, light and dark, on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import kd
from tests.serve.running import Server
from tests.system.browser import Tab, tab

OUTPUTS = "[...document.querySelectorAll('article .output')].map((each) => each.textContent)"
TIMES = "[...document.querySelectorAll('article .time')].map((each) => each.textContent)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with tab(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(server: Server, browser: Tab) -> Tab:
    """The page, loaded anew."""
    browser.send("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    browser.send("Page.navigate", url="about:blank")
    browser.events.clear()
    browser.send("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
    browser.until("document.querySelectorAll('article').length === 2")
    return browser


def test_models_translate_side_by_side_by_keyboard_alone(page: Tab, folders: tuple[Path, Path]) -> None:
    expected = [next(iter(kd.Translator(folder, threads=1).translate(["eins zwei."]))) for folder in folders]
    assert page.ask("document.activeElement.id") == "text"
    page.send("Input.insertText", text="eins zwei.")
    page.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", windowsVirtualKeyCode=13, modifiers=2)
    page.until(f"{TIMES}.every((each) => each.includes('ms per sentence (1)'))")
    assert page.ask(OUTPUTS) == expected
    assert page.ask("[...document.querySelectorAll('article h2')].map((each) => each.textContent)") == [
        "float32", "int8",
    ]  # fmt: skip
    places = page.ask("[...document.querySelectorAll('article')].map((each) => each.getBoundingClientRect().x)")
    assert places[0] < places[1]
    page.press("Tab", 9)
    assert page.ask("document.activeElement.id") == "go"
    assert page.complaints() == []
    assert all(url.startswith(("http://127.0.0.1:", "data:", "about:")) for url in page.requests())


def test_markup_in_texts_is_shown_as_text(page: Tab) -> None:
    page.ask("document.getElementById('text').value = '<img src=x onerror=\"window.ran = 1\">'")
    page.ask("document.getElementById('form').requestSubmit()")
    page.until(f"{TIMES}.every((each) => each.includes('ms per sentence'))")
    assert page.ask("document.querySelectorAll('article img').length") == 0
    assert page.ask("window.ran") is None and page.complaints() == []


def test_a_text_that_is_too_long_is_told(page: Tab) -> None:
    page.ask("document.getElementById('text').value = 'x'.repeat(2001)")
    page.ask("document.getElementById('text').dispatchEvent(new Event('input'))")
    assert page.ask("document.getElementById('count').className") == "hint over"
    page.ask("document.getElementById('form').requestSubmit()")
    page.until("document.getElementById('message').textContent.includes('exceeds text limit (2000)')")


def test_light_and_dark_follow_the_system_and_nothing_overflows_on_a_phone(page: Tab) -> None:
    shades = []
    for scheme in ("light", "dark"):
        page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        colours = page.ask("(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))")
        shades.append([sum(map(int, colour[4:-1].split(","))) for colour in colours])
    (ink, ground), (dark_ink, dark_ground) = shades
    assert ground - ink > 400 and dark_ink - dark_ground > 400
    page.send("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True)
    assert page.ask("document.documentElement.scrollWidth <= 400")


def test_everything_that_takes_the_focus_has_a_name(page: Tab) -> None:
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "combobox"}
    named = [(node["role"]["value"], node.get("name", {}).get("value")) for node in nodes
             if not node.get("ignored") and node["role"]["value"] in roles]  # fmt: skip
    assert len(named) >= 4 and all(name for _, name in named), named
