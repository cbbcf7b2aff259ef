"""Text that another program has processed is recognised, and text that was not is left in peace."""

from __future__ import annotations

import pytest

from kd.corpora.processed import Processed

PLAIN = [
    ("The light is on, isn't it?", "Das Licht ist an, oder?"),
    ("It costs 5 € – or 6.", "Es kostet 5 € – oder 6."),
    ("Press R&D; then <b>", "F&E drücken"),
    ("São Paulo, Ângela, naïve â la carte", "Ñandú, Ã la fin"),
    ("a #hashtag @name", "C## und F#"),
]


def warnings(*rows: tuple[str, str]) -> list[str]:
    """Return the warnings about a corpus of these rows and twenty plain ones."""
    processed = Processed()
    list(processed.follow([*rows * 3, *PLAIN * 4]))
    return processed.warnings()


def test_plain_text_gives_no_warning() -> None:
    assert warnings() == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("CafÃ© au lait", "wrongly decoded"),
        ("â€œquotedâ€\u009d", "wrongly decoded"),
        ("Bo@@ k of names", "split into sub-words"),
        ("▁This ▁is", "split into sub-words"),
        ("well @-@ known", "tokenised by Moses"),
        ("it &apos;s", "tokenised by Moses"),
        ("5 &euro; or &nbsp;", "escaped as HTML"),
        ("the apostrophe &#8217;", "escaped as HTML"),
        ("It is n't so , is it ?", "tokenised (detokenise"),
        ("A sentence of words .", "tokenised (detokenise"),
    ],
)
def test_processed_text_gives_a_warning_with_an_example(text: str, told: str) -> None:
    (warning,) = warnings(("good", text))
    assert told in warning
    assert warning.startswith("3 of the first 23 pairs look ")
    assert warning.endswith(f"such as: {text}")


def test_rows_pass_unchanged_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.corpora.processed.LOOKED_AT", 3)
    rows = [(f"s {number}", f"t {number}", "0.5") for number in range(10)]
    processed = Processed()
    assert list(processed.follow(rows)) == rows
