"""Convert errors of Hydra and OmegaConf into a sentence that names the key, and one that states what to type instead.

Key and value come from the error's attributes, the allowed values from the schema.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from kd.base.errors import UserError
from kd.base.text import unknown_name
from kd.recipe.overrides import Given, read
from kd.recipe.schema.recipe import FILES_PAIR, RecipeConfig
from kd.recipe.schema.search import nearest, search
from kd.recipe.schema.values import wrong_value
from kd.recipe.schema.walk import is_config, settings, split_key, type_at, without_none


def as_user_error(
    error: Exception, prefix: str = "", schema: type = RecipeConfig, typed: Sequence[str] = ()
) -> UserError:
    """Return the error to show for an error of Hydra or OmegaConf.

    Args:
        error: The original error.
        prefix: Key of the merged config if it is a part of the recipe.
        schema: Config dataclass that the keys belong to.
        typed: The overrides as typed, so that the hint can propose a correction.
    """
    return _of_a_choice(error) or _of_a_setting(error, prefix, schema, typed)


def _of_a_choice(error: Exception) -> UserError | None:
    """Return the error for the choice of a config group's file; None if the error is about a setting."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return unknown_name(f"choice of {group}", choice, error.options)
    if choice_of := re.search(r"You must specify '([\w/]+)'.*?Available options:\s*(.*)", str(error), re.DOTALL):
        options = choice_of[2].split()
        hint = f"Add for instance {choice_of[1]}={options[0]}; there are: {', '.join(options)}."
        return UserError(f"No {choice_of[1]} was chosen.", hint)
    if absent := re.search(r"Could not delete from config\. '([^']+)'", str(error)):
        return _unknown_key("", absent[1], None, None, RecipeConfig)
    return None


def _of_a_setting(error: Exception, prefix: str, schema: type, typed: Sequence[str]) -> UserError:
    found = [inner for inner in _chain(error) if isinstance(inner, OmegaConfBaseException)]
    # The innermost error is the most specific, unless only an outer one was given the key.
    cause = next((inner for inner in reversed(found) if inner.full_key), found[-1] if found else None)
    given = _override(str(error))
    if given and "An item is already at" in str(error):
        return UserError(f"The setting {given.key} already exists.", f"Leave out the + to change it: {given.text[1:]}")
    key = str((cause.full_key if cause else "") or (given.key if given else ""))
    given = next((each for each in map(read, typed) if each.key == key), given)
    where = ".".join(part for part in (prefix, key) if part)
    if isinstance(cause, MissingMandatoryValue | InterpolationToMissingValueError):
        return UserError(
            f"A setting has no value: {where or one_line(error)}.", "Give it one on the command line or in the recipe."
        )
    if isinstance(cause, InterpolationResolutionError):
        return _reference(where, one_line(cause))
    file = f" (in {named[1]})" if (named := re.search(r"(?:^|\n)In '([^']+)'", str(error))) else ""
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _unknown_key(prefix, key, given, cause, schema, file)
    names = split_key(schema, key, holds_mapping=True)
    if cause is None or not where or names is None:
        return UserError(f"{one_line(error)}{file}.", "`kd run --cfg job` prints the composed config.")
    value = cause.value
    if given and given.key == key:
        value = None if given.value in (None, "null") else given.value
    return _wrong_value(where, type_at(schema, names), value, file)


def _override(message: str) -> Given | None:
    """Return the override that Hydra names in a message, as typed."""
    patterns = (
        r"Error merging override (.*)",
        r"To append to your config use \+([^\n]*)",
        r"Or add a second \+ to add or override '[^']*': '\+(.*?)'\s*$",
    )
    found = next((match for pattern in patterns if (match := re.search(pattern, message, re.DOTALL))), None)
    return read(found[1]) if found else None


def _reference(key: str, told: str) -> UserError:
    if "Recursive interpolation" in told:
        return UserError(
            f"The value of {key or 'a setting'} refers to itself.", "Set it to a value instead of a reference."
        )
    return UserError(f"{key or 'A value'} refers to a key that does not exist: {told}.", "Correct the reference.")


def _wrong_value(key: str, kind: Any, value: Any, file: str) -> UserError:
    if is_config(without_none(kind)[0]) and not isinstance(value, dict | DictConfig):
        return UserError(
            f"{key} is a group of settings, but its value is {'null' if value is None else value}{file}.",
            f"Set its keys individually; `kd settings {key}` lists them.",
        )
    error = wrong_value(key, kind, value)
    return UserError(f"{error.problem.removesuffix('.')}{file}.", error.hint)


def _unknown_key(
    prefix: str, key: str, given: Given | None, cause: OmegaConfBaseException | None, schema: type, file: str = ""
) -> UserError:
    """Return the error for a key that does not exist, with the most likely intended keys."""
    above = f"{prefix}." if prefix else ""
    problem = f"There is no setting called {above}{key}{file}."
    value = f"={given.value}" if given and given.value and given.key == key else ""
    parent = getattr(cause, "parent_node", None)
    entries = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
    if entries == [FILES_PAIR] and key.startswith("pairs.") and "-" in key:
        source, _, target = key.removeprefix("pairs.").partition("-")
        return UserError(
            problem, f"Set its languages: pairs.{FILES_PAIR}.source={source} pairs.{FILES_PAIR}.target={target}"
        )
    below = given if given and given.value and given.key.startswith(f"{key}.") else None  # `valid.src` where key: valid
    if below and (near := nearest(below.key, schema, elsewhere=False)):
        return UserError(
            f"There is no setting called {above}{below.key}{file}.", f"Did you mean {above}{near[0]}={below.value}?"
        )
    are_names = isinstance(parent, DictConfig) and OmegaConf.get_type(parent) is dict  # the user chooses them
    near = nearest(key, schema, entries, elsewhere=not (are_names and given))
    if near:
        return UserError(problem, f"Did you mean {' or '.join(f'{above}{each}{value}' for each in near)}?")
    if are_names and given:
        return UserError(problem, f"To add an entry, prefix it with +: {shlex.quote(f'+{given.key}={given.value}')}")
    word = key.rpartition(".")[2]
    if search([word], settings(RecipeConfig)):
        return UserError(problem, f"`kd settings {shlex.quote(word)}` searches all settings.")
    return UserError(problem, "`kd settings` lists all settings.")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_line(error: BaseException) -> str:
    """Return an error's message without the details that Hydra and OmegaConf add about their own objects."""
    text = re.split(r"\n(?:Config search path|full_key:|See https)", str(error).strip())[0]
    lines = [re.sub(r"(?:reference|object)_type=.*|full_key:.*", "", line).strip() for line in text.split("\n")]
    return ", ".join(line.rstrip(":,") for line in lines if line).rstrip(".")
