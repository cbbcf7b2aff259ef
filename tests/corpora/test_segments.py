"""Long text is cut at ends of sentences, then between words, and nothing of it is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kd.corpora.segments import Segment, segments


def at_most(size: int):
    return lambda text: len(text) <= size


def test_what_fits_is_one_segment() -> None:
    assert segments("One. Two.", "en", at_most(100)) == [Segment("One. Two.", "")]


def test_sentences_stay_whole_and_neighbours_together() -> None:
    text = "Das ist z. B. ein Satz. Und noch einer!  Der dritte ist etwas länger als die anderen."
    found = segments(text, "de", at_most(50))
    assert found == [
        Segment("Das ist z. B. ein Satz. Und noch einer!", "  "),
        Segment("Der dritte ist etwas länger als die anderen.", ""),
    ]


def test_a_sentence_that_is_too_long_is_cut_between_words() -> None:
    found = segments("one two three four five six seven eight", "en", at_most(12))
    assert all(len(segment.text) <= 12 for segment in found)
    assert [word for segment in found for word in segment.text.split()] == [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
    ]


def test_a_word_that_is_too_long_is_cut() -> None:
    assert [segment.text for segment in segments("a" * 25, "en", at_most(10))] == ["a" * 6, "a" * 6, "a" * 6, "a" * 7]


def test_a_character_is_never_cut() -> None:
    assert [segment.text for segment in segments("ab", "en", lambda _: False)] == ["a", "b"]


@given(st.text(), st.integers(1, 30), st.sampled_from(["en", "de", "zh", "fi", "xx", "pt-BR", ""]))
def test_nothing_is_lost_and_all_fits(text: str, size: int, language: str) -> None:
    found = segments(text, language, at_most(size))
    assert "".join(segment.text + segment.space for segment in found) == text
    assert all(len(segment.text.strip()) <= size for segment in found)
