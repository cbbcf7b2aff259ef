"""Dataclasses as JSON values and back, checked against their annotations, by msgspec."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Turn a record into dicts, lists, text and numbers; NaN and infinity, which JSON lacks, become None."""
    return msgspec.json.decode(msgspec.json.encode(value))


def record(kind: type[T], value: Any, where: str) -> T:
    """Build a dataclass from JSON values.

    Args:
        kind: The dataclass.
        value: The plain value that `plain` returned.
        where: The value's name in errors.

    Raises:
        ValueError: A key is unknown or missing, or a value has another type; the message names its place.
    """
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        raise ValueError(f"{where}{place.rstrip('`')}: {problem}") from None
    unknown = _unknown(value, plain(found), where)
    if unknown:
        raise ValueError(f"{unknown} is unknown")
    return found


def text(value: Any) -> str:
    """Format a record as indented JSON, one key per line."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n"


def _unknown(value: Any, known: Any, where: str) -> str:
    """Return the path of the first key that the record has no field for; an empty text if all keys fit."""
    if isinstance(value, dict) and isinstance(known, dict):
        missing = next((key for key in value if key not in known), None)
        if missing is not None:
            return f"{where}.{missing}"
        places = ((item, known[key], f"{where}.{key}") for key, item in value.items())
    elif isinstance(value, list | tuple) and isinstance(known, list):
        places = ((item, other, f"{where}[{i}]") for i, (item, other) in enumerate(zip(value, known, strict=False)))
    else:
        return ""
    return next((found for place in places if (found := _unknown(*place))), "")
