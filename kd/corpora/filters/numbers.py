"""Compares the numbers of both sides: the surest sign, without a model, that two sentences are no translations.

Digits are compared in their order within a number, and zeros count. Grouping and decimal signs of all languages are
understood (1,000.5, 1.000,5, 1 000,5), and the order of the numbers in a sentence makes no difference. A number without
a counterpart may be a word on the other side and passes by default.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from kd.corpora.filters.contract import FilterConfig, PairFilter


@dataclass
class NumbersConfig(FilterConfig):
    """Settings of `Numbers`."""

    order: float = 80
    small: int = 12  # numbers up to this may be words, months or hours of a 12-hour clock elsewhere: not compared
    one_sided: bool = True  # numbers that have no counterpart of any kind may be words on the other side: they pass
    most: int = 0  # numbers without a match, on the side that has fewer of them (on both together, if not one_sided)


_DIGITS = re.compile(r"\d+")  # of any script
_GROUPING = ".,'’٬  \u202f\u2009"
# A grouped number, perhaps with a fraction (1,000.5) | a run of digits
_NUMBER = re.compile(
    rf"(?<!\d)(?P<grouped>[1-9]\d{{0,2}}(?P<sign>[{_GROUPING}])\d{{3}}(?:(?P=sign)\d{{3}})*)(?!\d)"
    r"(?:[.,٫](?P<fraction>\d+))?|(?P<run>\d+)"
)
# Words that stand for zeros: 250 thousand against 250,000. By their first letters, in the languages that are met most.
_SCALE = re.compile(
    r"(?<=\d)\s?(?:[kKmM]\b|bn\b|[万億亿千百兆])|\b(?:thous|tausend|tsd|mill|mio|mln|mil\b|mrd|mld|bill|bn\b|trill|hundr|"
    r"hundert|tusen|duiz|tys|tis[ií]|ezer|tuhat|tuhan|milj|тыс|тис|хиляд|млн|мил|млрд|χιλ|εκατ|δισ)",
    re.IGNORECASE,
)
_CENTURIES = ("19", "20")  # in which '98 can stand
_MOST_COMPARISONS = 10_000  # of unmatched numbers: with more it is a table, not a sentence
_MOST_RUNS = 1000  # of digits in a sentence
_LONG = 4  # digits of a number that may be written in several runs: a time, a date, a telephone number


class Numbers(PairFilter[NumbersConfig]):
    """Rejects pairs with different numbers, as OpusCleaner's num_mismatch and OpusFilter's NonZeroNumerals do."""

    kind = "numbers"
    config = NumbersConfig

    def rejects(self, source: str, target: str) -> bool:
        """Tell whether more numbers than allowed are without a match."""
        runs = _DIGITS.findall(source), _DIGITS.findall(target)
        if runs[0] == runs[1]:
            return False
        left, right = _numbers(source), _numbers(target)
        missing, added = left - right, right - left
        if missing and added and len(missing) * len(added) <= _MOST_COMPARISONS:
            scaled = bool(_SCALE.search(source) or _SCALE.search(target))
            european = [_european(run) for run in runs[0]], [_european(run) for run in runs[1]]
            _match_joined(missing, added, european[1], scaled)
            _match_joined(added, missing, european[0], scaled)
            _match_alike(missing, added, _is_scaled if scaled else _is_short_year)
        alone = [sum(count for number, count in side.items() if self._counts(number)) for side in (missing, added)]
        return (min(alone) if self.settings.one_sided else sum(alone)) > self.settings.most

    def _counts(self, number: str) -> bool:
        return len(number) > 9 or int(number) > self.settings.small


def _numbers(text: str) -> Counter[str]:
    """Return the numbers of a text in European digits, without leading zeros and grouping signs.

    The fraction of a decimal counts as a number of its own.
    """
    found: Counter[str] = Counter()
    for match in _NUMBER.finditer(text):
        grouped = "".join(_DIGITS.findall(match["grouped"] or ""))
        parts = [grouped, match["fraction"] or ""] if grouped else [match["run"]]
        found.update(number for part in parts if (number := _european(part).lstrip("0")))
    return found


def _european(run: str) -> str:
    return run if run.isascii() else "".join(str(unicodedata.digit(digit)) for digit in run)


def _match_joined(missing: Counter[str], added: Counter[str], runs: list[str], scaled: bool) -> None:
    """Match numbers whose digits stand on the other side in several runs: 20090612 and 2009-06-12, 1530 and 15.30.

    scaled: zeros at the end may be a word on the other side: 4,320,000 and 4.32 million.
    """
    if len(runs) > _MOST_RUNS:
        return
    for number in [number for number in missing if len(number) >= _LONG]:
        wanted = {number, number.rstrip("0")} if scaled else {number}
        for start in range(len(runs)):
            pieces = next((p for size in range(2, 6) if "".join(p := runs[start : start + size]) in wanted), None)
            numbers = Counter(short for piece in pieces or () if (short := piece.lstrip("0")))
            if numbers and missing[number] > 0 and all(added[piece] >= count for piece, count in numbers.items()):
                missing[number] -= 1
                added.subtract(numbers)


def _match_alike(missing: Counter[str], added: Counter[str], alike: Callable[[str, str], bool]) -> None:
    for number in list(missing):
        for other in list(added):
            if alike(*sorted((number, other), key=len)):
                both = min(missing[number], added[other])
                missing[number] -= both
                added[other] -= both


def _is_short_year(short: str, long: str) -> bool:
    """Tell whether one number is a year and the other its last two digits."""
    return len(short) == 2 and len(long) == 4 and long.endswith(short) and long.startswith(_CENTURIES)


def _is_scaled(short: str, long: str) -> bool:
    """Tell whether two numbers differ in zeros at the end alone, or are a short and a long year."""
    return _is_short_year(short, long) or short.rstrip("0") == long.rstrip("0")
