"""What Hydra and OmegaConf object to in a recipe, as one sentence that names the key, and one that mends it.

Their own messages run over several lines and speak of nodes and merges; `kd/recipe/compose.py` hides all of them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from hydra.errors import MissingConfigException, OverrideParseException
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
from kd.recipe.schema.recipe import FILES_PAIR
from kd.recipe.schema.values import given_value, kind_of_value

# Names resemble each other from here on (1: the same): `device` and `decode` have 0.67, `metrik` and `metric` 0.83.
ALIKE = 0.7


def as_user_error(error: Exception, prefix: str = "") -> UserError:
    """One sentence for what Hydra or OmegaConf objects to."""
    return _of_an_argument(error) or _of_a_setting(error, prefix)


def _of_an_argument(error: Exception) -> UserError | None:
    """For what is wrong with an argument or a choice by itself; None for what is wrong with a setting."""
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    if several := re.match(r"Ambiguous value for argument '([^=]+)=(.*)'", str(error)):
        name, values = several.groups()
        hint = f"For a sweep add -m; a list is {name}=[{values}]; a text stands in quotes: \"{name}='{values}'\"."
        return UserError(f"{name}={values} is several values.", hint)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return unknown_name(f"choice of {group}", choice, error.options)
    if choice_of := re.search(r"You must specify '([\w/]+)'.*?Available options:\s*(.*)", str(error), re.DOTALL):
        options = ", ".join(choice_of[2].split())
        return UserError(f"No {choice_of[1]} was chosen.", f"Say {choice_of[1]}= with one of: {options}.")
    return None


def _of_a_setting(error: Exception, prefix: str) -> UserError:
    # The innermost says most, but may still hold OmegaConf's placeholders, which an outer one has filled in.
    found = [inner for inner in _chain(error) if isinstance(inner, OmegaConfBaseException)]
    causes = [inner for inner in found if "$VALUE" not in str(inner)]
    cause: BaseException = causes[-1] if causes else error
    told = one_line(cause)
    overridden = re.match(r"Error merging override ([^=]+)=(.*)", str(error))
    key = overridden.group(1).lstrip("+~") if overridden else str(getattr(cause, "full_key", "") or "")
    where = ".".join(part for part in (prefix, key) if part)
    if isinstance(cause, MissingMandatoryValue | InterpolationToMissingValueError):
        return UserError(
            f"A setting has no value: {where or told}.", "Give it one on the command line or in the recipe."
        )
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) or "not in '" in told:
        return UserError(f"There is no setting called {where or told}.", _nearest(cause, where))
    if isinstance(cause, InterpolationResolutionError):
        return UserError(f"A value refers to a key that is not there: {told}.", "Correct the reference.")
    if there := re.search(r"An item is already at '([^']+)'", told):
        return UserError(f"There is a setting {there[1]} already.", f"Change it without the +: {there[1]}=… .")
    if "is not a subclass of" in told and overridden and not overridden.group(1).startswith("+"):
        return UserError(f"{where} is a group of settings.", f"Set one of them: {where}.KEY=… .")
    if "is not a subclass of" in told and where:
        return UserError(f"{where} cannot be added so.", "Write a new entry whole, such as '+pairs={de-en: {}}'.")
    if isinstance(cause, OmegaConfBaseException) and where:
        about = next((full for inner in found if (full := getattr(inner, "full_key", None))), key)
        # Where it is about one of the keys of a mapping that was given, the whole mapping is not what is wrong.
        value = overridden.group(2) if overridden and about == key else given_value(told)
        return _misfit(about if overridden and about.startswith(f"{key}.") else where, value, told)
    return UserError(f"{told}.", "`--cfg job` prints the config as it is composed.")


def _misfit(where: str, value: str | None, told: str) -> UserError:
    """For a value of another kind than its key takes."""
    if hint := kind_of_value(told, where, value):
        return UserError(f"The value of {where} does not fit: {value or 'it is empty'}.", hint)
    return UserError(f"The value of {where} does not fit: {told}.", "`--cfg job` prints what it is without that.")


def _unreadable(override: str) -> UserError:
    """For an argument that Hydra's grammar does not allow, whose parser speaks of tokens."""
    key, equals, value = override.partition("=")
    quotes = value.count("'") % 2 or value.count('"') % 2
    if quotes or value.count("{") != value.count("}") or value.count("[") != value.count("]"):
        hint = "Close them, and quote the argument for the shell, such as '+pairs={de-en: {}}'."
        return UserError(f"The braces, brackets or quotes of {override} are not closed.", hint)
    if not equals or not re.fullmatch(r"[~+]{0,2}[\w./@:$-]+", key):
        return UserError(f"{override} is no setting.", "Write KEY=VALUE, without spaces around the =.")
    hint = f"A text with spaces or signs in it stands in two kinds of quotes: '{key}=\"{value}\"'."
    return UserError(f"The value of {key} cannot be read: {value}.", hint)


def _nearest(cause: BaseException, where: str) -> str:
    """Which key was meant, whole, so that it can be typed."""
    key, parent = str(getattr(cause, "key", "")), getattr(cause, "parent_node", None)
    known = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
    above = where.removesuffix(key)
    if above == "pairs." and "-" in key and known == [FILES_PAIR]:
        source, _, target = key.partition("-")
        return f"Say its languages: pairs.{FILES_PAIR}.source={source} pairs.{FILES_PAIR}.target={target}"
    near = difflib.get_close_matches(key, known, n=1, cutoff=ALIKE)
    if not near and isinstance(parent, DictConfig) and OmegaConf.get_type(parent) is dict:  # names, not settings
        return f"Add an entry of your own with a +, such as +{where}=… ."
    return f"Did you mean {above}{near[0]}?" if near else "`--cfg job` prints all there are."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_line(error: BaseException) -> str:
    """What an error says, without what Hydra and OmegaConf say of their own objects."""
    text = re.split(r"\n(?:Config search path|full_key:|See https)", str(error).strip())[0]
    lines = [re.sub(r"(?:reference|object)_type=.*|full_key:.*", "", line).strip() for line in text.split("\n")]
    return ", ".join(line.rstrip(":,") for line in lines if line).rstrip(".")
