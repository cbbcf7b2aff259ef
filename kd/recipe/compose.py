"""Compose a recipe with Hydra, and report every mistake in a config in one sentence before anything runs."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kd.base import resources
from kd.base.errors import UserError
from kd.base.faults import disk_fault
from kd.recipe.chain import plan, settings_key
from kd.recipe.errors import as_user_error
from kd.recipe.find import RECIPE_FILE, find, recipes
from kd.recipe.overrides import prepare, quoted
from kd.recipe.paths import (
    drop_absent_files,
    keep_standard_input,
    make_paths_absolute,
    mask_urls,
    refuse_secrets,
)
from kd.recipe.request import Request, parse_request, sweep
from kd.recipe.schema.recipe import RecipeConfig
from kd.recipe.schema.walk import hints, is_config, is_mapping, without_none
from kd.recipe.validate import check_shared, check_values

# The steps of reading a recipe, for callers that need several of them.
__all__ = [
    "Request",
    "compose",
    "find",
    "parse_request",
    "plan",
    "quoted",
    "recipes",
    "resolve",
    "settings_key",
    "sweep",
    "thaw",
]


def compose(request: Request) -> DictConfig:
    """Return the recipe's config with its overrides.

    Raises:
        UserError: An unknown key, a value of a wrong type or out of bounds, or an unreadable file.
    """
    path = find(request.recipe)
    with as_user_errors(path, request.overrides):
        config = composed(path, request.overrides)
        plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
        if not _follows(config, RecipeConfig):  # the merge says which key is wrong, and takes a third of composing
            OmegaConf.merge(OmegaConf.structured(RecipeConfig), plain)
        check_shared(config, request.overrides)
        check_values(config)
        make_paths_absolute(config)
        drop_absent_files(config)
        keep_standard_input(config)
        refuse_secrets(config)
        mask_urls(config)
    if request.variant:
        config.run.dir = str(Path(f"{config.run.dir}.sweep", request.variant))
    return config


@contextmanager
def as_user_errors(path: Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Convert errors of Hydra, OmegaConf and YAML about a recipe's file and overrides into a UserError."""
    try:
        yield
    except YAMLError as error:
        raise _no_yaml(error, path) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, or a file that it builds on, is not UTF-8: {error}.", "Save it as UTF-8.") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise as_user_error(error, typed=overrides) from None


def composed(path: Path, overrides: Sequence[str]) -> DictConfig:
    """Compose a recipe's file with Hydra, leaving references between keys unresolved."""
    with hydra(path) as (given, _):
        every = [*given, *prepare(overrides)]
        try:
            return hydra_compose(config_name=path.stem, overrides=every)
        except (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError):
            raise
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError, RecursionError, OSError) as error:
            if disk_fault(error, path.parent) is not None:
                raise
            # Hydra checks the form of a list `defaults` only in part.
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
            raise UserError(f"{path} cannot be composed: {reason}.", "Correct its list `defaults`.") from None


@contextmanager
def hydra(path: Path) -> Iterator[tuple[list[str], list[Path]]]:
    """Initialise Hydra for a recipe's file; yields the overrides that name it and the folders that are searched.

    The search path is the recipe's own folder, then conf/ and recipes/, the user's before kd's. It includes recipes
    because a recipe may build on another: `/demo/recipe@_global_`.
    """
    register_schemas()
    name = path.parent.name if path.name == RECIPE_FILE else path.stem
    roots = [Path.cwd() / "conf", resources.folder("conf"), Path.cwd() / "recipes", resources.folder("recipes")]
    roots = [root for root in dict.fromkeys(roots) if root.is_dir()]
    search = ",".join(quoted(f"file://{root}") for root in roots)
    with initialize_config_dir(config_dir=str(path.parent), version_base="1.3", job_name="kd"):
        yield [f"hydra.searchpath=[{search}]", f"recipe={quoted(name)}"], [path.parent, *roots]


@functools.cache
def register_schemas() -> None:
    """Register once the schema of a recipe, `schema`, and one for each config group, such as `teacher/schema`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=RecipeConfig)
    for field in dataclasses.fields(RecipeConfig):
        kind = hints(RecipeConfig)[field.name]
        if is_config(kind):
            store.store(group=field.name, name="schema", node=kind)


def _no_yaml(error: YAMLError, path: Path) -> UserError:
    place = getattr(error, "problem_mark", None)
    where = f"{place.name}, line {place.line + 1}, column {place.column + 1}" if place else str(path)
    problem = getattr(error, "problem", None) or "it cannot be read"
    return UserError(
        f"{where}: not valid YAML: {problem}.",
        "Correct the file; a text that contains any of `?*{}[]:,#` needs quotes.",
    )


def _follows(node: Any, kind: Any) -> bool:
    """Return whether a composed config has the keys and types of the schema alone: `+key=` adds others."""
    kind, _ = without_none(kind)
    if not isinstance(node, DictConfig) or not (is_config(kind) or is_mapping(kind)):
        return True  # OmegaConf checks a value when it is set
    if is_config(kind) and OmegaConf.get_type(node) is not kind:
        return False
    names = [str(name) for name in node if not OmegaConf.is_missing(node, name)]
    kinds = hints(kind) if is_config(kind) else dict.fromkeys(names, typing.get_args(kind)[1])
    return all(name in kinds and _follows(node[name], kinds[name]) for name in names)


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain values, its references to other keys resolved; raises UserError for an invalid one."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise as_user_error(error) from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def thaw(plain: Mapping[str, Any]) -> DictConfig:
    """Return the config from the plain values of `resolve`; raises UserError if another version of kd wrote them."""
    try:
        config = OmegaConf.merge(OmegaConf.structured(RecipeConfig), plain)
    except OmegaConfBaseException:
        raise UserError("This run was planned by another version of kd.", "Plan it again with `kd run`.") from None
    assert isinstance(config, DictConfig)
    return config
