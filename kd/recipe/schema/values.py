"""Describe in plain words which values a setting accepts, from its type in the schema."""

from __future__ import annotations

import difflib
import re
import typing
from typing import TYPE_CHECKING, Any

from kd.base.errors import UserError
from kd.recipe.schema.search import nearest
from kd.recipe.schema.walk import choices, is_config, is_mapping, split_key, type_at, without_none

if TYPE_CHECKING:
    from omegaconf.errors import OmegaConfBaseException

_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d+(?:e[+-]?\d+)?)", re.ASCII | re.IGNORECASE)


def type_name(kind: Any) -> str:
    """Return a type in words: `whole number`, `text or null`, `one of: fp32, fp16`."""
    kind, optional = without_none(kind)
    if is_mapping(kind) or is_config(kind):
        name = "mapping"
    elif typing.get_origin(kind) in (list, tuple):
        name = f"list of {type_name(typing.get_args(kind)[0])}s"
    elif kind in _PLAIN:
        name = _PLAIN[kind].removeprefix("a ")
    else:
        name = ", ".join(choices(kind)) or "any value"
    return f"{name} or null" if optional else name


def wrong_setting(error: OmegaConfBaseException, prefix: str, schema: type) -> UserError:
    """Return the error for a key or value that OmegaConf refuses in a config of `schema`, called `prefix`."""
    key = str(error.full_key or "")
    names = split_key(schema, key, holds_mapping=True)
    if names:
        return wrong_value(f"{prefix}.{key}", type_at(schema, names), error.value)
    near = nearest(key, schema)
    hint = f"Did you mean {' or '.join(f'{prefix}.{each}' for each in near)}?" if near else "See `kd settings`."
    return UserError(f"There is no setting called {prefix}.{key}.", hint)


def wrong_value(key: str, kind: Any, value: Any) -> UserError:
    """Return the error for a value whose type does not match its key."""
    shown = "null" if value is None else value if str(value) else "it is empty"
    return UserError(f"The value of {key} is not valid: {shown}.", takes(key, kind, value))


def with_decimal_point(kind: Any, value: str) -> str | None:
    """Return `0.002` for `0,002` if the type is a number with decimals; None for any other value."""
    found = _DECIMAL_COMMA.fullmatch(value.strip(" '\""))
    return ".".join(found.groups()) if found and without_none(kind)[0] is float else None


def takes(key: str, kind: Any, value: Any) -> str:
    """Return a sentence on the values that a key accepts."""
    inner, optional = without_none(kind)
    if value is None and not optional:
        return "It cannot be null."
    if point := with_decimal_point(kind, str(value)):
        return f"Write {key}={point}."
    if inner in _PLAIN:
        return f"Set it to {_PLAIN[inner]}."
    if words := choices(inner):
        near = difflib.get_close_matches(str(value).lower(), words, n=1)
        return f"Choose one of: {', '.join(words)}." + (f" Did you mean {near[0]}?" if near else "")
    if is_config(inner):
        return f"Set its keys individually: {key}.KEY=VALUE."
    if is_mapping(inner):
        return "It takes a mapping, such as {NAME: VALUE}."
    if typing.get_origin(inner) in (list, tuple):
        given = value if isinstance(value, str | int | float) else "VALUE"
        return f"Write it as a list: {key}=[{given}]."
    return "`kd settings` lists the accepted values."
