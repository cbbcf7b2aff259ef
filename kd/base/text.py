"""Format durations and sizes, and suggest the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from kd.base.errors import UserError

SIMILARITY = 0.6  # of two names, 0 to 1, from which one is suggested for the other (difflib's default)
_TAIL_BYTES = 16384  # of a log that are read for its last lines


def did_you_mean(name: str, known: Iterable[str], *, count: int = 1, similarity: float = SIMILARITY) -> str:
    """Return "Did you mean A or B?" with up to `count` known names nearest to `name`; empty if none is near."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=count, cutoff=similarity)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Build the error for a name that does not exist; its hint is the nearest known name, or all of them."""
    names = sorted(set(known))
    hint = did_you_mean(name, names) or f"There are: {', '.join(names) or 'none'}."
    return UserError(f"There is no {what} called {name}.", hint)


def duration(seconds: float) -> str:
    """Format seconds in the two largest units: `3.2 s`, `48 s`, `4 min 12 s`, `2 h 05 min`, `3 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def amount(value: float) -> str:
    """Format a number with one decimal below 100, without decimals above, with two significant digits below 1."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def size(number: float) -> str:
    """Format bytes in decimal units: `999 B`, `15.0 kB`, `2.5 GB`, `120 GB`."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} B" if unit == "B" else f"{amount(value)} {unit}"
        value /= 1000
    return f"{amount(value)} TB"


def last_lines(log: Path, number: int) -> list[str]:
    """Return the last lines of a log file; a line that a progress bar rewrote appears in its last state.

    Returns an empty list for a file that is empty or cannot be read.
    """
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = handle.read().decode("utf-8", "replace").rstrip()
    except OSError:
        return []
    return [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")[-number:]] if text else []
