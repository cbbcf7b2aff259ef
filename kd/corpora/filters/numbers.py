"""Numbers that do not match: the surest sign, without a model, that two sentences are no translations of each other.

Runs of digits are compared as multisets, so that 1,000, 1.000 and 1 000, a decimal comma, an ordinal's ending and the
order of a date make no difference; what stands on one side alone may be a word on the other, and passes by default.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from kd.corpora.filters.contract import FilterConfig, PairFilter


@dataclass
class NumbersConfig(FilterConfig):
    """Of `Numbers`."""

    order: float = 80
    small: int = 12  # numbers up to this may be words, months or hours of a 12-hour clock elsewhere: not compared
    one_sided: bool = True  # numbers that have no counterpart of any kind may be words on the other side: they pass
    most: int = 0  # numbers without a match, on the side that has fewer of them (on both together, if not one_sided)


_DIGITS = re.compile(r"\d+")  # of any script
_SHORT_YEAR = 2  # digits of '98 for 1998
_MOST_COMPARISONS = 10_000


class Numbers(PairFilter[NumbersConfig]):
    """Different numbers on both sides. OpusCleaner's num_mismatch and OpusFilter's NonZeroNumerals ask the like."""

    kind = "numbers"
    config = NumbersConfig

    def rejects(self, source: str, target: str) -> bool:
        """Whether more numbers than allowed are without a match."""
        found = _DIGITS.findall(source), _DIGITS.findall(target)
        if found[0] == found[1]:
            return False
        left, right = map(_numbers, found)
        missing, added = left - right, right - left
        if _same_digits(missing, added):  # 1000 against 1 000, 20090612 against 2009-06-12
            return False
        _match_short_years(missing, added)
        alone = [sum(count for number, count in side.items() if self._counts(number)) for side in (missing, added)]
        return (min(alone) if self.settings.one_sided else sum(alone)) > self.settings.most

    def _counts(self, number: str) -> bool:
        return len(number) > 9 or int(number) > self.settings.small


def _numbers(found: list[str]) -> Counter[str]:
    """Runs of digits, without leading zeros, in European digits."""
    runs = (run if run.isascii() else "".join(str(unicodedata.digit(digit)) for digit in run) for run in found)
    return Counter(number for run in runs if (number := run.lstrip("0")))


def _same_digits(missing: Counter[str], added: Counter[str]) -> bool:
    left, right = ("".join(sorted("".join(side.elements()).replace("0", ""))) for side in (missing, added))
    return bool(left) and left == right


def _match_short_years(missing: Counter[str], added: Counter[str]) -> None:
    """Takes out numbers of which one ends in the other."""
    if len(missing) * len(added) > _MOST_COMPARISONS:  # rows of a table, not a sentence
        return
    for number in list(missing):
        for other in list(added):
            shorter, longer = sorted((number, other), key=len)
            if len(shorter) >= _SHORT_YEAR and longer.endswith(shorter):
                both = min(missing[number], added[other])
                missing[number] -= both
                added[other] -= both
