"""Dataclasses as JSON values and back, checked against their annotations.

Of annotations it knows what the report's records use: str, int, float, bool, enumerations, `X | None`, lists, dicts
with text keys, tuples of fixed length and other dataclasses.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from enum import Enum
from typing import Any


def plain(value: Any) -> Any:
    """Turn a record into dicts, lists, text and numbers; JSON has no NaN and no infinity, so those become None."""
    if dataclasses.is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def record(kind: Any, value: Any, where: str) -> Any:
    """Build what the annotation `kind` says out of JSON's values.

    Raises ValueError for an unknown or missing key, or a value of another type; it begins with the place, counted from
    `where`.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # X | None
        return None if value is None else record(arguments[0], value, where)
    if origin is list and isinstance(value, list):
        return [record(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(record(each, item, where) for each, item in zip(arguments, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return {key: record(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _dataclass(kind, value, where)
    return _scalar(kind, value, where)


def _dataclass(kind: Any, value: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(kind)
    if unknown := value.keys() - hints.keys():
        raise ValueError(f"{where} has no {', '.join(sorted(unknown))}")
    fields = {key: record(hints[key], item, f"{where}.{key}") for key, item in value.items()}
    try:
        return kind(**fields)
    except TypeError as error:  # a field without a default is missing
        raise ValueError(f"{where}: {error}") from error


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, type):
        if issubclass(kind, Enum) and value in [member.value for member in kind]:
            return kind(value)
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:  # JSON writes 3.0 as it likes
            return float(value)
    raise ValueError(f"{where} is {value!r}, not {kind}")
