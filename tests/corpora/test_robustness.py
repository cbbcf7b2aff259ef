"""The robustness suite: inputs like those of users, made of a test set, the same whenever they are made."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kd.base.errors import IncompleteArtifact
from kd.corpora.robustness import ALONE, KINDS, Case, read_cases, size, suite, write_cases

SOURCES = [
    "The garden gate squeaks in the wind.",
    "Who left the kettle on the stove?",
    "Please water the tomatoes before breakfast.",
    "Yes",
    "Room 12 is on the second floor.",
    "The ferry leaves at noon",
]


def test_a_sentence_comes_in_every_variant() -> None:
    cases = suite(SOURCES[:1], "en", 1, 1)
    by_kind = {case.kind: case for case in cases}
    assert set(KINDS) - set(by_kind) == {"finished"}  # it has a full stop
    assert {kind: by_kind[kind].source for kind in ("again", "twice", "upper", "title", "unfinished", "doubled")} == {
        "again": SOURCES[0],
        "twice": f"{SOURCES[0]} {SOURCES[0]}",
        "upper": "THE GARDEN GATE SQUEAKS IN THE WIND.",
        "title": "The Garden Gate Squeaks In The Wind.",
        "unfinished": "The garden gate squeaks in the wind",
        "doubled": "The garden gate squeaks in the wind..",
    }
    assert by_kind["url"].source == f"The garden gate squeaks in the wind ({by_kind['url'].keep[0]})."
    assert len(by_kind["mixed"].keep) == 3 and all(span in by_kind["mixed"].source for span in by_kind["mixed"].keep)
    assert by_kind["word"].source in {"garden", "gate", "squeaks", "wind"}
    assert [case.source for case in cases if case.kind == "alone"] == list(ALONE)
    assert all(cases[case.of].source == SOURCES[0] for case in cases if case.of is not None)
    assert len(cases) <= size(1)


def test_usual_sentences_without_numbers_are_chosen_first() -> None:
    plain = [case.source for case in suite(SOURCES, "en", 4, 1) if case.kind == "plain"]
    assert set(plain) == {SOURCES[0], SOURCES[1], SOURCES[2], SOURCES[5]}
    everything = [case.source for case in suite([*SOURCES, *SOURCES, " "], "en", 50, 1) if case.kind == "plain"]
    assert sorted(everything) == sorted(SOURCES)


def test_the_seed_alone_chooses() -> None:
    many = [f"The {colour} bicycle stands behind house {chr(97 + i)}." for i in range(26) for colour in ("red", "blue")]
    assert suite(many, "en", 5, 1) == suite(list(reversed(many)), "en", 5, 1)
    assert suite(many, "en", 5, 1) != suite(many, "en", 5, 2)


def test_a_script_without_case_and_spaces_has_a_suite() -> None:
    cases = suite(["花园的门在风中吱吱作响。", "谁把水壶放在炉子上了"], "zh", 2, 1)
    kinds = Counter(case.kind for case in cases)
    assert not {"upper", "title", "word", "upper word"} & set(kinds)
    assert (kinds["unfinished"], kinds["finished"], kinds["twice"]) == (1, 1, 2)
    assert "谁把水壶放在炉子上了。" in {case.source for case in cases if case.kind == "finished"}


def test_an_empty_test_set_leaves_the_spans() -> None:
    assert {case.kind for case in suite([], "en", 10, 1)} == {"alone"}


def test_cases_are_read_back_as_written(tmp_path: Path) -> None:
    cases = [replace(case, output=f"“{case.source}”\u2028") for case in suite(SOURCES, "en", 3, 1)]
    assert write_cases(tmp_path / "cases", cases) == len(cases)
    assert read_cases(tmp_path / "cases") == cases


@pytest.mark.parametrize("line", ["{", '{"kind": "plain"}', '{"kind": "none", "source": "a"}',
                                  '{"kind": "again", "source": "a", "of": 1}'])  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    write_cases(tmp_path / "cases", [Case("plain", "a")])
    with (tmp_path / "cases").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(IncompleteArtifact, match=r"cases, line 2"):
        read_cases(tmp_path / "cases")
