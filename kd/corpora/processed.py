"""Recognise text that another program has processed: tokenised, split into sub-words, escaped or wrongly decoded.

A model that is trained on such text also writes such text. So `collect` warns, with an example; it changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

LOOKED_AT = 20_000  # rows of a corpus, from its beginning
MUCH = 0.02  # share of the rows from which on a kind is worth a warning; single ones are content
FEWEST = 3  # rows
SHOWN = 80  # characters of an example

# UTF-8 that was read as Windows-1252 or Latin-1: the lead byte of a letter or of punctuation and a continuation byte
_DECODED_WRONGLY = re.compile(
    "[ÂÃ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â[\u0080€][\u0080-\u00bf“”™˜¦œ\u009d]|Ð[\u0080-\u00bf]Ñ"
)
_ENTITY = re.compile(r"&(?:#\d{1,6}|#[xX][0-9a-fA-F]{1,5}|[a-zA-Z]{2,8});")
_SUBWORDS = re.compile(r"\w@@(?= |$)|(?:^| )▁\w|</w>|##\w")
_MOSES = re.compile(r" @[-/,.]@ |&(?:apos|quot|#91|#93|#124);")
# Punctuation with spaces on both sides and clitics apart, as the tokenisers of Moses and of the Penn treebank write
_TOKENISED = re.compile(r"\w ,(?= \w)|\w \.$|(?: |^)(?:n't|'s|'re|'ll|'ve)(?= )|\w \?$")
KINDS = {
    "wrongly decoded (UTF-8 read as another encoding; fix it with ftfy)": _DECODED_WRONGLY,
    "split into sub-words (join them first)": _SUBWORDS,
    "tokenised by Moses (detokenise it first)": _MOSES,
    "escaped as HTML (unescape it first)": _ENTITY,
    "tokenised (detokenise it first)": _TOKENISED,
}
Row = TypeVar("Row", bound=tuple[str, ...])


class Processed:
    """Count the rows that look processed among the first rows of a corpus."""

    def __init__(self) -> None:
        self._rows = 0
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def follow(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Pass rows on, and inspect the first of them."""
        iterator = iter(rows)
        for row in iterator:
            self._look(row[0], row[1])
            yield row
            if self._rows >= LOOKED_AT:
                break
        yield from iterator

    def _look(self, source: str, target: str) -> None:
        self._rows += 1
        for kind, pattern in KINDS.items():
            text = next((text for text in (source, target) if pattern.search(text)), None)
            if text is not None:
                self._counts[kind] += 1
                self._examples.setdefault(kind, text[:SHOWN])
                return

    def warnings(self) -> list[str]:
        """Return a sentence with an example for each frequent kind."""
        return [
            f"{count:,} of the first {self._rows:,} pairs look {kind}, such as: {self._examples[kind]}"
            for kind, count in self._counts.most_common()
            if count >= max(FEWEST, MUCH * self._rows)
        ]
