"""Filters that compare words: copies of the source, and words that repeat as a stuck machine repeats them.

Both are what a student learns fastest and what it should never do (Khayrallah and Koehn, 2018, of copies).
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import eq

import regex

from kd.corpora.filters.contract import FilterConfig, PairFilter


@dataclass
class CopiesConfig(FilterConfig):
    """Of `Copies`."""

    order: float = 60
    normalised: bool = False  # compare without case, whitespace and punctuation
    min_words: int = 1  # of the source: shorter copies (names, numbers) stay


_NO_WORD = regex.compile(r"[^\p{L}\p{M}\p{N}]+")


def bare(text: str) -> str:
    """Letters, marks and digits alone, in one case: what is left of a sentence without case, spaces and punctuation.

    For texts of one corpus (copies, duplicates, guards); `leakage.normalised` evens out encodings of characters too.
    """
    return _NO_WORD.sub("", text).casefold()


class Copies(PairFilter[CopiesConfig]):
    """Both sides the same: a student that sees many learns to copy (Khayrallah and Koehn, 2018)."""

    kind = "copies"
    config = CopiesConfig

    def rejects(self, source: str, target: str) -> bool:
        """Whether the sides are equal."""
        left, right, settings = source.strip(), target.strip(), self.settings
        if left != right:
            if not settings.normalised:
                return False
            left, right = bare(left), bare(right)
        return left == right and (settings.min_words <= 1 or len(source.split()) >= settings.min_words)


@dataclass
class RepetitionConfig(FilterConfig):
    """Of `Repetition`."""

    order: float = 70
    most: int = 4  # times that words may stand one after the other
    longest: int = 4  # words that are looked at as one unit
    letters: int = 2  # or digits, of the repeated words together, at least: rows of dashes and dots are no words


class Repetition(PairFilter[RepetitionConfig]):
    """Words, one to `longest`, that follow one another more than `most` times on one side and not on the other."""

    kind = "repetition"
    config = RepetitionConfig

    @classmethod
    def validate(cls, config: RepetitionConfig) -> None:
        """Once is no repetition."""
        if config.most < 1 or config.longest < 1:
            raise ValueError("most and longest are 1 or more")

    def rejects(self, source: str, target: str) -> bool:
        """Whether one side repeats itself too often, and the other does not."""
        return self._repeats(source) != self._repeats(target)

    def _repeats(self, text: str) -> bool:
        """Tell whether the same words stand one after the other more than `most` times."""
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
    """The most times that `size` words follow themselves; 1 where they never do."""
    best = run = 0
    for place in range(len(words) - size):
        run = run + 1 if words[place] == words[place + size] else 0  # words in a row that stand again `size` later
        if run > best and sum(map(str.isalnum, "".join(words[place + 1 : place + 1 + size]))) >= letters:
            best = run
    return best // size + 1
