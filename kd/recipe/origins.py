"""Find the file that sets each key of a recipe: the last one of Hydra's defaults list that has the key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from kd.base import resources
from kd.recipe.compose import composed, hydra
from kd.recipe.overrides import prepare, read

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Values:
    """The values of a recipe before references are filled in, and the file that sets each."""

    config: DictConfig
    files: Mapping[str, str]

    def file(self, key: str) -> str:
        """Return the file that sets a key or a part of it; empty if the schema's default applies."""
        below = [file for name, file in self.files.items() if name == key or name.startswith(f"{key}.")]
        return below[-1] if below else ""


def values(path: Path, overrides: Sequence[str] = ()) -> Values:
    """Compose a recipe's file with overrides, and note which file sets each key."""
    config = composed(path, overrides)
    files: dict[str, str] = {}
    for file, package in _files(path, overrides):
        for key in _keys(yaml.safe_load(file.read_text("utf-8")) or {}, package):
            files[key] = _shown(file)
    groups = {entry.name for entry in resources.folder("conf").iterdir() if entry.is_dir()}
    for given in map(read, overrides):
        if given.key not in groups:
            files[given.key] = COMMAND_LINE
    return Values(config, files)


def _files(path: Path, overrides: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield the files of the defaults list in order, each with the key below which its content is placed."""
    with hydra(path) as (name, search):
        found = (
            GlobalHydra.instance()
            .config_loader()
            .compute_defaults_list(config_name=path.stem, overrides=[*name, *prepare(overrides)], run_mode=RunMode.RUN)
        )
        for default in found.defaults:
            file = next((root / f"{default.config_path}.yaml" for root in search if _is_in(root, default)), None)
            if file is not None:
                yield file, str(default.package or "").removeprefix("_global_")


def _is_in(root: Path, default: Any) -> bool:
    return (root / f"{default.config_path}.yaml").is_file()


def _keys(content: Any, prefix: str) -> Iterator[str]:
    if not isinstance(content, dict) or (not content and prefix):
        yield prefix
        return
    for name, value in content.items():
        if name != "defaults":
            yield from _keys(value, f"{prefix}.{name}" if prefix else str(name))


def _shown(file: Path) -> str:
    """Return a file's path as in a checkout: `conf/teacher/base.yaml`."""
    for root, name in ((resources.folder("conf"), "conf"), (resources.folder("recipes"), "recipes")):
        if file.is_relative_to(root):
            return str(Path(name) / file.relative_to(root))
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
