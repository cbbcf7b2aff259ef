"""The faster first look agrees with fastText: where it says that a language is the most probable one, fastText does."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kd.models.fast_identification import FirstLook
from kd.models.languages import LanguageIdentifier, _path
from tests.messages import messages

LANGUAGES = ["en", "de", "ru", "zh", "ar", "hr", "sr", "gl", "pt"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Return real sentences in many languages, whole and cut, and rows of characters of many scripts."""
    codes = ("de", "ru", "zh_Hans", "ar", "hr", "gl")
    found = [text for code in codes for pair in messages(code) for text in pair]
    chance = random.Random(1)
    cut = [text[: chance.randint(1, 60)] for text in chance.sample(found, min(1500, len(found)))]
    characters = [" ", " ", *map(chr, range(33, 0x400)), "中", "\U0001f600"]
    noise = ["".join(chance.choices(characters, k=40)) for _ in range(200)]
    special = ["", " ", "a", "\0", "a\tb", "</s>", "__label__de", "a\nb", "É", "\U0001f600" * 9, "x" * 5000]
    return [*cut, *noise, *special]


def test_a_sure_answer_is_that_of_fasttext(texts: list[str]) -> None:
    look, identifier = FirstLook(_path()), LanguageIdentifier()
    best = [identifier.identify(text)[0] for text in texts]
    sure = 0
    for language in LANGUAGES:
        answers = look.surely(texts, look.wanted([language]))
        assert not [
            text for text, answer, code in zip(texts, answers, best, strict=True) if answer and code != language
        ]
        sure += answers.sum()
    assert sure > 0.95 * sum(code in LANGUAGES for code in best)


def test_the_answer_does_not_depend_on_the_texts_before(texts: list[str]) -> None:
    look, other = FirstLook(_path()), FirstLook(_path())
    wanted = look.wanted(["en", "de"])
    alone = [bool(other.surely([text], wanted)[0]) for text in reversed(texts)]
    assert look.surely(texts, wanted).tolist() == alone[::-1]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    content = bytearray(_path().read_bytes())
    content[8 + 4 * 6] = 3  # another loss
    (tmp_path / "model.ftz").write_bytes(content)
    with pytest.raises(ValueError, match="another version or loss"):
        FirstLook(tmp_path / "model.ftz")
