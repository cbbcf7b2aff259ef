"""How text from anywhere is made to look like what models were trained on, before one reads it.

A model has never read a byte order mark, a tab or a letter in two parts, and writes nonsense for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kd.corpora.filters.normalise import Normalise, NormaliseConfig

# What cleaning does to training text by default. Escapes such as `&amp;` stay: whoever gives them may mean them.
_NORMALISE = Normalise(NormaliseConfig(escapes=False), ("", ""))
_OTHER_SPACE = re.compile(r"[^\S ]")  # no-break and typographic ones, which cleaning keeps


def reader(knows: Callable[[str], bool]) -> Callable[[str], str]:
    """A function that makes text look like training text: NFC, nothing invisible, single spaces.

    `knows` says whether a vocabulary has a character: of spaces that it has not, an ordinary one is read.
    """

    def space(match: re.Match[str]) -> str:
        return match[0] if knows(match[0]) else " "

    def read(text: str) -> str:
        text = _NORMALISE.rewrite(text)
        return text if text.isascii() else _OTHER_SPACE.sub(space, text)

    return read
