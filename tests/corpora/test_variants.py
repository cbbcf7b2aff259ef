"""Variants of a sentence: what changes, and what stays as it is."""

from __future__ import annotations

import random

import pytest

from kd.corpora.variants import doubled_end, mistyped, title_case, upper_case, with_full_stop, without_full_stop


@pytest.mark.parametrize(
    ("text", "language", "upper", "title"),
    [
        ("press the red button.", "en", "PRESS THE RED BUTTON.", "Press The Red Button."),
        ("don't stop", "en", "DON'T STOP", "Don't Stop"),
        ("die große Straße", "de", "DIE GROSSE STRASSE", "Die Große Straße"),
        ("iyi ilik", "tr", "İYİ İLİK", "İyi İlik"),
        ("iyi ilik", "en", "IYI ILIK", "Iyi Ilik"),
        ("open {name} at https://example.org/a now", "en", "OPEN {name} AT https://example.org/a NOW",
         "Open {name} At https://example.org/a Now"),
        ("the <b>blue</b> one of %1$s", "en", "THE <b>BLUE</b> ONE OF %1$s", "The <b>Blue</b> One Of %1$s"),
        ("请按红色按钮。", "zh", "请按红色按钮。", "请按红色按钮。"),
    ],
)  # fmt: skip
def test_capitals_follow_the_language_and_leave_placeholders(text: str, language: str, upper: str, title: str) -> None:
    assert (upper_case(text, language), title_case(text, language)) == (upper, title)


@pytest.mark.parametrize(
    ("text", "without", "doubled"),
    [
        ("It rains.", "It rains", "It rains.."),
        ("雨が降る。", "雨が降る", "雨が降る。。"),
        ("Does it rain?", "Does it rain?", "Does it rain??"),
        ("It rains...", "It rains...", "It rains..."),
        ("It rains…", "It rains…", "It rains…"),
        ("It rains", "It rains", "It rains"),
    ],
)
def test_only_a_full_stop_is_left_out(text: str, without: str, doubled: str) -> None:
    assert (without_full_stop(text), doubled_end(text)) == (without, doubled)


def test_a_full_stop_is_that_of_the_script() -> None:
    assert with_full_stop("It rains", "en") == "It rains."
    assert with_full_stop("雨が降る", "jpn_Jpan") == "雨が降る。"
    assert with_full_stop("Rain:", "en") == "Rain:"


def test_a_typing_error_is_one_edit_inside_a_word() -> None:
    text = "Open the window of {number_of_rooms} now"
    found = {mistyped(text, random.Random(seed)) for seed in range(300)}
    assert text not in found and len(found) > 10
    for variant in found:
        assert abs(len(variant) - len(text)) <= 1
        words = variant.split()
        # Short words and placeholders stay whole, and the first letter of each word in its place.
        assert (words[1], words[3], words[4], words[5]) == ("the", "of", "{number_of_rooms}", "now")
        assert (words[0][0], words[2][0]) == ("O", "w")
    assert mistyped("on the 12th", random.Random(1)) == "on the 12th"
