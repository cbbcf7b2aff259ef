"""Long text cut where sentences end, so that a model which was trained on sentences can translate it piece by piece.

Nothing is lost on the way: the segments with the space behind each, put together, are the text again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kd.models.languages import primary


class Segment(NamedTuple):
    """Text without space at its ends, and the space that stands behind it."""

    text: str
    space: str


def segments(text: str, language: str, fits: Callable[[str], bool]) -> list[Segment]:
    """Cut a text into as few pieces as `fits` allows, at ends of sentences where that is enough, else between words.

    Where a single word does not fit it is cut as well. `language` is a BCP-47 code; the rules of sentencex (Wikimedia)
    for it, or its general ones, say where sentences end. A single character is never cut, whether it fits or not.
    """
    if fits(text.strip()):
        return [_segment(text)]
    parts = [part for sentence in _sentences(text, language) for part in _fitting(sentence, fits)]
    return [_segment(part) for part in _together(parts, fits)]


def _sentences(text: str, language: str) -> list[str]:
    import sentencex

    found = list(sentencex.segment(primary(language) or "en", text))
    return found if "".join(found) == text else [text]


def _fitting(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """The text in halves of halves, cut behind the space that is nearest to the middle."""
    if len(text) < 2 or fits(text.strip()):
        yield text
        return
    middle = len(text) // 2
    spaces = (place for place in _from_the_middle(text) if text[place - 1].isspace() and not text[place].isspace())
    place = next(spaces, middle)
    yield from _fitting(text[:place], fits)
    yield from _fitting(text[place:], fits)


def _from_the_middle(text: str) -> Iterator[int]:
    middle = len(text) // 2
    for distance in range(middle):
        yield middle - distance
        if distance and middle + distance < len(text):
            yield middle + distance


def _together(parts: list[str], fits: Callable[[str], bool]) -> Iterator[str]:
    """Neighbours joined as long as they fit: context helps, and fewer calls do."""
    whole = ""
    for part in parts:
        if whole and not fits((whole + part).strip()):
            yield whole
            whole = ""
        whole += part
    if whole:
        yield whole


def _segment(text: str) -> Segment:
    bare = text.rstrip()
    return Segment(bare, text[len(bare) :])
