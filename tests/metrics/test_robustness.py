"""What fails on the robustness suite: one check at a time, with outputs written for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import yaml

from kd.base.resources import folder
from kd.corpora.guards import Guards
from kd.corpora.robustness import Case, suite
from kd.metrics.robustness import CHECKS, Checked, Robustness, robustness
from kd.recipe.schema import GuardsConfig

SOURCES = ["The old bridge is closed today.", "My sister repairs bicycles in a small workshop."]


@pytest.fixture(scope="module")
def guards() -> Guards:
    values = yaml.safe_load((folder("conf") / "guards" / "default.yaml").read_text("utf-8"))
    return Guards(GuardsConfig(**values), "en", "de")


GERMAN = {
    "The old bridge is closed today": "Die alte Brücke ist heute gesperrt",
    "My sister repairs bicycles in a small workshop": "Meine Schwester repariert Fahrräder in der Werkstatt",
}


def translated(case: Case) -> str:
    """Translate as a system without faults: capitals, punctuation and spans are those of the input."""
    text = " ".join(case.source.split())
    for english, german in GERMAN.items():
        text = text.replace(english, german).replace(english.upper(), german.upper())
        text = text.replace(" ".join(word[0].upper() + word[1:] for word in english.split()), german)
    return text


def judged(guards: Guards, change: Callable[[Case, str], str] = lambda case, text: text) -> Robustness:
    """Return the counts of the system, some of whose outputs are changed."""
    cases = suite(SOURCES, "en", 2, 1)
    return robustness([replace(case, output=change(case, translated(case))) for case in cases], guards)


def failed(found: Robustness) -> dict[str, int]:
    return {name: found.checks[name].failed for name in CHECKS}


def test_a_system_without_faults_passes(guards: Guards) -> None:
    found = judged(guards)
    assert failed(found) == dict.fromkeys(CHECKS, 0) and found.failures == [] and found.failed == 0
    # Two sentences: with an address, URL, number, placeholder, emoji, mark-up, or several; and 22 spans alone.
    assert found.checks["copying"].inputs == 2 * 7 + 22
    # Two sentences: again, twice, without and with two full stops, in quotes.
    assert found.checks["one output"].inputs == 2 * 5
    assert found.checks["sound"].inputs == found.inputs


def test_lost_spans_are_named(guards: Guards) -> None:
    found = judged(guards, lambda case, text: text.replace("@", " at ").replace("<b>", "").replace("<i>", ""))
    assert failed(found)["copying"] == found.failed > 0
    assert {failure.check for failure in found.failures} == {"copying"}
    assert any("@" in failure.expected for failure in found.failures)


def test_a_number_may_have_separators(guards: Guards) -> None:
    def grouped(case: Case, text: str) -> str:
        for span in case.keep:
            if span.isdecimal():
                text = text.replace(span, f"{int(span):,}".replace(",", "."))
        return text

    assert failed(judged(guards, grouped))["copying"] == 0
    shorter = judged(guards, lambda case, text: text.replace(case.keep[0], case.keep[0][:-1]) if case.kind == "number"
                     else text)  # fmt: skip
    assert shorter.kinds["number"] == Checked(2, 2)


def test_capitals_have_to_stay_and_not_to_spread(guards: Guards) -> None:
    assert failed(judged(guards, lambda case, text: text.lower() if case.kind == "upper" else text))["case"] == 2
    assert failed(judged(guards, lambda case, text: text.upper() if case.kind == "plain" else text))["case"] == 2
    assert failed(judged(guards, lambda case, text: text.lower() if case.kind == "title" else text))["case"] == 2


def test_a_target_without_case_has_no_check_of_it(guards: Guards) -> None:
    assert judged(guards, lambda case, text: "旧桥今天关闭。").checks["case"] == Checked(0, 0)


def test_the_same_sentence_has_to_have_one_output(guards: Guards) -> None:
    other = {"again": "Die Brücke.", "unfinished": "Brücke zu", "twice": "Die alte Brücke ist heute gesperrt."}
    found = judged(guards, lambda case, text: other.get(case.kind, text))
    assert failed(found)["one output"] == 6
    assert {kind: found.kinds[kind].failed for kind in other} == dict.fromkeys(other, 2)
    expected = {failure.expected for failure in found.failures if failure.kind == "again"}
    assert expected <= {translated(Case("plain", text)) for text in SOURCES}
    # Case and punctuation of the output are free.
    assert failed(judged(guards, lambda case, text: text.rstrip(".").lower() if case.kind == "doubled" else text))[
        "one output"
    ] == 0  # fmt: skip


def test_guards_refuse_repetition_and_text_that_was_not_translated(guards: Guards) -> None:
    found = judged(guards, lambda case, text: "die " * 40 if case.kind == "word" else text)
    assert failed(found)["sound"] == found.kinds["word"].inputs == 2
    assert {failure.expected for failure in found.failures} <= {"repetition", "length"}
    copied = judged(guards, lambda case, text: case.source if case.kind in ("upper", "plain") else text)
    assert copied.kinds["upper"].failed == copied.kinds["plain"].failed == 2
    assert {failure.expected for failure in copied.failures if failure.check == "sound"} == {"copy"}


def test_failures_of_many_kinds_are_kept(guards: Guards) -> None:
    found = judged(guards, lambda case, text: "")
    assert failed(found)["sound"] == found.inputs
    kept = [failure.kind for failure in found.failures if failure.check == "sound"]
    assert len(kept) == len(set(kept)) == 5
