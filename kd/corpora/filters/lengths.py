"""Filters by length: empty sides, too short or too long ones, and one side much longer than the other.

Words are separated by whitespace; characters are Unicode code points.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kd.corpora.filters.characters import scripts_of
from kd.corpora.filters.contract import FilterConfig, PairFilter


@dataclass
class EmptyConfig(FilterConfig):
    """Settings of `Empty`."""

    order: float = 20


class Empty(PairFilter[EmptyConfig]):
    """Reject pairs with a side that is empty or only whitespace."""

    kind = "empty"
    config = EmptyConfig
    one_sided = True

    def rejects(self, source: str, target: str) -> bool:
        """Return whether a side is empty."""
        return not source or not target or source.isspace() or target.isspace()


@dataclass
class LengthConfig(FilterConfig):
    """Settings of `Length`."""

    order: float = 30
    min_words: int = 1  # of the source; more rejects labels and single words
    max_words: int = 150  # of either side
    max_characters: int = 1000  # of either side


class Length(PairFilter[LengthConfig]):
    """Reject pairs with a source of too few words, or a side of too many words or characters.

    Moses' clean-corpus-n.perl is used with 80 to 100 words, fairseq's recipes with 250. The bound on characters applies
    to scripts without spaces and to long tokens.
    """

    kind = "length"
    config = LengthConfig
    one_sided = True

    def __init__(self, config: LengthConfig, languages: tuple[str, str]) -> None:
        super().__init__(config, languages)
        self._least, self._most, self._characters = config.min_words, config.max_words, config.max_characters
        # Shorter than this, no side can have too many words, and the words of the target need not be counted.
        self._surely_short = 2 * config.max_words

    @classmethod
    def validate(cls, config: LengthConfig) -> None:
        """Raise ValueError if no length is within the bounds."""
        if config.min_words > config.max_words:
            raise ValueError(
                f"min_words is {config.min_words}, and max_words {config.max_words}: no pair would be left"
            )

    def rejects(self, source: str, target: str) -> bool:
        """Return whether a length is out of bounds."""
        longer = max(len(source), len(target))
        if longer > self._characters:
            return True
        if self._least > 1 and len(source.split()) < self._least:
            return True
        if longer < self._surely_short:
            return False
        return len(source.split()) > self._most or len(target.split()) > self._most


@dataclass
class RatioConfig(FilterConfig):
    """Settings of `Ratio`."""

    order: float = 40
    most: float = 3.0  # longer side to shorter side, in characters
    slack: int = 12  # characters added to both sides before: `OK` against `In Ordnung` is no misalignment


# Of East Asian width W or F (Unicode Standard Annex 11), but for emoji: Han, kana, Hangul and their punctuation.
_WIDE = re.compile("[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff01-\uff60\U00020000-\U0003fffd]")
_WIDE_SCRIPTS = {"Han", "Hiragana", "Katakana", "Hangul", "Hani", "Hira", "Kana", "Hang"}


class Ratio(PairFilter[RatioConfig]):
    """Reject pairs with one side much longer than the other, in characters; slack allows for short strings.

    Where a language is written in Chinese, Japanese or Korean characters, each of these counts as two.

    In tokens and without slack, the default is 9 in clean-corpus-n.perl, 1.5 in fairseq's WMT recipe, 3 in OpusFilter.
    """

    kind = "ratio"
    config = RatioConfig

    def __init__(self, config: RatioConfig, languages: tuple[str, str]) -> None:
        super().__init__(config, languages)
        self._wide = not _WIDE_SCRIPTS.isdisjoint({script for code in languages for script in scripts_of(code)})

    @classmethod
    def validate(cls, config: RatioConfig) -> None:
        """Raise ValueError for a ratio below 1 or a slack below 0."""
        if config.most < 1 or config.slack < 0:
            raise ValueError("most must be 1 or more, and slack 0 or more")

    def rejects(self, source: str, target: str) -> bool:
        """Return whether the lengths differ too much."""
        left, right, settings = len(source), len(target), self.settings
        if self._wide:
            left, right = left + len(_WIDE.findall(source)), right + len(_WIDE.findall(target))
        shorter, longer = (left, right) if left < right else (right, left)
        return longer + settings.slack > settings.most * (shorter + settings.slack)
