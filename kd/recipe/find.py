"""Find recipes by name or path: first in the user's `recipes/`, then among kd's own."""

from __future__ import annotations

from pathlib import Path

from kd.base import resources
from kd.base.errors import UserError
from kd.base.text import unknown_name

RECIPE_FILE = "recipe.yaml"


def recipes() -> dict[str, Path]:
    """Return the recipe files by name: `recipes/` in the working directory, then kd's own."""
    found: dict[str, Path] = {}
    for folder in (Path.cwd() / "recipes", resources.folder("recipes")):
        for path in sorted(folder.glob(f"*/{RECIPE_FILE}")):
            found.setdefault(path.parent.name, path)
    return found


def find(name: str) -> Path:
    """Return the file of a recipe given by name or path; raises UserError if it does not exist."""
    as_path = Path(name).expanduser()
    if as_path.suffix in (".yaml", ".yml") or "/" in name:
        path = as_path / RECIPE_FILE if as_path.is_dir() else as_path
        if not path.is_file():
            raise UserError(f"There is no recipe at {path}.", f"A recipe is a folder with a {RECIPE_FILE}.")
        return path.resolve()
    known = recipes()
    if name not in known and (as_path / RECIPE_FILE).is_file():  # a folder of the working directory
        return (as_path / RECIPE_FILE).resolve()
    if name not in known:
        raise unknown_name("recipe", name, known)
    return known[name]
