"""Variants of a sentence as users write it: upper case, title case, other punctuation, typing errors.

The robustness suite tests models with them (`kd/corpora/robustness.py`), and the stage `augment` trains students on
them. Placeholders, mark-up and addresses inside a sentence are left as they are.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from kd.models.languages import primary

PROTECTED = re.compile(
    r"\{\{[^{}\n]*\}\}|\$?\{[^{}\n]*\}|%(?:\d+\$)?[-+#0]*\d*(?:\.\d+)?[sdifgxXu@]\b|%\([^()\s]+\)[sdifr]"
    r"|</?[A-Za-z][^<>\n]*>|&[A-Za-z]+;|https?://[^\s<>\"]+|[\w.+-]+@[\w-]+\.[\w.-]*\w"
)
"""Placeholders, tags, entities, URLs and e-mail addresses."""

FULL_STOPS = ".。।"  # ends that a sentence may lose without another meaning; `?` and `!` have one
FINAL = FULL_STOPS + "!?！？"
_ELLIPSIS = re.compile(r"(?:\.\.|…)$")
_STOP_OF = {"ja": "。", "zh": "。", "yue": "。", "hi": "।", "bn": "।", "ne": "।", "mr": "।"}
_DOTTED = {"tr", "az"}  # languages whose capital of i is İ
_WORD = re.compile(r"\S+")
_LETTERS = re.compile(r"[^\W\d_]{4,}")  # words in which a typing error is left readable


def outside(text: str, change: Callable[[str], str]) -> str:
    """Change the text between placeholders, mark-up and addresses."""
    parts, end = [], 0
    for found in PROTECTED.finditer(text):
        parts += [change(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, change(text[end:])])


def upper_case(text: str, language: str) -> str:
    """Return a text in capitals, by the rules of its language."""
    dotted = primary(language) in _DOTTED
    return outside(text, lambda part: (part.replace("i", "İ") if dotted else part).upper())


def title_case(text: str, language: str) -> str:
    """Return a text whose words begin with a capital; the other letters stay."""
    dotted = primary(language) in _DOTTED

    def capital(word: re.Match[str]) -> str:
        first = "İ" if dotted and word[0][0] == "i" else word[0][0].title()
        return first + word[0][1:]

    return outside(text, lambda part: _WORD.sub(capital, part))


def without_full_stop(text: str) -> str:
    """Return a sentence without its final full stop; unchanged if it ends otherwise."""
    bare = text.rstrip()
    return bare[:-1].rstrip() if bare.endswith(tuple(FULL_STOPS)) and not _ELLIPSIS.search(bare) else text


def with_full_stop(text: str, language: str) -> str:
    """Return a text with a full stop; unchanged if it ends in punctuation."""
    return text + _STOP_OF.get(primary(language), ".") if text and text[-1].isalnum() else text


def doubled_end(text: str) -> str:
    """Return a sentence with its final mark twice: `Ready!!`; unchanged if it has none."""
    return text + text[-1] if text.endswith(tuple(FINAL)) and not _ELLIPSIS.search(text) else text


def mistyped(text: str, draw: random.Random) -> str:
    """Return a text with one typing error: two neighbours swapped, or a letter left out or typed twice.

    The first letter of a word stays, and so do words of fewer than four letters; a text without a longer word is
    unchanged.
    """
    protected = [found.span() for found in PROTECTED.finditer(text)]
    words = [
        word.span()
        for word in _LETTERS.finditer(text)
        if not any(start < word.end() and word.start() < end for start, end in protected)
    ]
    if not words:
        return text
    start, end = draw.choice(words)
    place = draw.randrange(start + 1, end - 1)
    here, following = text[place], text[place + 1]
    errors = (following, here + here + following, following + here)
    changed = draw.choice(errors[:2] if here == following else errors)
    return text[:place] + changed + text[place + 2 :]
