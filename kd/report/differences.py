"""Where a text differs from another, word by word, for texts that stand side by side.

Words are runs of letters, marks and digits; of Chinese and Japanese, which have no spaces, characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import lru_cache

import regex

MOST_WORDS = 1_500
"""Of both texts together; beyond that nothing is marked, since comparing takes the square of it."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}"
_PIECES = regex.compile(rf"\s+|[{_UNSPACED}]\p{{M}}*|[\w--[{_UNSPACED}]]+|.", regex.V1 | regex.DOTALL)


def marked(text: str, reference: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, in order; True where a piece does not stand at this place of the reference."""
    pieces, others = _pieces(text), _pieces(reference)
    if len(pieces) + len(others) > MOST_WORDS:
        yield text, False
        return
    matcher = SequenceMatcher(None, pieces, others, autojunk=False)
    for operation, start, end, _, _ in matcher.get_opcodes():
        if start == end:
            continue  # something of the reference is missing here: nothing to mark
        piece = "".join(pieces[start:end])
        yield piece, operation != "equal" and not piece.isspace()


@lru_cache(maxsize=4096)
def _pieces(text: str) -> tuple[str, ...]:
    return tuple(_PIECES.findall(text))
