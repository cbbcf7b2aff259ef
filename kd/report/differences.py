"""Mark the words in which a text differs from another, for texts shown side by side.

Words are runs of letters, marks and digits; in Chinese and Japanese, which have no spaces, characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import lru_cache

import regex

MOST_WORDS = 1_500
"""Of both texts together; longer texts are not marked, since comparing takes quadratic time."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}"
_PIECES = regex.compile(rf"\s+|[{_UNSPACED}]\p{{M}}*|[\w--[{_UNSPACED}]]+|.", regex.V1 | regex.DOTALL)


def marked(text: str, reference: str) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of the text in order; True if the reference lacks the piece at this position."""
    pieces, others = _pieces(text), _pieces(reference)
    if len(pieces) + len(others) > MOST_WORDS:
        yield text, False
        return
    matcher = SequenceMatcher(None, pieces, others, autojunk=False)
    for operation, start, end, _, _ in matcher.get_opcodes():
        if start == end:
            continue  # a piece of the reference is missing here: there is nothing to mark
        piece = "".join(pieces[start:end])
        yield piece, operation != "equal" and not piece.isspace()


@lru_cache(maxsize=4096)
def _pieces(text: str) -> tuple[str, ...]:
    return tuple(_PIECES.findall(text))
