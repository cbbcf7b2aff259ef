"""The public Python API: its names, what importing them costs, and the example of its page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu

import kd
from kd.engines.translator import Translator

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
# The example of sacreBLEU's README ("Using SacreBLEU from Python") and its scores.
HYPOTHESES = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = [
    ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
    ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
]
LISTS = [["the cat", "the cat sat on a mat", "a dog"], ["Yes.", "No", "Yes ."]]
GOLD = ["the cat sat on the mat", "Yes ."]


def test_the_page_lists_exactly_the_public_names() -> None:
    listed = re.findall(r"^::: kd\.(\w+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted([*listed, "__version__"]) == sorted(kd.__all__)
    assert kd.Translator is Translator
    assert all(getattr(kd, name).__doc__ for name in listed)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = kd.train


def test_importing_kd_imports_nothing_large() -> None:
    code = "import sys; before = set(sys.modules); import kd; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = {name.split(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names)
    assert others == {"kd"}


def test_the_example_of_the_page_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Stub:
        def __init__(self, model: str) -> None:
            assert model == "runs/demo/release.en-de/student-int8"

        def translate(self, lines: list[str]) -> list[str]:
            return [f"translated: {line}" for line in lines]

    monkeypatch.setattr("kd.engines.translator.Translator", Stub)
    code = "\n".join(line[4:] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("    "))
    exec(code, {})
    first, *scores, chosen = capsys.readouterr().out.splitlines()
    assert first == "translated: The light is on."
    assert [line.split()[:2] for line in scores] == [[s, m] for s in ("a", "b") for m in ("BLEU", "chrF2")]
    assert chosen == "1 the cat sat down"


def test_scores_are_those_of_sacrebleus_readme() -> None:
    found = kd.evaluate(HYPOTHESES, REFERENCES, samples=0)
    assert [(each.metric, round(each.value, 2)) for each in found] == [("BLEU", 48.53), ("chrF2", 59.73)]
    assert all(each.signature.startswith("nrefs:2|") for each in found)
    assert {(each.system, each.interval, each.p_value) for each in found} == {("", None, None)}


def test_systems_are_tested_against_the_baseline() -> None:
    systems = {"worse": ["A dog.", "", "A man."], "best": HYPOTHESES, "same": HYPOTHESES}
    found = {each.system: each for each in kd.evaluate(systems, REFERENCES, metrics=["chrf"], baseline="best")}
    assert list(found) == ["best", "worse", "same"]
    assert found["best"].p_value is None and found["same"].p_value == 1.0
    low, high = found["best"].interval or (0.0, 0.0)
    assert low < found["best"].value < high
    assert found["worse"].value == sacrebleu.corpus_chrf(systems["worse"], REFERENCES).score


def test_the_hypothesis_of_the_best_sentence_bleu_is_selected() -> None:
    found = list(kd.select(iter(LISTS), iter(GOLD)))
    best = [
        max(sacrebleu.sentence_bleu(text, [gold]).score for text in texts)
        for texts, gold in zip(LISTS, GOLD, strict=True)
    ]
    assert [each.text for each in found] == ["the cat sat on a mat", "Yes ."]
    assert [(each.rank, each.score) for each in found] == list(zip([1, 2], best, strict=True))


def test_external_scores_select() -> None:
    found = kd.select(LISTS, GOLD, metric="external", scores=[[0.1, 0.2, 0.3], [9, 8, 7]])
    assert [each.text for each in found] == ["a dog", "Yes."]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kd.evaluate(["a"], ["a", "b"]), "1 segments|has 1 line|2"),
        (lambda: kd.evaluate(["a"], ["a"], metrics=["bleuu"]), "no metric 'bleuu'"),
        (lambda: kd.evaluate(["a"], ["a"], comet="model"), "reads the sources"),
        (lambda: kd.evaluate({"a": ["a"]}, ["a"], baseline="b"), "no system b"),
        (lambda: list(kd.select(LISTS, GOLD[:1])), "After 1 lists"),
        (lambda: list(kd.select([[]], GOLD[:1])), "List 1 is not a list"),
        (lambda: list(kd.select(["abc"], GOLD[:1])), "List 1 is not a list"),
        (lambda: kd.select(LISTS, GOLD, metric="bleuu"), "bleuu"),
        (lambda: kd.select(LISTS, GOLD, metric="external"), "go together"),
        (lambda: kd.select(LISTS, GOLD, metric="mix", mix={"qe": 1.0}), "does not compute the metric qe"),
        (lambda: list(kd.select(LISTS[:1], GOLD[:1], metric="external", scores=[[1.0]])), "3 hypotheses but 1 scores"),
    ],
)
def test_a_mistake_is_a_user_error(call, message: str) -> None:
    with pytest.raises(kd.UserError, match=message):
        call()
