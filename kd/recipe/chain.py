"""Plan the chain of a composed recipe: entries become stages with typed settings, and stages become tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from kd.base.errors import UserError
from kd.base.text import unknown_name
from kd.pipeline.model import StageSpec
from kd.pipeline.plan import Plan, build
from kd.pipeline.store import Store
from kd.recipe.errors import as_user_error
from kd.recipe.pairs import languages_of_pairs
from kd.recipe.schema import CorpusConfig, Use
from kd.recipe.schema.walk import split_key
from kd.recipe.validate import check_typed
from kd.stages import KINDS, load_kind
from kd.stages.source_only import collects_source_only


def plan(
    config: DictConfig,
    frozen_files: Mapping[str, Mapping[str, str]] | None = None,
    change: Callable[[StageSpec], StageSpec] = lambda entry: entry,
) -> Plan:
    """Plan a recipe's chain.

    Args:
        config: The composed recipe.
        frozen_files: Each task's raw files with their hashes from an earlier plan; then no file is read.
        change: Replaces the settings of a stage; a probe uses it to shorten all work.

    Raises:
        UserError: An impossible chain, a setting that its kind refuses, or a missing file.
    """
    try:
        chain = _Chain(config)
        entries = {str(name): change(chain.spec(str(name))) for name in config.chain}
        pairs = OmegaConf.to_container(config.pairs, resolve=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise as_user_error(error) from None
    _check_source_only(entries)
    if not entries:
        raise UserError(f"The recipe {config.recipe} has no stages.", "Add one to its chain.")
    assert isinstance(pairs, dict)
    axes = {"pairs": languages_of_pairs({str(name): pair for name, pair in pairs.items()})}
    return build(entries, axes, _hashing(config), frozen_files)


def _check_source_only(entries: Mapping[str, StageSpec]) -> None:
    """Raise UserError for a corpus with `use: source` in a chain without a stage that reads it."""
    enabled = [spec for spec in entries.values() if spec.enabled]
    if any(collects_source_only(spec.kind) for spec in enabled):
        return
    corpora = [spec.config.sources for spec in enabled if isinstance(spec.config, CorpusConfig)]
    name = next((name for sources in corpora for name, each in sources.items() if each.use is Use.source), None)
    if name is not None:
        raise UserError(
            f"corpus.sources.{name} has use: source, but no stage of this chain reads text without translations.",
            f"Use chain=distillation or chain=given_teachers, or leave the corpus out: '~corpus.sources.{name}'.",
        )


def _hashing(config: DictConfig) -> Callable[[Path], str]:
    """Return a function that hashes raw files; its error for a missing file names the settings to correct."""
    hashes = Store(Path(config.store.dir)).file_hashes()

    def hash_file(path: Path) -> str:
        try:
            return hashes(path)
        except UserError as error:
            key = _files_key(config, path)
            hint = (
                f"Correct {key}=, or corpus.root, the folder that relative paths start from."
                if key
                else (
                    "Correct its path in corpus.sources (given_models, given_lists), "
                    "or corpus.root, the folder that relative paths start from."
                )
            )
            raise UserError(error.problem, hint) from None

    return hash_file


def _files_key(config: DictConfig, path: Path) -> str | None:
    """Return the key of recipe=files that names a file, such as `test.source`; None if no such key does."""
    for key in ("source", "target", "dev.source", "dev.target", "test.source", "test.target"):
        value = OmegaConf.select(config, key)
        if value and Path(config.corpus.root or ".", str(value)).absolute() == path:
            return key
    return None


def stage_spec(config: DictConfig, name: str) -> StageSpec:
    """Return an entry of the chain with typed settings and its inputs."""
    return _Chain(config).spec(name)


class _Chain:
    """The entries of a recipe's chain; settings are typed once, since those of one entry can switch off others."""

    def __init__(self, config: DictConfig) -> None:
        self._config = config
        self._typed: dict[str, Any] = {}

    def spec(self, name: str) -> StageSpec:
        """Return an entry with typed settings and its inputs."""
        config, node = self._config, self._config.chain[name]
        if node is None:
            raise UserError(f"chain.{name} is null.", f"Set chain.{name}.enabled=false to switch the stage off.")
        if node.kind not in KINDS:
            raise unknown_name(f"kind of stage (named by chain.{name}.kind)", str(node.kind), KINDS)
        kind = load_kind(node.kind)
        where = settings_key(config, name)
        typed = self._settings(name)
        enabled = bool(node.enabled) and kind.is_needed(typed) and self._has_company(name)
        if enabled:
            try:
                kind.validate(typed)
            except UserError as error:  # a kind does not know the key of its settings
                hint = _whole_keys(error.hint, config, where, kind.config)
                raise UserError(f"{where}: {error.problem}", hint) from None
        inputs = {
            str(role): {
                label: self._instead(stage)
                for label, stage in _labels(f"chain.{name}.inputs.{role}", str(role), ref).items()
            }
            for role, ref in node.inputs.items()
            if ref is not None  # how another kind put in a stage's place removes an input
        }
        role = node.role.value if node.role else None
        return StageSpec(name, kind, typed, inputs, node.over, enabled, (node.after,) if node.after else (), role)

    def _settings(self, name: str) -> Any:
        if name not in self._typed:
            kind = load_kind(self._config.chain[name].kind)
            self._typed[name] = _settings(self._config, name, kind.config, settings_key(self._config, name))
        return self._typed[name]

    def _instead(self, name: str) -> str:
        """Return the stage to read from: the named stage, or its `otherwise` if it is switched off."""
        seen: set[str] = set()
        while (
            name not in seen
            and (node := self._config.chain.get(name)) is not None
            and node.otherwise
            and self._is_off(name)
        ):
            seen.add(name)
            name = str(node.otherwise)
        return name

    def _is_off(self, name: str) -> bool:
        """Return whether a stage is switched off, has nothing to do, or is `only_with` a stage that is off."""
        return self._is_off_alone(name) or not self._has_company(name)

    def _is_off_alone(self, name: str) -> bool:
        node = self._config.chain[name]
        if not node.enabled or node.kind not in KINDS:
            return not node.enabled
        kind = load_kind(node.kind)
        return not kind.is_needed(self._settings(name))

    def _has_company(self, name: str) -> bool:
        """Return whether the stage that `only_with` names, and those that it needs in turn, are on.

        Raises:
            UserError: There is no such stage, or stages name each other in a circle.
        """
        seen = [name]
        while (other := self._config.chain[seen[-1]].only_with) is not None:
            if other in seen:
                last = f"chain.{seen[-1]}.only_with"
                raise UserError(f"{last} leads back to {other}.", f"Set {last}=null.")
            if self._config.chain.get(other) is None:
                raise unknown_name(
                    f"stage (named by chain.{seen[-1]}.only_with)", str(other), list(map(str, self._config.chain))
                )
            seen.append(str(other))
        return not any(self._is_off_alone(other) for other in seen[1:])


def _whole_keys(hint: str, config: DictConfig, where: str, schema: type) -> str:
    """Complete the keys in a kind's hint: `init_from=null` becomes `student.init_from=null`."""

    def whole(found: re.Match[str]) -> str:
        first, dot, rest = found[1].partition(".")
        if not split_key(schema, found[1]):
            return found[0]
        raw = OmegaConf.to_container(OmegaConf.select(config, where), resolve=False)
        reference = _reference(raw.get(first)) if isinstance(raw, dict) else None  # as in `checkpoint: ${checkpoint}`
        return f"{reference or f'{where}.{first}'}{dot}{rest}="

    return re.sub(r"(?<![\w.])([a-z_]+(?:\.[a-z_]+)*)=(?=\S)", whole, hint)


def _reference(value: Any) -> str | None:
    """Return `a.b` for the value `${a.b}`; None for a value that is not a single reference."""
    found = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
    return found[1] if found else None


def _settings(config: DictConfig, name: str, schema: type, where: str) -> Any:
    """Return the settings of an entry, with its `changes` applied, as an instance of its kind's config."""
    node = config.chain[name]
    settings = node.settings
    if not isinstance(settings, DictConfig):
        raise UserError(f"{where} is {_describe(settings)}.", f"It must be a mapping with the settings of {node.kind}.")
    missing = sorted(OmegaConf.missing_keys(settings) - set(map(str, node.changes))) if settings else []
    if missing:
        keys = ", ".join(f"{where}.{key}" for key in missing)
        raise UserError(f"A setting has no value: {keys}.", "Give it one on the command line or in the recipe.")
    changed = f"chain.{name}.changes" if node.changes else where
    try:
        if not node.changes and OmegaConf.get_type(settings) is schema:  # of the recipe's schema, and typed already
            return OmegaConf.to_object(settings)
        # Resolved first: its references are to keys of the recipe, not of the settings alone.
        plain = OmegaConf.to_container(settings, resolve=True, enum_to_str=True) if settings else {}
        changes = OmegaConf.to_container(node.changes, resolve=True, enum_to_str=True)
        structured = OmegaConf.structured(schema)
        structured._set_parent(config)  # its defaults refer to keys of the recipe too
        with flag_override(config, "struct", None):  # names of corpora are no keys of the schema
            merged = OmegaConf.merge(structured, plain, changes)
            plain = OmegaConf.to_container(merged, resolve=True, enum_to_str=True)
        typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), plain))
    except OmegaConfBaseException as error:
        raise as_user_error(error, changed, schema) from None
    if changed.startswith("chain."):  # other settings have been checked where they are set
        check_typed(typed, changed)
    return typed


def settings_key(config: DictConfig, name: str) -> str:
    """Return the key that a user should change: `teacher` where the chain has `settings: ${teacher}`."""
    raw = OmegaConf.to_container(config.chain[name], resolve=False)
    reference = _reference(raw.get("settings")) if isinstance(raw, dict) else None
    return reference or f"chain.{name}.settings"


def _labels(where: str, role: str, ref: Any) -> dict[str, str]:
    if isinstance(ref, str):
        return {role: ref}
    if isinstance(ref, DictConfig) and all(value is None or isinstance(value, str) for value in ref.values()):
        return {str(label): str(value) for label, value in ref.items() if value is not None}
    raise UserError(f"{where} is {_describe(ref)}.", "It must name a stage, or map names to stages.")


def _describe(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, ListConfig | list):
        return "a list"
    return "a mapping" if isinstance(value, DictConfig | dict) else f"the {type(value).__name__} {value!r}"
