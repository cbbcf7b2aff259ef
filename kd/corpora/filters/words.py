"""Filters that compare words: copies of the source, and repeated words as in degenerate machine translation.

Models learn both quickly (Khayrallah and Koehn, 2018, for copies).
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import eq

import regex

from kd.corpora.filters.contract import FilterConfig, PairFilter


@dataclass
class CopiesConfig(FilterConfig):
    """Settings of `Copies`."""

    order: float = 60
    normalised: bool = False  # compare without case, whitespace and punctuation
    min_words: int = 1  # of the source: shorter copies (names, numbers) stay


_NO_WORD = regex.compile(r"[^\p{L}\p{M}\p{N}]+")


def bare(text: str) -> str:
    """Return the letters, marks and digits of a text, case-folded.

    For texts of one corpus (copies, duplicates, guards); `leakage.normalised` also unifies encodings of characters.
    """
    return _NO_WORD.sub("", text).casefold()


class Copies(PairFilter[CopiesConfig]):
    """Reject pairs whose sides are equal: many such pairs teach a model to copy (Khayrallah and Koehn, 2018)."""

    kind = "copies"
    config = CopiesConfig

    def rejects(self, source: str, target: str) -> bool:
        """Return whether the sides are equal."""
        left, right, settings = source.strip(), target.strip(), self.settings
        if left != right:
            if not settings.normalised:
                return False
            left, right = bare(left), bare(right)
        return left == right and (settings.min_words <= 1 or len(source.split()) >= settings.min_words)


@dataclass
class RepetitionConfig(FilterConfig):
    """Settings of `Repetition`."""

    order: float = 70
    most: int = 4  # consecutive occurrences of a unit that pass
    longest: int = 4  # words of a unit
    letters: int = 2  # or digits that a unit has at least: rows of dashes and dots are no words


class Repetition(PairFilter[RepetitionConfig]):
    """Reject pairs in which only one side repeats a unit of 1 to `longest` words more than `most` times in a row."""

    kind = "repetition"
    config = RepetitionConfig

    @classmethod
    def validate(cls, config: RepetitionConfig) -> None:
        """Raise ValueError for bounds below 1."""
        if config.most < 1 or config.longest < 1:
            raise ValueError("most and longest must be 1 or more")

    def rejects(self, source: str, target: str) -> bool:
        """Return whether one side repeats itself too often, and the other does not."""
        return self._repeats(source) != self._repeats(target)

    def _repeats(self, text: str) -> bool:
        """Return whether a unit occurs more than `most` times in a row."""
        words, most = text.split(), self.settings.most
        if len(words) - len(set(words)) < most:  # the fast way out: n + 1 times need n double words
            return False
        alphabetical = sorted(words)
        if not any(map(eq, alphabetical, alphabetical[most:])):  # no word occurs n + 1 times
            return False
        return any(
            # Each repetition of a unit makes as many words equal to those that stand its size later.
            sum(map(eq, words, words[size:])) >= most * size and _longest_run(words, size, self.settings.letters) > most
            for size in range(1, self.settings.longest + 1)
        )


def _longest_run(words: list[str], size: int, letters: int) -> int:
    """Return the length of the longest run of one repeated unit of `size` words."""
    best = run = 0
    for place in range(len(words) - size):
        run = run + 1 if words[place] == words[place + size] else 0  # words in a row that stand again `size` later
        if run > best and sum(map(str.isalnum, "".join(words[place + 1 : place + 1 + size]))) >= letters:
            best = run
    return best // size + 1
