"""Read overrides (`key=value`, in Hydra's grammar) and rewrite overrides of named entries so that Hydra accepts them.

Hydra's grammar allows no `/` in a key and treats every dot as a level, and OmegaConf cannot assign a plain mapping to a
typed entry. Therefore `+machine.binds./data=/data` becomes `+machine.binds={/data: /data}`, which both accept.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
import sys
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from hydra.errors import HydraException

from kd.base import resources
from kd.base.errors import UserError
from kd.recipe.schema.recipe import RecipeConfig
from kd.recipe.schema.values import with_decimal_point
from kd.recipe.schema.walk import hints, is_config, is_mapping, split_key, type_at, without_none

HYDRA_NAME = re.compile(r"[A-Za-z_$][\w$-]*|0|[1-9]\d*", re.ASCII)  # a level of a key in Hydra's grammar


@dataclass(frozen=True)
class Given:
    """An override as typed."""

    text: str
    prefix: str  # "", +, ++ or ~
    key: str
    value: str | None  # None: `~key`

    def with_value(self, value: str) -> Given:
        """Return the same override with another value."""
        return Given(f"{self.prefix}{self.key}={value}", self.prefix, self.key, value)


def read(text: str) -> Given:
    """Split an override into prefix, key and value."""
    key, equals, value = text.partition("=")
    name = key.lstrip("+~")
    return Given(text, key.removesuffix(name) if name else key, name, value if equals else None)


def groups() -> dict[str, list[str]]:
    """Return the config groups with the names of their files, from the user's conf/ and kd's."""
    found: dict[str, set[str]] = {}
    for root in (Path.cwd() / "conf", resources.folder("conf")):
        for file in root.glob("*/*.yaml"):
            found.setdefault(file.parent.name, set()).add(file.stem)
    return {group: sorted(found[group]) for group in sorted(found)}


def prepare(overrides: Sequence[str]) -> list[str]:
    """Return overrides in the form that Hydra accepts; raises UserError for an invalid override."""
    known = groups()
    return [_prepared(read(text), known) for text in overrides]


def _prepared(given: Given, known: dict[str, list[str]]) -> str:
    if given.value is None:
        return given.text
    parsed = parse_value(given)
    if parsed.is_sweep_override():
        raise _several_values(given, given.key in known)
    value = parsed.value()
    if given.key in known and not given.prefix.startswith("~") and not isinstance(value, str | dict):
        raise UserError(
            f"{given.text} is not a valid choice: {given.key} is a group of settings.",
            f"Choose a file of conf/{given.key}/ (one of: {', '.join(known[given.key])}), "
            f"such as {given.key}={known[given.key][0]}.",
        )
    kind = hints(RecipeConfig).get(given.key)
    if kind is not None and is_config(kind) and given.key not in known and isinstance(value, str):
        keys = " ".join(f"{given.key}.{field.name}=…" for field in dataclasses.fields(kind)[:2])
        raise UserError(f"{given.text} sets no key: {given.key} is a group of settings.", f"Set its keys: {keys}.")
    return spell_out(given, isinstance(value, dict))


def spell_out(given: Given, holds_mapping: bool) -> str:
    """Return the override of a named entry as a mapping, and every other override unchanged."""
    names = split_key(RecipeConfig, given.key, holds_mapping=holds_mapping)
    if not names or given.prefix == "~":
        return given.text
    if holds_mapping and not given.prefix and is_mapping(without_none(type_at(RecipeConfig, names))[0]):
        return f"+{given.text}"  # entries are added to a mapping that was typed whole
    level = next((n for n in range(1, len(names)) if _is_open(type_at(RecipeConfig, names[:n]))), None)
    if level is None or not _needs_mapping(given, names, level):
        return given.text
    value = given.value if given.value and given.value.strip() else "''"
    for name in reversed(names[level:]):
        value = f"{{{_escaped(name)}: {value}}}"
    return f"{given.prefix}{'.'.join(names[:level])}={value}"


def _is_open(kind: Any) -> bool:
    kind, _ = without_none(kind)
    return is_mapping(kind) or kind is Any


def _needs_mapping(given: Given, names: list[str], level: int) -> bool:
    if not all(HYDRA_NAME.fullmatch(name) for name in names[level:]):
        return True
    return bool(given.prefix) and is_config(without_none(type_at(RecipeConfig, names[: level + 1]))[0])


def _escaped(name: str) -> str:
    return re.sub(r"([\\()\[\]{}:=,\s])", r"\\\1", name)


def parse_value(given: Given) -> Override:
    """Parse an override's value with Hydra; raises UserError for a value outside its grammar."""
    try:
        return OverridesParser.create().parse_override(f"value={given.value}")
    except HydraException:
        raise _unreadable(given) from None
    except ValueError:  # of Python, which reads no longer integer
        most = f"{sys.get_int_max_str_digits():,}"
        raise UserError(f"The value of {given.key} has a number of more than {most} digits.", "Give another.") from None


def _several_values(given: Given, is_group: bool) -> UserError:
    """Return the error for a sweep without `-m`, with the alternative forms for this key."""
    hint = f"For a sweep add -m: -m {shlex.quote(given.text)}."
    names = split_key(RecipeConfig, given.key)
    kind = None if is_group or names is None else without_none(type_at(RecipeConfig, names))[0]
    if point := with_decimal_point(kind, str(given.value)):
        hint = "" if point.lstrip("+-").startswith("0") else f" {hint}"  # few sweep over 0 and another number
        text = f"Type {given.prefix}{given.key}={point}.{hint}"
        return UserError(f"{given.value} is not a number; write {point}.", text)
    if kind is str or kind is Any:
        hint += f" One text with commas is {shlex.quote(f'{given.prefix}{given.key}={quoted(str(given.value))}')}."
    if typing.get_origin(kind) in (list, tuple) or kind is Any:
        hint += f" A list is {shlex.quote(f'{given.prefix}{given.key}=[{given.value}]')}."
    return UserError(f"{given.text} has several values.", hint)


def _unreadable(given: Given) -> UserError:
    value = str(given.value)
    quotes = value.count("'") % 2 or value.count('"') % 2
    if value.count("{") != value.count("}") or value.count("[") != value.count("]") or (quotes and value[:1] in "'\""):
        return UserError(
            f"The braces, brackets or quotes of {given.text} are not closed.",
            "Close them, and quote the argument for the shell, such as 'report.title=\"My title\"'.",
        )
    return UserError(
        f"The value of {given.key} cannot be read: {value}.",
        "A text with spaces or special characters needs quotes, and a second pair for the shell: "
        + shlex.quote(f"{given.prefix}{given.key}={quoted(value)}"),
    )


def quoted(text: str) -> str:
    """Return a text in those quotes of Hydra's grammar that need the fewest escapes."""
    quote = Quote.single if '"' in text and "'" not in text else Quote.double
    return QuotedString(text, quote).with_quotes()


def variants(overrides: Iterable[str]) -> list[list[str]]:
    """Return the combinations of a sweep's values, each a list of overrides with one value."""
    values: dict[str, list[str]] = {}
    for given in map(read, overrides):
        values[f"{given.prefix}{given.key}"] = _values(given)
    return [list(combination) for combination in dict.fromkeys(itertools.product(*values.values()))]


def is_sweep(text: str) -> bool:
    """Return whether an override has several values to sweep over."""
    given = read(text)
    return given.value is not None and parse_value(given).is_sweep_override()


def _values(given: Given) -> list[str]:
    if given.value is None:
        return [given.text]
    parsed = parse_value(given)
    if not parsed.is_sweep_override():
        return [given.text]
    pattern: Any = parsed.value()
    if isinstance(pattern, Glob):
        values = pattern.filter(groups().get(given.key, []))
    elif parsed.is_discrete_sweep():
        values = list(parsed.sweep_string_iterator())
    else:
        raise UserError(f"{given.text} has infinitely many values.", "List them, as in seed=1,2,3 or seed=range(1,4).")
    if not values:
        raise UserError(f"{given.text} matches no file of conf/{given.key}/.", f"There are: {_files(given.key)}.")
    return [given.with_value(value).text for value in values]


def _files(group: str) -> str:
    return ", ".join(groups().get(group, [])) or "none"
