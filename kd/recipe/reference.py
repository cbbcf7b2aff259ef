"""Write the reference of settings from the schema: for the terminal, as Markdown, and as a JSON Schema for editors."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd.recipe.origins import COMMAND_LINE, Values
from kd.recipe.schema.recipe import RecipeConfig
from kd.recipe.schema.values import type_name
from kd.recipe.schema.walk import NAME, Setting, choices, hints, is_config, is_mapping, settings, without_none
from kd.recipe.validate import bounds

HEADER = """# Settings

Every key of a recipe, as `kd settings` prints it. The defaults are those of `conf/base.yaml` and the files that it
names; `kd settings recipe=NAME WORDS` shows the values of a recipe and the file that sets each. NAME in a key stands
for a name that you choose. `???` means that there is no default: a recipe or the command line must set the key.

`kd settings --schema` prints a JSON Schema, with which editors complete and check recipes.

This page is generated: `kd settings --markdown > docs/settings.md`.
"""


@dataclass(frozen=True)
class Row:
    """A setting with its value, as the reference shows it."""

    setting: Setting
    value: str
    file: str

    @property
    def type(self) -> str:
        """Type, unit and bounds in words: `whole number of updates, at least 1`."""
        metadata = self.setting.field.metadata
        words = ", ".join(metadata.get("choices", ()))
        number = without_none(self.setting.type)[0] in (int, float)
        name = type_name(self.setting.type) if number else words or type_name(self.setting.type)
        if self.setting.unit:
            name = f"{name} of {self.setting.unit}" if "number" in name else f"{name} ({self.setting.unit})"
        limits = bounds(metadata)
        name = f"{name}, {limits}" if limits else name
        return f"{name}, or {words}" if number and words else name


def rows(values: Values, found: Iterable[Setting] | None = None) -> list[Row]:
    """Return settings with the values of a composed recipe."""
    wanted = settings(RecipeConfig) if found is None else found
    return [Row(setting, _value(values.config, setting), values.file(setting.key)) for setting in wanted]


def _value(config: DictConfig, setting: Setting) -> str:
    if NAME in setting.key:
        default = setting.field.default
        return "" if default is dataclasses.MISSING else _text(default)
    node: Any = config
    *above, leaf = setting.key.split(".")
    for name in above:
        if OmegaConf.is_interpolation(node, name):
            reference = OmegaConf.to_container(node, resolve=False)
            assert isinstance(reference, dict)
            return f"{str(reference[name])[:-1]}.{leaf}}}"
        node = node[name]
    plain = OmegaConf.to_container(node, resolve=False, enum_to_str=True)
    assert isinstance(plain, dict)
    kind, _ = without_none(setting.type)
    if is_mapping(kind) and is_config(typing.get_args(kind)[1]) and isinstance(plain[leaf], dict) and plain[leaf]:
        return "{" + ", ".join(f"{name}: …" for name in plain[leaf]) + "}"
    return _text(plain[leaf])


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(getattr(value, "name", value))


def plain_text(found: Iterable[Row]) -> Iterator[str]:
    """Yield two lines per setting: key and value; meaning, type and the file that sets it."""
    for row in found:
        yield f"{row.setting.key} = {row.value}" if row.value else row.setting.key
        source = (
            "" if not row.file else " Set on the command line." if row.file == COMMAND_LINE else f" Set in {row.file}."
        )
        yield f"    {row.setting.meaning} {_sentence(row)}{source}"


def _sentence(row: Row) -> str:
    """Return the type as a sentence, in which words to type keep their case: `One of beam, sample`."""
    kind = without_none(row.setting.type)[0]
    if row.setting.choices and kind not in (bool, int, float):
        return f"One of {row.type}."
    return f"{row.type[0].upper()}{row.type[1:]}."


def markdown(found: Iterable[Row]) -> str:
    """Return the page docs/settings.md."""
    sections: dict[str, list[Row]] = {}
    for row in found:
        group, dot, _ = row.setting.key.partition(".")
        sections.setdefault(group if dot else "recipe", []).append(row)
    parts = [HEADER]
    fields = {field.name: field for field in dataclasses.fields(RecipeConfig)}
    for group, members in sections.items():
        title = "Keys of the recipe itself." if group == "recipe" else fields[group].metadata["meaning"]
        lines = [f"## {group}", "", title, "", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{row.setting.key}` | {_cell(row.type)} | {f'`{_cell(row.value)}`' if row.value else ''} "
            f"| {_cell(row.setting.meaning)} |"
            for row in members
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def json_schema(config: type = RecipeConfig) -> dict[str, Any]:
    """Return a JSON Schema (draft 7, which editors know) of a recipe's file, or of a file of a config group."""
    schema = _object(config)
    schema["properties"]["defaults"] = {"type": "array", "description": "Hydra's defaults list."}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


def _object(config: type) -> dict[str, Any]:
    properties = {}
    for field in dataclasses.fields(config):
        properties[field.name] = _property(Setting(field.name, hints(config)[field.name], field))
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _property(setting: Setting) -> dict[str, Any]:
    metadata = setting.field.metadata
    unit = f" Unit: {setting.unit}." if setting.unit else ""
    names = {"at_least": "minimum", "above": "exclusiveMinimum", "at_most": "maximum", "below": "exclusiveMaximum"}
    limits = {names[name]: metadata[name] for name in names if name in metadata}
    words = list(metadata.get("choices", ()))
    schema = _with_reference(setting.type, limits if limits or not words else {"enum": words})
    if limits and words:  # a number, or one of some words
        schema["anyOf"].append({"enum": words})
    return {"description": f"{setting.meaning}{unit}", **schema}


_JSON_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}


def _with_reference(kind: Any, limits: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type; in place of any value there may be a reference (`${seed}`) or `???`."""
    inner, optional = without_none(kind)
    if inner is Any:
        return {}
    options = [_of_type(inner, limits)]
    if inner is not str:
        options.append({"type": "string", "pattern": r"^(\$\{.*\}|\?\?\?)$"})
    if optional:
        options.append({"type": "null"})
    return options[0] if len(options) == 1 else {"anyOf": options}


def _of_type(kind: Any, limits: dict[str, Any]) -> dict[str, Any]:
    if is_config(kind):
        return _object(kind)
    if is_mapping(kind):
        return {"type": "object", "additionalProperties": _with_reference(typing.get_args(kind)[1], limits)}
    if typing.get_origin(kind) in (list, tuple):
        return {"type": "array", "items": _with_reference(typing.get_args(kind)[0], limits)}
    if kind in _JSON_TYPES:
        return {"type": _JSON_TYPES[kind], **limits}
    return {"enum": choices(kind)}
