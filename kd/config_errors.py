"""What Hydra and OmegaConf object to in a recipe, as one sentence that names the key, and one that mends it.

Their own messages run over several lines and speak of nodes and merges; `kd/recipes.py` lets none of them through.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from kd.errors import UserError
from kd.pipeline.plan import unknown


def as_user_error(error: Exception, prefix: str = "") -> UserError:
    """One sentence for what Hydra or OmegaConf objects to."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return unknown(f"choice of {group}", choice, error.options)
    if choice_of := re.search(r"You must specify '([\w/]+)'.*?Available options:\s*(.*)", str(error), re.DOTALL):
        options = ", ".join(choice_of[2].split())
        return UserError(f"No {choice_of[1]} was chosen.", f"Say {choice_of[1]}= with one of: {options}.")
    # The innermost says most, but may still hold OmegaConf's placeholders, which an outer one has filled in.
    found = [inner for inner in _chain(error) if isinstance(inner, OmegaConfBaseException)]
    causes = [inner for inner in found if "$VALUE" not in str(inner)]
    cause: BaseException = causes[-1] if causes else error
    told = one_line(cause)
    overridden = re.match(r"Error merging override ([^=]+)=", str(error))
    key = overridden.group(1).lstrip("+~") if overridden else str(getattr(cause, "full_key", "") or "")
    where = ".".join(part for part in (prefix, key) if part)
    if isinstance(cause, MissingMandatoryValue | InterpolationToMissingValueError):
        return UserError(
            f"A setting has no value: {where or told}.", "Give it one on the command line or in the recipe."
        )
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) or "not in '" in told:
        return UserError(f"There is no setting called {where or told}.", _nearest(cause))
    if isinstance(cause, InterpolationResolutionError):
        return UserError(f"A value refers to a key that is not there: {told}.", "Correct the reference.")
    if "is not a subclass of" in told and where:
        return UserError(f"{where} cannot be added so.", "Write a new entry whole, such as '+pairs={de-en: {}}'.")
    if isinstance(cause, OmegaConfBaseException) and where:
        return UserError(f"The value of {where} does not fit: {told}.", "Give it what kd/config/ says of it.")
    return UserError(f"{told}.", "`--cfg job` prints the config as it is composed.")


def _nearest(cause: BaseException) -> str:
    key, parent = getattr(cause, "key", None), getattr(cause, "parent_node", None)
    known = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
    near = difflib.get_close_matches(str(key), known, n=1)
    return f"Did you mean {near[0]}?" if near else "`--cfg job` prints all there are."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_line(error: BaseException) -> str:
    """What an error says, without what Hydra and OmegaConf say of their own objects."""
    text = re.split(r"\n(?:Config search path|full_key:|See https)", str(error).strip())[0]
    lines = [re.sub(r"(?:reference|object)_type=.*|full_key:.*", "", line).strip() for line in text.split("\n")]
    return ", ".join(line.rstrip(":,") for line in lines if line).rstrip(".")
