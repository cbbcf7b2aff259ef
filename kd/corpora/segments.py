"""Split long text at ends of sentences, so that a model trained on sentences can translate it in parts.

The segments, each with the space after it, add up to the whole text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kd.corpora.sentence_ends import sentences


class Segment(NamedTuple):
    """Text without surrounding space, and the space after it."""

    text: str
    space: str


def segments(text: str, language: str, fits: Callable[[str], bool]) -> list[Segment]:
    """Split a text into as few segments as `fits` allows: at ends of sentences, else between words, else within words.

    A single character is a segment even if it does not fit.

    Args:
        text: A line of any length.
        language: Its BCP-47 code, which determines the sentence-splitting rules.
        fits: Returns whether a text is short enough.
    """
    if fits(text.strip()):
        return [_segment(text)]
    parts = [part for sentence in sentences(text, language) for part in _fitting(sentence, fits)]
    return [_segment(part) for part in _together(parts, fits)]


def _fitting(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Halve the text recursively, after the space nearest to the middle, until every part fits."""
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
    """Join neighbouring segments as long as they fit: models use the context, and fewer calls are faster."""
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
