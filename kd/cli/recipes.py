"""`kd recipes`: list the recipes, one line each."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = "kd recipes           then kd run recipe=NAME"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no options: the command takes none."""


def run(options: argparse.Namespace) -> int:
    """Print the name of each recipe with the first line of its README; return the exit status."""
    from kd.recipe.find import recipes

    known = recipes()
    width = max(map(len, known))
    for name in sorted(known):
        print(f"{name:<{width}}  {_title(known[name])}".rstrip())
    return 0


def _title(path: Path) -> str:
    """Return the title of the README beside a recipe, else the first comment of the recipe."""
    readme = path.parent / "README.md"
    file = readme if readme.is_file() else path
    lines = (line for line in file.read_text("utf-8").split("\n") if line.startswith("#"))
    return next(lines, "").lstrip("# ").removeprefix(f"{path.parent.name}: ")
