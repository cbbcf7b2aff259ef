"""Formats durations and sizes, and suggests the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from kd.base.errors import UserError


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Builds the error for a name that does not exist; its hint is the nearest known name, or all of them."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names) or 'none'}."
    return UserError(f"There is no {what} called {name}.", hint)
