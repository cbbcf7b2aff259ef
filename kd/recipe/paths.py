"""Make a composed recipe self-contained: absolute paths, no standard input, no secrets in URLs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from kd.base.errors import UserError
from kd.base.urls import is_secret_variable, mask_for_children, mask_text, split_secrets
from kd.corpora.stdin import STDIN, keep_stdin
from kd.recipe.schema.recipe import RecipeConfig
from kd.recipe.schema.walk import NAME, settings


def make_paths_absolute(config: DictConfig) -> None:
    """Make every path of the schema absolute; an unset folder `root` becomes the working directory."""
    for setting in settings(RecipeConfig):
        if setting.is_path and NAME not in setting.key:
            _make_absolute(config, setting.key, "." if setting.leaf == "root" else None)
    for name in config.chain:
        _make_absolute(config, f"chain.{name}.changes.init_from", None)
    for key in ("evaluate.comet.model", "score.comet.model", "score.qe.model"):  # a path or a name
        model = OmegaConf.select(config, key)
        if model is not None and (model.startswith((".", "~")) or Path(model).exists()):
            OmegaConf.update(config, key, os.path.normpath(Path.cwd() / Path(model).expanduser()))


def _make_absolute(config: DictConfig, key: str, default: str | None) -> None:
    value = OmegaConf.select(config, key)
    if value is None:
        value = default
    if value is not None:
        OmegaConf.update(config, key, str(Path.cwd() / Path(str(value)).expanduser()))


def drop_absent_files(config: DictConfig) -> None:
    """Drop corpora of format `auto` without a source: dev and test files that the user of recipe=files did not give."""
    sources = config.corpus.sources or {}
    with open_dict(config):
        for name in [name for name, source in sources.items() if _is_absent(source)]:
            del sources[name]


def _is_absent(source: Any) -> bool:
    return (
        isinstance(source, DictConfig)
        and _name(source.format) == "auto"
        and source.source is None
        and source.target is None
    )


def _name(value: Any) -> str:
    return str(getattr(value, "name", value))


def keep_standard_input(config: DictConfig) -> None:
    """Store a corpus from standard input as a file, since tasks run later and in other processes."""
    for key in _source_keys(config):
        if OmegaConf.select(config, key, throw_on_missing=False) == STDIN:
            OmegaConf.update(config, key, str(keep_stdin(Path(config.corpus.cache, "stdin"))))


def _source_keys(config: DictConfig) -> Iterator[str]:
    yield "source"
    for name in config.corpus.sources or {}:
        yield f"corpus.sources.{name}.source"


def refuse_secrets(config: DictConfig) -> None:
    """Raise UserError for a secret that kd cannot find again: in `machine.environment`, or a server's address.

    Job scripts and frozen configs hold the variables as they are. `mask_urls` would take the secret out of the address.
    """
    for name, teacher in (config.get("teachers") or {}).items():
        url = str(teacher.get("url") or "")
        if mask_text(url) != url:
            raise UserError(
                f"teachers.{name}.url holds a password or a key.",
                f"Put the key into the environment variable {teacher.get('key')}.",
            )
    for name, value in (config.machine.get("environment") or {}).items():
        text = str(value)
        if (is_secret_variable(name) and text) or mask_text(text) != text:
            raise UserError(
                f"machine.environment.{name} may hold a secret, and recipes are kept as they are.",
                f"Leave it out and type `export {name}=…` before `kd run`: tasks and jobs inherit its environment.",
            )


def mask_urls(config: DictConfig) -> None:
    """Remove user names, passwords and tokens from corpora's URLs, since a composed config is written to disk.

    Raises:
        UserError: Two URLs differ only in such a parameter, so they would be the same file in the cache.
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
                        f"corpus.sources.{name}.{key} differs from another URL only in its secret parameters.",
                        "Use the same URL for the same file, or download both files by hand.",
                    )
    _mask_texts(config)


def _mask_texts(node: DictConfig | ListConfig) -> None:
    """Mask URLs in all other texts, such as `source` in the recipe `files`, to which its corpora refer."""
    keys: list[Any] = list(node) if isinstance(node, DictConfig) else list(range(len(node)))
    for key in keys:
        if OmegaConf.is_missing(node, key):
            continue
        value = node[key]
        if isinstance(value, DictConfig | ListConfig):
            if not OmegaConf.is_interpolation(node, key):
                _mask_texts(value)
        elif isinstance(value, str) and (masked := mask_text(value)) != value:
            node[key] = masked
