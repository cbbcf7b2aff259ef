"""Turn configs into fingerprints: the names under which the store keeps the outputs of tasks.

Two tasks with equal fingerprints make equal output, so nothing is computed twice and nothing is ever overwritten.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

LENGTH = 16  # hexadecimal digits: 64 bits, against a store of some thousand artifacts


def canonical(value: Any) -> Any:
    """Return a value as plain JSON types; raises TypeError for a type without a stable form."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be part of a fingerprint")


def digest(value: Any) -> str:
    """Return the fingerprint of a value: the first 64 bits of the SHA-256 of its canonical JSON."""
    text = json.dumps(canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def is_fingerprint(name: str) -> bool:
    """Return whether a name has the form of a fingerprint."""
    return re.fullmatch(rf"[0-9a-f]{{{LENGTH}}}", name) is not None


def identity_and_extent(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a config dataclass by its fields' metadata into identity (which work) and extent (how much of it).

    Transient fields are in neither. A field at its class's default is left out, so a new field whose default keeps the
    old behaviour changes no fingerprint. Raise the kind's version when you change a default.
    """
    identity: dict[str, Any] = {}
    extent: dict[str, Any] = {}
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        role = spec.metadata.get("fingerprint")
        if role == "transient" or _is_default(spec, value):
            continue
        if role == "extent":
            extent[spec.name] = canonical(value)
        elif dataclasses.is_dataclass(value):
            inner, further = identity_and_extent(value)
            if inner:
                identity[spec.name] = inner
            if further:
                extent[spec.name] = further
        elif value and isinstance(value, Mapping) and all(dataclasses.is_dataclass(item) for item in value.values()):
            parts = {str(key): identity_and_extent(item) for key, item in value.items()}
            identity[spec.name] = {key: inner for key, (inner, _) in parts.items()}
            if any(further for _, further in parts.values()):
                extent[spec.name] = {key: further for key, (_, further) in parts.items() if further}
        else:
            identity[spec.name] = canonical(value)
    return identity, extent


def _is_default(spec: dataclasses.Field[Any], value: Any) -> bool:
    if spec.default is not dataclasses.MISSING:
        return bool(value == spec.default)
    return spec.default_factory is not dataclasses.MISSING and bool(value == spec.default_factory())


def restore(form: Any, value: Any) -> Any:
    """Rebuild a value of the type `form` from the plain values that `canonical` returned for it.

    Args:
        form: The annotation of the value: a dataclass, an Enum, a path, a mapping, a list, a union or a plain type.
        value: Plain JSON values.

    Raises:
        TypeError: A dataclass has no such field, or lacks a value for one.
        ValueError: An Enum has no such value.
    """
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (form, *others) = [each for each in arguments if each is not type(None)]
        return value if others else restore(form, value)
    if dataclasses.is_dataclass(form) and isinstance(form, type):
        forms = typing.get_type_hints(form)
        return form(**{name: restore(forms.get(name, Any), item) for name, item in value.items()})
    if isinstance(form, type) and issubclass(form, Enum):
        return form(value)
    if form is Path:
        return Path(value)
    if isinstance(value, dict) and len(arguments) == 2:
        return {restore(arguments[0], key): restore(arguments[1], item) for key, item in value.items()}
    if isinstance(value, list) and arguments:
        return [restore(arguments[0], item) for item in value]
    return value
