"""Format the values of a forecast for people; a value that is not known is `unknown`."""

from __future__ import annotations

from collections.abc import Callable

from kd.base import text
from kd.base.estimate import UNKNOWN, Estimate
from kd.base.text import duration

_ONE = {"hypotheses": "hypothesis"}


def size(value: float | None) -> str:
    """Format bytes in a suitable unit."""
    return UNKNOWN if value is None else text.size(value)


def hours(value: float | None) -> str:
    """Format hours with their significant digits."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    if value < 0.001:
        return "< 0.001"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.01 else f"{value:.1g}"


def time(value: float | None) -> str:
    """Format seconds as a duration."""
    return UNKNOWN if value is None else duration(value)


def shown(estimate: Estimate, show: Callable[[float | None], str]) -> str:
    """Format a sum; if it is unknown, the sum of its known parts."""
    more = estimate.value is None and estimate.at_least > 0
    return f"{UNKNOWN}, at least {show(estimate.at_least)}" if more else show(estimate.value)


def number(value: float | None) -> str:
    """Format a count."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def count(value: float | None, unit: str) -> str:
    """Format a count with its unit: 1 model, 2 models."""
    return f"{number(value)} {_ONE.get(unit, unit.removesuffix('s')) if value == 1 else unit}"


def tokens(value: float | None) -> str:
    """Format a number of tokens, in millions where there are that many."""
    return UNKNOWN if value is None else f"{value / 1e6:,.3g} million" if value >= 1e6 else f"{value:,.0f}"


def money(value: float | None) -> str:
    """Format a price without its currency."""
    return UNKNOWN if value is None else f"{value:,.2f}"


def three_digits(value: float) -> str:
    """Format a number with three significant digits."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else hours(value)
