"""Declare settings: the default of a key, and its meaning, unit, bounds and role as metadata of the dataclass field.

Validation, `kd settings`, docs/settings.md, the JSON Schema and shell completion are derived from this metadata;
`kd/pipeline/fingerprint.py` reads the role. docs/development.md shows how to add a setting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

MISSING: Any = "???"  # OmegaConf's mark of a mandatory value; spelt here, so that the schema needs no OmegaConf
EXTENT = {"fingerprint": "extent"}
TRANSIENT = {"fingerprint": "transient"}


def same_as(key: str) -> Any:
    """Return OmegaConf's reference to another key, as the default of a field of any type."""
    return "${" + key + "}"


def setting(
    meaning: str,
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] | None = None,
    unit: str = "",
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    path: bool = False,
    extent: bool = False,
    transient: bool = False,
) -> Any:
    """Declare a field of a config dataclass.

    Args:
        meaning: One sentence on the effect of the setting; shown by `kd settings` and in docs/settings.md.
        default: Value if neither conf/ nor a recipe sets one; MISSING (`???`) if one of them must.
        factory: Makes the default instead, for mappings, lists and nested configs.
        unit: What a number counts or measures: updates, target tokens, GB, hours.
        at_least: Smallest allowed value. For a list or mapping, bounds hold for each of its values.
        above: Bound that the value must exceed.
        at_most: Largest allowed value.
        below: Bound that the value must stay under.
        choices: Allowed values of a text, if its type cannot be an Enum.
        aliases: Other toolkits' names for the key; searches find them and errors propose the key.
        path: Whether the value is a path; paths are made absolute when a recipe is composed.
        extent: Whether the value is the extent of the same work: a longer task resumes from a shorter one.
        transient: Whether the value never changes the outcome of the work, and so is not part of the fingerprint.
    """
    assert not (extent and transient), "a setting cannot be both extent and transient"
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata: dict[str, Any] = {"meaning": meaning, "unit": unit, "choices": choices, "aliases": aliases, "path": path}
    metadata.update({name: bound for name, bound in bounds.items() if bound is not None})
    metadata.update(EXTENT if extent else TRANSIENT if transient else {})
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
