"""Finds a recipe, composes it with Hydra, and plans its chain.

Every mistake that can be seen in a config is seen here, before anything runs, and told in a sentence naming the key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override
from omegaconf.errors import (
    OmegaConfBaseException,
)
from yaml import YAMLError

from kd.base import resources
from kd.base.errors import UserError
from kd.base.text import unknown_name
from kd.base.urls import mask_for_children, split_secrets
from kd.corpora.stdin import STDIN, keep_stdin
from kd.pipeline.fingerprint import digest
from kd.pipeline.model import StageSpec
from kd.pipeline.plan import Plan, build
from kd.pipeline.store import Store
from kd.recipe.errors import as_user_error
from kd.recipe.schema import RecipeConfig
from kd.recipe.schema.recipe import FILES_PAIR
from kd.stages import KINDS, load_kind

RECIPE_FILE = "recipe.yaml"
LONGEST_NAME = 200  # bytes of a folder's name; file systems take 255
# Paths in a recipe start from where the user stands; a task may run elsewhere, so they are made absolute at once.
PATH_KEYS = (
    "run.dir",
    "store.dir",
    "corpus.root",
    "corpus.cache",
    "given_models.root",
    "given_lists.root",
    "select.scores",
    "evaluate.root",
    "evaluate.comet.cache",
    "teacher.init_from",
    "student.init_from",
    "machine.container",
)


@dataclass(frozen=True)
class Request:
    """What the command line asks of a recipe: which one, which stages, and Hydra overrides."""

    recipe: str
    overrides: tuple[str, ...]
    stages: tuple[str, ...] = ()
    upto: str | None = None
    variant: str = ""  # of a sweep: each has a run folder of its own


def parse_request(arguments: Sequence[str]) -> Request:
    """Tells `recipe=`, `stages=[…]` and `upto=` from Hydra overrides; raises UserError for what is no override."""
    recipe, upto = None, None
    stages: tuple[str, ...] = ()
    rest = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not key or (not equals and not argument.startswith("~")):
            raise UserError(f"{argument!r} is neither an option nor an override.", "Overrides look like key=value.")
        if key == "recipe":
            recipe = value
        elif key == "upto":
            upto = value
        elif key == "stages":
            stages = tuple(name.strip() for name in value.strip("[]").split(",") if name.strip())
            if not stages:
                raise UserError("stages= names no stage.", "Say for instance stages=[select].")
        else:
            rest.append(argument)
    if not recipe:
        raise UserError("No recipe was named.", f"Say recipe=NAME with one of: {', '.join(sorted(recipes()))}.")
    return Request(recipe, tuple(rest), stages, upto)


def sweep(request: Request) -> list[Request]:
    """The requests that a `-m` sweep stands for: one for each combination of comma-separated values."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    try:
        parsed = OverridesParser.create().parse_overrides(list(request.overrides))
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise as_user_error(error) from None
    varied = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    requests: dict[str, Request] = {}
    for job in dict.fromkeys(map(tuple, batches[0])):
        part = [text for text in job if any(text.startswith(f"{key}=") for key in varied)]
        # Without what Hydra's grammar and shells give a meaning, so that it can be typed as run.dir=…
        name = re.sub(r"[^\w.+-]+", "-", "_".join(part)) or "all"
        if len(name.encode()) > LONGEST_NAME or name in requests:  # a/1 and a-1 are written alike
            name = f"{name[:60]}…{digest(part)}"
        requests[name] = replace(request, overrides=job, variant=name)
    return list(requests.values())


# --- finding ---------------------------------------------------------------------------------------------------------


def recipes() -> dict[str, Path]:
    """Recipes by name: those in `recipes/` beside where the user stands, then those that come with kd."""
    found: dict[str, Path] = {}
    for folder in (Path.cwd() / "recipes", resources.folder("recipes")):
        for path in sorted(folder.glob(f"*/{RECIPE_FILE}")):
            found.setdefault(path.parent.name, path)
    return found


def find(name: str) -> Path:
    """The file of a recipe given by name or by path; raises UserError when there is none."""
    as_path = Path(name).expanduser()
    if as_path.suffix in (".yaml", ".yml") or "/" in name:
        path = as_path / RECIPE_FILE if as_path.is_dir() else as_path
        if not path.is_file():
            raise UserError(f"There is no recipe at {path}.", f"A recipe is a folder with a {RECIPE_FILE}.")
        return path.resolve()
    known = recipes()
    if name not in known and (as_path / RECIPE_FILE).is_file():  # a folder where the user stands
        return (as_path / RECIPE_FILE).resolve()
    if name not in known:
        raise unknown_name("recipe", name, known)
    return known[name]


# --- composing -------------------------------------------------------------------------------------------------------


def compose(request: Request) -> DictConfig:
    """The recipe's config with its overrides; raises UserError for an unknown key, a wrong type or a bad value."""
    path = find(request.recipe)
    name = path.parent.name if path.name == RECIPE_FILE else path.stem
    ConfigStore.instance().store(name="schema", node=RecipeConfig)
    # The recipe's own folder is the primary place; groups come from the user's conf/, then from kd's, and a recipe may
    # stand on another (`/demo/recipe@_global_`), so the folders of recipes are searched as well.
    roots = [Path.cwd() / "conf", resources.folder("conf"), Path.cwd() / "recipes", resources.folder("recipes")]
    search = ",".join(f"'file://{quote(root)}'" for root in dict.fromkeys(roots) if root.is_dir())
    overrides = [f"hydra.searchpath=[{search}]", f"recipe='{quote(name)}'", *request.overrides]
    try:
        _check_groups(request.overrides)
        with initialize_config_dir(config_dir=str(path.parent), version_base="1.3", job_name="kd"):
            config = hydra_compose(config_name=path.stem, overrides=overrides)
        # `+key=` adds what the schema does not know: let it object.
        plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
        OmegaConf.merge(OmegaConf.structured(RecipeConfig), plain)
        _check_shared(config, request.overrides)
        _make_paths_absolute(config)
        _keep_stdin(config)
        _mask_urls(config)
        if request.variant:
            config.run.dir = str(Path(f"{config.run.dir}.sweep", request.variant))
    except YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f"{place.name}, line {place.line + 1}, column {place.column + 1}" if place else str(path)
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise UserError(
            f"{where}: this is no YAML: {problem}.",
            "Mend the file; a text with one of `?*{}[]:,#` in it stands in quotes.",
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, or what it stands on, is not in UTF-8: {error}.", "Save it as UTF-8.") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise as_user_error(error) from None
    return config


def _mask_urls(config: DictConfig) -> None:
    """Take user names, passwords and tokens out of the URLs of corpora: a composed config is written to disk.

    Raises UserError for two URLs that differ in such a parameter alone: they would be one file of the cache.
    """
    seen: dict[str, dict[str, str]] = {}
    for name, source in (config.corpus.get("sources") or {}).items():
        nodes = [(source, "source"), (source, "target"), *((source.scores, key) for key in source.get("scores") or {})]
        for node, key in nodes:
            url = node.get(key)
            masked = mask_for_children(str(url)) if url else ""
            if masked and masked != url:
                node[key] = masked
                query = split_secrets(str(url))[1].query
                if seen.setdefault(masked, query) != query:
                    raise UserError(
                        f"corpus.sources.{name}.{key} differs from another URL in its secret parameters alone.",
                        "Give the file one URL, or fetch both by hand.",
                    )


def _check_groups(overrides: Sequence[str]) -> None:
    """Hydra meets `teacher=null` or `teacher=[a]`, where `teacher` is a folder of conf/, with a traceback."""
    groups = {folder.name for folder in resources.folder("conf").iterdir() if folder.is_dir()}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.key_or_group in groups and not override.is_delete() and not isinstance(override.value(), str):
            raise UserError(
                f"{override.input_line} is no choice: {override.key_or_group} is a group of settings.",
                f"Name a file of conf/{override.key_or_group}/, or set a key of it: {override.key_or_group}.KEY=… .",
            )


def _check_shared(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses `student.checkpoint.every=20` where `student.checkpoint` is `${checkpoint}`: it would be set for all."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        parts = override.key_or_group.split(".")
        node: Any = config
        for depth, part in enumerate(parts[:-1], 1):
            if not isinstance(node, DictConfig) or part not in node:
                break
            if OmegaConf.is_interpolation(node, part):
                shared = str(OmegaConf.to_container(node, resolve=False)[part]).strip("${}")  # type: ignore[index, call-overload]
                rest = ".".join(parts[depth:])
                key = ".".join(parts[:depth])
                raise UserError(
                    f"{override.input_line} would change more than that: {key} is {shared}, which others share.",
                    f"Set {shared}.{rest} for all, or, for this one alone, {rest} below {key} in a recipe.",
                )
            node = node[part]


def _make_paths_absolute(config: DictConfig) -> None:
    for key in (*PATH_KEYS, *(f"chain.{name}.changes.init_from" for name in config.chain)):
        value = OmegaConf.select(config, key)
        if value is None and key.endswith(".root"):
            value = "."
        if value is not None:
            OmegaConf.update(config, key, str(Path.cwd() / Path(str(value)).expanduser()))
    model = OmegaConf.select(config, "evaluate.comet.model")  # a path or a name
    if model is not None and (model.startswith((".", "~")) or Path(model).exists()):
        OmegaConf.update(config, "evaluate.comet.model", os.path.normpath(Path.cwd() / Path(model).expanduser()))


def _keep_stdin(config: DictConfig) -> None:
    """A corpus from standard input becomes one from a file: tasks run in other processes, and later."""
    keys = ["source", *(f"corpus.sources.{name}.source" for name in config.corpus.sources or {})]
    for key in keys:
        if OmegaConf.select(config, key, throw_on_missing=False) == STDIN:
            OmegaConf.update(config, key, str(keep_stdin(Path(config.corpus.cache, "stdin"))))


def resolve(config: DictConfig) -> dict[str, Any]:
    """The config as plain values with every reference to another key filled in; raises UserError."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise as_user_error(error) from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def thaw(plain: Mapping[str, Any]) -> DictConfig:
    """The config that `resolve` made plain values of; raises UserError where another version of kd did."""
    try:
        config = OmegaConf.merge(OmegaConf.structured(RecipeConfig), plain)
    except OmegaConfBaseException:
        raise UserError("This run was planned by another version of kd.", "Plan it anew by `kd run`.") from None
    assert isinstance(config, DictConfig)
    return config


# --- planning --------------------------------------------------------------------------------------------------------


def plan(
    config: DictConfig,
    frozen_files: Mapping[str, Mapping[str, str]] | None = None,
    change: Callable[[StageSpec], StageSpec] = lambda entry: entry,
) -> Plan:
    """Plans a recipe's chain. `frozen_files`: each task's raw files as of planning; none is looked at again.

    `change` may put other settings into a stage than the recipe has: a probe makes everything short.
    """
    hashes = Store(Path(config.store.dir)).file_hashes()

    def hash_file(path: Path) -> str:
        try:
            return hashes(path)
        except UserError as error:
            hint = (
                "Correct its path in corpus.sources (given_models, given_lists), "
                "or corpus.root, the folder that relative paths start from."
            )
            raise UserError(error.problem, hint) from None

    try:
        entries = {str(name): change(_entry(config, str(name))) for name in config.chain}
        pairs = OmegaConf.to_container(config.pairs, resolve=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise as_user_error(error) from None
    if not entries:
        raise UserError(f"The recipe {config.recipe} has no stages.", "Add one to its chain.")
    assert isinstance(pairs, dict)
    if len(pairs) > 1 and FILES_PAIR in pairs:
        others = ", ".join(name for name in map(str, pairs) if name != FILES_PAIR)
        raise UserError(
            f"The recipe has {others} and the unnamed pair {FILES_PAIR}, both of the same files.",
            f"Take that one out: '~pairs.{FILES_PAIR}'.",
        )
    axes = {"pairs": {str(name): _languages(str(name), pair) for name, pair in pairs.items()}}
    return build(entries, axes, hash_file, frozen_files)


def _languages(name: str, pair: Mapping[str, Any]) -> dict[str, str]:
    source, dash, target = name.partition("-")
    languages = {"source": pair["source"] or source, "target": pair["target"] or target}
    if not languages["target"] or (not dash and not pair["target"]):
        raise UserError(f"The pair {name} does not say its languages.", "Name it source-target, such as en-de.")
    return languages


def _entry(config: DictConfig, name: str) -> StageSpec:
    node = config.chain[name]
    if node is None:
        raise UserError(f"chain.{name} is null.", f"Switch a stage off by chain.{name}.enabled=false.")
    if node.kind not in KINDS:
        raise unknown_name(f"kind of stage (named by chain.{name}.kind)", str(node.kind), KINDS)
    kind = load_kind(node.kind)
    where = settings_key(config, name)
    settings = node.settings
    if not isinstance(settings, DictConfig):
        raise UserError(f"{where} is {_describe(settings)}.", f"It must be a mapping with the settings of {node.kind}.")
    missing = sorted(OmegaConf.missing_keys(settings) - set(map(str, node.changes))) if settings else []
    if missing:
        keys = ", ".join(f"{where}.{key}" for key in missing)
        raise UserError(f"A setting has no value: {keys}.", "Give it one on the command line or in the recipe.")
    try:
        # Resolved first: its references are to keys of the recipe, not of the settings alone.
        plain = OmegaConf.to_container(settings, resolve=True, enum_to_str=True) if settings else {}
        changes = OmegaConf.to_container(node.changes, resolve=True, enum_to_str=True)
        schema = OmegaConf.structured(kind.config)
        schema._set_parent(config)  # its defaults refer to keys of the recipe too
        with flag_override(config, "struct", None):  # names of corpora are no keys of the schema
            merged = OmegaConf.merge(schema, plain, changes)
            plain = OmegaConf.to_container(merged, resolve=True, enum_to_str=True)
        typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind.config), plain))
    except OmegaConfBaseException as error:
        raise as_user_error(error, f"chain.{name}.changes" if node.changes else where) from None
    if node.enabled:
        try:
            kind.validate(typed)
        except UserError as error:  # a kind does not know what its settings are called in the recipe
            raise UserError(f"{where}: {error.problem}", error.hint) from None
    inputs = {
        str(role): {
            label: _instead(config, stage)
            for label, stage in _labels(f"chain.{name}.inputs.{role}", str(role), ref).items()
        }
        for role, ref in node.inputs.items()
        if ref is not None  # how another kind put in a stage's place takes an input away
    }
    return StageSpec(name, kind, typed, inputs, node.over, node.enabled, (node.after,) if node.after else ())


def settings_key(config: DictConfig, name: str) -> str:
    """The key a user would change: `teacher` where the chain says `settings: ${teacher}`."""
    raw = OmegaConf.to_container(config.chain[name], resolve=False)
    settings = raw.get("settings") if isinstance(raw, dict) else None
    reference = re.fullmatch(r"\$\{([\w.]+)\}", settings) if isinstance(settings, str) else None
    return reference.group(1) if reference else f"chain.{name}.settings"


def _labels(where: str, role: str, ref: Any) -> dict[str, str]:
    if isinstance(ref, str):
        return {role: ref}
    if isinstance(ref, DictConfig) and all(value is None or isinstance(value, str) for value in ref.values()):
        return {str(label): str(value) for label, value in ref.items() if value is not None}
    raise UserError(f"{where} is {_describe(ref)}.", "It must name a stage, or be a mapping of names to stages.")


def _instead(config: DictConfig, name: str) -> str:
    """The stage to read from: the named one, or what stands in for it while it is switched off."""
    seen: set[str] = set()
    while name not in seen and (node := config.chain.get(name)) is not None and not node.enabled and node.otherwise:
        seen.add(name)
        name = str(node.otherwise)
    return name


def _describe(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, ListConfig | list):
        return "a list"
    return "a mapping" if isinstance(value, DictConfig | dict) else f"the {type(value).__name__} {value!r}"


def quote(text: object) -> str:
    """A text as it stands between single quotes in Hydra's grammar."""
    return str(text).replace("\\", "\\\\").replace("'", "\\'")
