"""Check a composed recipe: values are within their bounds, and no override changes settings that others share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd.base.errors import UserError
from kd.recipe.overrides import read
from kd.recipe.schema.recipe import RecipeConfig
from kd.recipe.schema.walk import hints, is_config, is_mapping, without_none


def check_values(config: DictConfig) -> None:
    """Raise UserError for the first value that is out of the bounds of its setting."""
    _check(config, RecipeConfig, "")


def check_typed(config: Any, prefix: str) -> None:
    """Raise UserError for the first value of a config dataclass that is out of bounds.

    Args:
        config: An instance of a dataclass of the schema.
        prefix: Key of the config in the recipe.
    """
    _check(OmegaConf.structured(config), type(config), f"{prefix}.")


def _check(node: DictConfig, schema: type, prefix: str) -> None:
    for field in dataclasses.fields(schema):
        if _is_unset(node, field.name):
            continue
        key, value = f"{prefix}{field.name}", node[field.name]
        kind, _ = without_none(hints(schema)[field.name])
        for inner_key, inner, inner_kind in _parts(key, value, kind):
            if is_config(inner_kind) and isinstance(inner, DictConfig):
                _check(inner, inner_kind, f"{inner_key}.")
            else:
                _check_value(inner_key, inner, field.metadata)


def _is_unset(node: DictConfig, name: str) -> bool:
    """Return whether a key has no value of its own; a reference is checked at its target."""
    return name not in node or OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name)


def _parts(key: str, value: Any, kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the values to which bounds apply: the value itself, or each value of a list or mapping."""
    if is_mapping(kind) and isinstance(value, DictConfig):
        inner = without_none(kind.__args__[1])[0]
        for name in map(str, value):
            if not _is_unset(value, name):
                yield from _parts(f"{key}.{name}", value[name], inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, item in enumerate(value):
            yield f"{key}[{number}]", item, None
    else:
        yield key, value, kind


def _check_value(key: str, value: Any, metadata: Mapping[str, Any]) -> None:
    words = metadata.get("choices", ())
    if words and isinstance(value, str) and (value if value.lower() != "false" else "off") not in words:
        number = f"a number that is {limits}, or " if (limits := bounds(metadata)) else ""
        raise UserError(f"The value of {key} is not valid: {value}.", f"Set it to {number}one of: {', '.join(words)}.")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise UserError(f"{key} is {value}.", "It must be a finite number.")
    least, above = metadata.get("at_least"), metadata.get("above")
    most, below = metadata.get("at_most"), metadata.get("below")
    if (
        (least is not None and value < least)
        or (above is not None and value <= above)
        or (most is not None and value > most)
        or (below is not None and value >= below)
    ):
        raise UserError(f"{key} is {value}.", f"It must be {bounds(metadata)}.")


def bounds(metadata: Mapping[str, Any]) -> str:
    """Return the bounds of a setting in words: `at least 1`, `above 0 and at most 1`; empty if there are none."""
    words = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
    return " and ".join(f"{words[name]} {metadata[name]:g}" for name in words if name in metadata)


def check_shared(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse `student.checkpoint.every=20` where `student.checkpoint` is `${checkpoint}`, which others share."""
    for override in overrides:
        given = read(override)
        parts = given.key.split(".")
        node: Any = config
        for depth, part in enumerate(parts[:-1], 1):
            if not isinstance(node, DictConfig) or part not in node:
                break
            if OmegaConf.is_interpolation(node, part):
                raise _shared(given.text, node, parts, depth)
            node = node[part]


def _shared(text: str, node: DictConfig, parts: Sequence[str], depth: int) -> UserError:
    raw = OmegaConf.to_container(node, resolve=False)
    assert isinstance(raw, dict)
    shared = str(raw[parts[depth - 1]]).strip("${}")
    key, rest = ".".join(parts[:depth]), ".".join(parts[depth:])
    value = text.partition("=")[2]
    return UserError(
        f"{text} would have side effects: {key} is {shared}, which others share.",
        f"To change all of them, type {shared}.{rest}={value}; to change only this one, set {rest} below {key} in a "
        f"recipe.",
    )
