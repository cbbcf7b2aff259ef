"""Walk the schema: every key of a recipe with its type and metadata, and the type at the end of a dotted key.

NAME in a key stands for a name that the user chooses, in a mapping such as `corpus.sources`.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

NAME = "NAME"


@dataclass(frozen=True)
class Setting:
    """One key of a recipe, as the schema declares it."""

    key: str
    type: Any
    field: dataclasses.Field[Any]

    @property
    def leaf(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]

    @property
    def meaning(self) -> str:
        """One sentence on the effect of the setting."""
        return str(self.field.metadata.get("meaning", ""))

    @property
    def unit(self) -> str:
        """The unit of its number; empty for other types."""
        return str(self.field.metadata.get("unit", ""))

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other toolkits' names for it."""
        return tuple(self.field.metadata.get("aliases", ()))

    @property
    def choices(self) -> list[str]:
        """The allowed words; empty if any text is allowed."""
        return list(self.field.metadata.get("choices", ())) or choices(self.type)

    @property
    def is_path(self) -> bool:
        """Whether its value is a path, made absolute when a recipe is composed."""
        return bool(self.field.metadata.get("path"))


@functools.cache
def hints(config: Any) -> Mapping[str, Any]:
    """Return the types of a config dataclass's fields by name, resolved."""
    return typing.get_type_hints(config)


def without_none(kind: Any) -> tuple[Any, bool]:
    """Split an optional type into the inner type and whether it may be null."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [each for each in typing.get_args(kind) if each is not type(None)]
        return inner[0], len(inner) < len(typing.get_args(kind))
    return kind, False


def is_config(kind: Any) -> bool:
    """Return whether a type is a dataclass of the schema."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def is_mapping(kind: Any) -> bool:
    """Return whether a type is a mapping whose names the user chooses."""
    return typing.get_origin(kind) is dict


def choices(kind: Any) -> list[str]:
    """Return the allowed words of a type: an Enum's names, true and false; empty for other types."""
    kind, _ = without_none(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.name for member in kind]
    return ["true", "false"] if kind is bool else []


def settings(config: type, prefix: str = "") -> Iterator[Setting]:
    """Yield every key below a config dataclass in the order of the schema, nested configs included.

    A config that is a reference by default (`teacher.checkpoint` is `${checkpoint}`) is one setting: its keys are those
    of the config that it refers to.
    """
    for field in dataclasses.fields(config):
        kind, _ = without_none(hints(config)[field.name])
        setting = Setting(f"{prefix}{field.name}", hints(config)[field.name], field)
        if is_config(kind) and not isinstance(field.default, str):
            yield from settings(kind, f"{setting.key}.")
            continue
        yield setting
        if is_mapping(kind) and is_config(typing.get_args(kind)[1]):
            yield from settings(typing.get_args(kind)[1], f"{setting.key}.{NAME}.")


def split_key(kind: Any, key: str, *, holds_mapping: bool = False) -> list[str] | None:
    """Split a dotted key into the names on its path through the schema; None if the schema has no such key.

    A name that the user chooses may contain dots: `evaluate.given.opus.mt` is `evaluate`, `given`, `opus.mt`.

    Args:
        kind: The type that the key starts from.
        key: The key.
        holds_mapping: Whether the key's value is a mapping, as an entry such as `corpus.sources.my.corpus` needs.
    """
    if not key:
        return []
    kind, _ = without_none(kind)
    if is_config(kind):
        name, _, rest = key.partition(".")
        if name not in hints(kind):
            return None
        below = split_key(hints(kind)[name], rest, holds_mapping=holds_mapping)
        return None if below is None else [name, *below]
    if is_mapping(kind):
        return _split_entry(typing.get_args(kind)[1], key, holds_mapping)
    return key.split(".") if kind is Any else None


def _split_entry(value: Any, key: str, holds_mapping: bool) -> list[str] | None:
    inner, _ = without_none(value)
    if not (is_config(inner) or is_mapping(inner) or inner is Any):
        return [key]
    parts = key.split(".")
    for end in range(1, len(parts) + 1):
        if end == len(parts) > 1 and not holds_mapping:
            break
        below = split_key(inner, ".".join(parts[end:]), holds_mapping=holds_mapping)
        if below is not None:
            return [".".join(parts[:end]), *below]
    return None


def type_at(kind: Any, names: list[str]) -> Any:
    """Return the type at the end of a path through the schema; Any if the schema leaves it open."""
    for name in names:
        kind, _ = without_none(kind)
        if is_config(kind):
            kind = hints(kind).get(name, Any)
        else:
            kind = typing.get_args(kind)[1] if is_mapping(kind) else Any
    return kind
