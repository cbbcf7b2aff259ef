"""Which words of a text are marked beside another."""

import pytest

from kd.report.differences import MOST_WORDS, marked


def words(text: str, reference: str) -> list[str]:
    return [piece for piece, differs in marked(text, reference) if differs]


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("Das Gerät ist an.", "Das Gerät ist an.", []),
        ("Das Gerät wurde schon an.", "Das Gerät ist bereits an.", ["wurde", "schon"]),
        ("Das Gerät.", "Das Gerät ist an.", []),  # what is missing has no word to mark
        ("", "Das Gerät.", []),
        ("an {name} aus", "an {nome} aus", ["name"]),
        ("日本語です", "日本人です", ["語"]),  # without spaces: by character
        ("नमस्ते दुनिया", "नमस्ते जगत", ["दुनिया"]),  # marks of vowels belong to their letters
    ],
)
def test_words_that_do_not_stand_in_the_other(text: str, reference: str, expected: list[str]) -> None:
    found = words(text, reference)
    assert [word.strip() for word in found] == [word.strip() for word in expected]
    assert "".join(piece for piece, _ in marked(text, reference)) == text


def test_very_long_texts_stay_unmarked() -> None:
    text = "a b " * MOST_WORDS
    assert list(marked(text, "c")) == [(text, False)]
