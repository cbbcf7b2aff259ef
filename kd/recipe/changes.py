"""Tell which values of a recipe the command line changes."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd.base.errors import UserError
from kd.base.urls import mask_text
from kd.recipe.compose import as_user_errors, composed, find
from kd.recipe.request import Request

# Keys of places and computers, which do not change what is trained.
_PLACES = ("run.", "store.", "machine.", "launcher.", "tracking.", "corpus.root", "corpus.cache", "hydra.")


def changes(request: Request, config: DictConfig) -> list[str]:
    """Return the changed values, such as `decode.beam=8 (recipe: 4)`; empty if the recipe alone cannot be composed.

    Args:
        request: The command line. The recipe that values are compared with has its choices of groups (`machine=NAME`).
        config: The recipe's config with its overrides.
    """
    typed = [each.partition("=") for each in request.overrides]
    values = [(key, value) for key, _, value in typed if "." in key and not key.startswith((*_PLACES, "~", "+"))]
    if not values:
        return []
    path = find(request.recipe)
    try:
        with as_user_errors(path):
            before = composed(path, ["=".join((key, value)) for key, _, value in typed if "." not in key])
            return list(_differences(values, before, config))
    except (UserError, OmegaConfBaseException):
        return []


def _differences(values: list[tuple[str, str]], before: DictConfig, after: DictConfig) -> Iterator[str]:
    for key, value in values:
        old, new = (OmegaConf.select(config, key) for config in (before, after))
        if OmegaConf.is_config(old) or OmegaConf.is_config(new):
            yield mask_text(f"{key}={value}")
        elif old != new and str(old) != value:  # a path as in the recipe is absolute by now
            yield mask_text(f"{key}={value} (recipe: {_plain(old)})")


def _plain(value: Any) -> str:
    """Write a value as on the command line."""
    if isinstance(value, Enum):
        value = value.value
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
