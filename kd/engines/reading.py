"""Normalise text before translation as cleaning normalises training text.

Models never saw byte order marks, tabs or decomposed letters in training, and translate them to nonsense.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kd.corpora.filters.normalise import Normalise, NormaliseConfig

# The default of cleaning, except for escapes such as `&amp;`, which may be meant.
_NORMALISE = Normalise(NormaliseConfig(escapes=False), ("", ""))
_OTHER_SPACE = re.compile(r"[^\S ]")  # no-break and typographic spaces, which cleaning keeps


def reader(knows: Callable[[str], bool]) -> Callable[[str], str]:
    """Return a function that normalises text: NFC, no invisible characters, single spaces.

    Args:
        knows: Returns whether the vocabulary has a character; spaces that it lacks become ordinary spaces.
    """

    def space(match: re.Match[str]) -> str:
        return match[0] if knows(match[0]) else " "

    def read(text: str) -> str:
        text = _NORMALISE.rewrite(text)
        return text if text.isascii() else _OTHER_SPACE.sub(space, text)

    return read
