"""The multilingual chain to its end: one tagged student for two target languages, beside bilingual ones."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from runs_of_tiny import Workplace

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("multilingual")]

RECIPE = Path(__file__).parent / "tiny_multilingual"
NUMBERS = {
    "en": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "xx": ["nol", "uno", "dva", "tri", "kvar", "pet", "ses", "sep", "okta", "nau"],
    "yy": ["nolla", "yksi", "kaksi", "kolme", "nelja", "viisi", "kuusi", "seitse", "kahdeksa", "yhdeksa"],
}


def write_corpus(folder: Path) -> None:
    """Three times as much from English to `xx` as to `yy`; their English is partly the same."""
    folder.mkdir(parents=True)
    for language, count in {"xx": 600, "yy": 200}.items():
        random_ = random.Random(7)
        rows = [random_.choices(range(10), k=random_.randint(2, 6)) for _ in range(count)]
        for side in ("en", language):
            lines = (" ".join(NUMBERS[side][number] for number in row) + "\n" for row in rows)
            (folder / f"corpus.en-{language}.{side}").write_text("".join(lines), "utf-8", newline="\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, str]:
    """A finished run, and what `kd run` said."""
    place = Workplace(tmp_path_factory.mktemp("multilingual"), RECIPE)
    write_corpus(place.folder / "corpus")
    return place, place.kd("run").stderr


def test_shares_and_epochs_are_said_before_the_training(run: tuple[Workplace, str]) -> None:
    _, said = run
    for stage in ("student", "control"):
        for pair in ("en-xx", "en-yy"):
            [line] = [line for line in said.split("\n") if f"{stage}/member-1: {pair}: " in line]
            assert "% of target tokens, " in line and " epochs of " in line
            assert said.index(line) < said.index(f"done    {stage}/member-1")


def test_the_small_language_is_seen_as_often_as_the_cap_allows(run: tuple[Workplace, str]) -> None:
    """Four epochs, or fewer where its half of the budget is less: Chung et al. (2023), algorithm 1, by hand."""
    place, _ = run
    balance = json.loads((place.run / "encode_multi" / "all" / "counts.json").read_text("utf-8"))["balance"]
    budget, cap = 20_000, 4
    small = min(budget / 2, cap * balance["en-yy"]["target"])
    large = min(budget - small, cap * balance["en-xx"]["target"])
    assert balance["en-yy"]["token_share"] == pytest.approx(small / (small + large), abs=0.02)


def test_one_export_writes_both_languages_and_says_so(run: tuple[Workplace, str]) -> None:
    place, _ = run
    description = json.loads((place.run / "export" / "student-float32" / "model.json").read_text("utf-8"))
    assert description["tags"] == ["<2xx>", "<2yy>"]
    assert description["agreement"]["set"] == "en-xx, en-yy dev"
    assert description["agreement"]["sentences"] + description["agreement"]["cut"] == 30
    assert not (place.run / "teacher.en-xx" / "member-1" / "languages.json").exists()
    source = (place.run / "split" / "all" / "en-yy" / "test.source").read_bytes()
    released = place.run / "release_multi" / "student-float32"
    options = ["--model", str(released), "--to", "yy", "--beam", "1", "--max-pieces", "32", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "kd", "translate", *options], input=source, capture_output=True, check=True
    )
    assert done.stdout == (place.run / "translate.en-yy" / "student-float32" / "test.hypothesis").read_bytes()
    refused = subprocess.run(
        [sys.executable, "-m", "kd", "translate", "--model", str(released)],
        input=b"one\n",
        capture_output=True,
        check=False,
    )
    assert refused.returncode == 2 and b"translates into xx, yy" in refused.stderr and b"--to" in refused.stderr


def test_the_card_and_the_page_have_both_pairs(run: tuple[Workplace, str]) -> None:
    place, _ = run
    card = (place.run / "release_multi" / "student-float32" / "README.md").read_text("utf-8")
    assert "| made\\_up | train | 800 | unknown |" in card  # 600 pairs of one language pair and 200 of the other
    assert "Translates en to xx, yy." in card and "en-xx, held\\_out" in card and "en-yy, held\\_out" in card
    assert card.count("\n| bilingual |") == 2  # beside it, in the scores of each pair
    report = place.run / "report" / "all"
    table = (report / "pairs.md").read_text("utf-8")
    assert "| en-xx |" in table and "| en-yy |" in table and "| mean |" in table
    assert "2 bilingual models together" in table and "\\toprule" in (report / "pairs.tex").read_text("utf-8")
    assert 'id="pairs"' in (report / "index.html").read_text("utf-8")
    data = json.loads((report / "report.json").read_text("utf-8"))
    assert {name: data["verdict"][name] for name in ("student", "control", "teacher", "export", "bilingual")} == {
        "student": "student", "control": "control", "teacher": "teacher", "export": "student float32",
        "bilingual": "bilingual",
    }  # fmt: skip
