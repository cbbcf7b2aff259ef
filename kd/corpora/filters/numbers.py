"""Compare the numbers of both sides: the surest sign, without a model, that a pair is not a translation.

Numbers are compared by value: the digit grouping and decimal signs of all languages are recognised (1,000.5, 1.000,5, 1
000,5), and so are scale words (15 million, 15 000 000). The order of the numbers in a sentence makes no difference. A
number without a counterpart may be a word on the other side and passes by default.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kd.corpora.filters.contract import FilterConfig, PairFilter


@dataclass
class NumbersConfig(FilterConfig):
    """Settings of `Numbers`."""

    order: float = 80
    small: int = 12  # integers up to this may be words, months or hours of a 12-hour clock elsewhere: not compared
    one_sided: bool = True  # numbers that have no counterpart of any kind may be words on the other side: they pass
    most: int = 0  # numbers without a match, on the side that has fewer of them (on both together, if not one_sided)


_DIGITS = re.compile(r"\d+")  # of any script
_NO_DIGITS = bytes(code for code in range(256) if chr(code) not in "0123456789")
_GROUPING = ".,'’٬  \u202f\u2009"
_NUMBER = re.compile(
    # 1,000.5 or 12,34,567
    rf"(?<!\d)(?:(?P<grouped>[1-9]\d{{0,2}}(?P<sign>[{_GROUPING}])\d{{3}}(?:(?P=sign)\d{{3}})*|[1-9]\d?(?:,\d\d)+,\d{{3}})"
    r"(?!\d)(?:(?!(?P=sign))[.,٫](?P<fraction>\d+))?"
    # 1.5, but neither a part of 1.5.2001 nor the date `am 1.5. in`
    r"|(?<!\d[.,٫])(?!(?:0?[1-9]|[12]\d|3[01])\.(?:0?[1-9]|1[0-2])\s?\.\s*\S)(?P<whole>\d+)[.,٫](?P<part>\d+)(?![.,٫:]?\d))"
    r"|(?P<run>\d+)"
)
# Words of scale by their first letters, in the languages that are met most, with the powers of ten that they may mean.
_SCALES = [
    (re.compile(rf"(?<![^\W\d_])(?:{words})", re.IGNORECASE), powers)
    for words, powers in (
        ("hundr|hundert|百", (2,)),
        (
            r"thous|tausend|tsd|tusen|duiz|tys|tis[ií]|ezer|tuhat|tuhan|тыс|тис|хиляд|χιλ|(?<=\d)k\b|(?<=\d )k\b|千",
            (3,),
        ),
        ("万|萬", (4,)),
        ("lakh", (5,)),
        (r"mill?i[oóõ]|mio\b|mln|milj(?!a)|млн|мили?о|εκατ|(?<=\d)m\b|(?<=\d )m\b", (6,)),
        (r"mil\b", (3, 6)),
        ("crore", (7,)),
        ("億|亿", (8,)),
        (r"mill?i[aá]rd|milja|mrd|mld|млрд|мили?ард|δισ", (9,)),
        (r"bill|bn\b", (9, 12)),
        ("trill|兆", (12, 18)),
    )
]
_CLOCK = re.compile(
    r"\b(?:uhr|hours?|hrs?|o.clock|klo?|uur|gmt|utc|ces?t)\b|\d\s?h\b|\b[ap]\.?m\b|\d[ap]m\b", re.IGNORECASE
)
_CENTURIES = ("19", "20")  # in which '98 can stand
_MOST_COMPARISONS = 10_000  # of unmatched numbers: with more it is a table, not a sentence
_LONG = 4  # digits of a number that may be written in several runs: a date, a telephone number
_ROUNDED = 2  # decimals from which on a number may be a rounded form of another


class _Number(NamedTuple):
    """A number in a text; its value is `digits` times ten to the power of `exponent`."""

    digits: str  # European, without zeros at either end; none for zero
    exponent: int  # below 0: a decimal
    runs: tuple[str, ...]  # of digits, as written

    @property
    def value(self) -> tuple[str, int]:
        """The value in a form to compare: 1.5 and 1.50 have the same."""
        return self.digits, self.exponent

    @property
    def integer(self) -> str:
        """The digits of an integer; empty for a decimal."""
        return "" if self.exponent < 0 else self.digits + "0" * self.exponent


class Numbers(PairFilter[NumbersConfig]):
    """Reject pairs with different numbers, as OpusCleaner's num_mismatch and OpusFilter's NonZeroNumerals do."""

    kind = "numbers"
    config = NumbersConfig

    def rejects(self, source: str, target: str) -> bool:
        """Return whether more numbers than allowed lack a match."""
        if not (_has_digit(source) and _has_digit(target)) and self.settings.one_sided:
            return False
        if _DIGITS.findall(source) == _DIGITS.findall(target):
            return False
        missing, added = unmatched(source, target)
        large = [sum(map(self._is_large, side)) for side in (missing, added)]
        # A decimal is hardly ever a word, so it counts whatever its size, if the other side has another number.
        either = min(sum(self._is_large(each) or each.exponent < 0 for each in side) for side in (missing, added))
        return (either if self.settings.one_sided else max(either, sum(large))) > self.settings.most

    def _is_large(self, number: _Number) -> bool:
        whole = number.integer or number.digits[: number.exponent]
        return len(whole) > 9 or int(whole or 0) > self.settings.small


def _has_digit(text: str) -> bool:
    try:
        return bool(text.encode("latin-1").translate(None, _NO_DIGITS))
    except UnicodeEncodeError:
        return _DIGITS.search(text) is not None


def unmatched(source: str, target: str) -> tuple[list[_Number], list[_Number]]:
    """Return the numbers of each side that have no counterpart on the other, in any form; zeros are left out."""
    left, right = numbers_of(source), numbers_of(target)
    missing, added = _without(left, right), _without(right, left)
    if missing and added and len(missing) * len(added) <= _MOST_COMPARISONS:
        _match(missing, added, (source, target), (left, right))
    return missing, added


def numbers_of(text: str) -> list[_Number]:
    """Return the numbers of a text in order."""
    if not text.isascii():
        text = _DIGITS.sub(lambda run: "".join(str(unicodedata.digit(digit)) for digit in run[0]), text)
    found = []
    for match in _NUMBER.finditer(text):
        whole = "".join(_DIGITS.findall(match["grouped"] or match["whole"] or match["run"]))
        fraction = (match["fraction"] or match["part"] or "").rstrip("0")
        digits = (whole + fraction).rstrip("0")
        exponent = len(whole) - len(digits)
        found.append(_Number(digits.lstrip("0"), exponent, tuple(_DIGITS.findall(match[0]))))
    return found


def _without(numbers: Sequence[_Number], others: Sequence[_Number]) -> list[_Number]:
    """Return the numbers that `others` lack, zeros left out."""
    there = Counter(other.value for other in others)
    rest = []
    for number in numbers:
        there[number.value] -= 1
        if there[number.value] < 0 and number.digits:
            rest.append(number)
    return rest


def _match(
    missing: list[_Number], added: list[_Number], texts: tuple[str, str], numbers: tuple[list[_Number], list[_Number]]
) -> None:
    """Remove from both lists the numbers that match in another form."""
    scales = [{0, *(power for word, powers in _SCALES if word.search(text) for power in powers)} for text in texts]
    shifts = {left - right for left in scales[0] for right in scales[1]}
    _pair_off(missing, added, lambda one, other: one.digits == other.digits and other.exponent - one.exponent in shifts)
    clock = any(_CLOCK.search(text) for text in texts)
    _match_joined(missing, added, numbers[1], clock)
    _match_joined(added, missing, numbers[0], clock)
    _pair_off(missing, added, _is_rounded)
    _take_apart(missing, added, clock)
    _take_apart(added, missing, clock)
    missing[:], added[:] = _without(missing, added), _without(added, missing)
    _pair_off(missing, added, _is_short_year)


def _pair_off(missing: list[_Number], added: list[_Number], alike: Callable[[_Number, _Number], bool]) -> None:
    """Remove matching pairs of numbers, one from each side."""
    for number in list(missing):
        other = next((other for other in added if alike(number, other)), None)
        if other is not None:
            missing.remove(number)
            added.remove(other)


def _match_joined(missing: list[_Number], added: list[_Number], others: Sequence[_Number], clock: bool) -> None:
    """Match integers whose digits the other side splits into several runs: 20090612 and 2009-06-12.

    With `clock`, decimals on the other side may be times: 1530 and 15.30.
    """
    for number in [number for number in missing if len(number.integer) >= _LONG]:
        for start in range(len(others)):
            pieces = _pieces(number.integer, others[start:], clock)
            if pieces and not Counter(piece for piece in pieces if piece.digits) - Counter(added):
                missing.remove(number)
                for piece in pieces:
                    if piece.digits:
                        added.remove(piece)
                break


def _pieces(wanted: str, others: Sequence[_Number], clock: bool) -> Sequence[_Number]:
    """Return the leading numbers of `others` whose digits together make up an integer."""
    joined, runs = "", 0
    for count, other in enumerate(others, 1):
        if other.exponent < 0 and not clock:
            return ()
        joined, runs = joined + "".join(other.runs), runs + len(other.runs)
        if runs > 1 and joined.lstrip("0") == wanted:
            return others[:count]
        if len(joined.lstrip("0")) >= len(wanted):
            return ()
    return ()


def _take_apart(numbers: list[_Number], others: Sequence[_Number], clock: bool) -> None:
    """Replace a decimal by its two integers if the other side has them: 3.30 and 15:30, SUM(1,2) and SUM(1;2).

    With `clock`, one integer in common is enough, even inside a decimal: 3.30 and 15.30 may be the same time.
    """
    runs = {run.lstrip("0") for other in others for run in other.runs}
    for number in [number for number in numbers if number.exponent < 0]:
        parts = [part for run in number.runs if (part := numbers_of(run)[0]).digits]
        if not Counter(parts) - Counter(others) or (clock and any(part.integer in runs for part in parts)):
            numbers.remove(number)
            numbers += parts


def _is_rounded(one: _Number, other: _Number) -> bool:
    """Return whether one decimal is the other with fewer digits."""
    few, many = sorted((one, other), key=lambda number: -number.exponent)
    if few.exponent > -_ROUNDED or max(len(one.digits), len(other.digits)) > 40:
        return False
    unit = 10 ** (few.exponent - many.exponent)
    return abs(int(few.digits) * unit - int(many.digits)) < unit


def _is_short_year(one: _Number, other: _Number) -> bool:
    """Return whether one number is a year and the other its last two digits."""
    short, long = sorted((one.integer, other.integer), key=len)
    return len(short) == 2 and len(long) == 4 and long.endswith(short) and long.startswith(_CENTURIES)
