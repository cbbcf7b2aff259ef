"""`kd settings`: search the settings of recipes, or print them as a page or as a JSON Schema for editors."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import TYPE_CHECKING

from kd.cli import completion

if TYPE_CHECKING:
    from kd.recipe.origins import Values
    from kd.recipe.schema.walk import Setting

EXAMPLE = """kd settings learning rate
  kd settings recipe=demo student.model            with the values of a recipe, and the file that sets each
  kd settings --schema > recipe.schema.json         for editors: # yaml-language-server: $schema=recipe.schema.json
  kd settings --schema teacher > teacher.schema.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    words = parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="words of a key or its meaning; recipe=NAME and overrides show that recipe's values",
    )
    words.completer = completion.words  # type: ignore[attr-defined]
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--schema", action="store_true", help="print a JSON Schema of recipes, or of the group WORD")
    form.add_argument("--markdown", action="store_true", help="print the reference as Markdown (docs/settings.md)")


def run(options: argparse.Namespace) -> int:
    """Print the requested form of the settings; return the exit status."""
    from kd.recipe import reference

    words = [word for word in options.words if "=" not in word]
    overrides = [word for word in options.words if "=" in word]
    if options.schema:
        print(json.dumps(reference.json_schema(*_group(words)), indent=1, ensure_ascii=False))
        return 0
    rows = reference.rows(_values(overrides), _found(words))
    if options.markdown:
        print(reference.markdown(rows), end="")
        return 0
    print("\n".join(reference.plain_text(rows)))
    if not _names_recipe(overrides):
        shown = shlex.join(["kd", "settings", "recipe=NAME", *options.words])
        print(f"These are the values of the base configuration; `{shown}` shows a recipe's.")
    return 0


def _names_recipe(overrides: list[str]) -> bool:
    return any(word.startswith("recipe=") for word in overrides)


def _group(words: list[str]) -> list[type]:
    """Return the config of the named group, if a group is named."""
    from kd.base.text import unknown_name
    from kd.recipe.schema.recipe import RecipeConfig
    from kd.recipe.schema.walk import hints, is_config

    groups = {name: kind for name, kind in hints(RecipeConfig).items() if is_config(kind)}
    for word in words:
        if word not in groups:
            raise unknown_name("group of settings", word, groups)
    return [groups[word] for word in words[:1]]


def _values(overrides: list[str]) -> Values:
    """Return the values of the named recipe, or the values that recipes start from."""
    from kd.base import resources
    from kd.recipe.compose import as_user_errors
    from kd.recipe.find import find
    from kd.recipe.origins import values
    from kd.recipe.request import parse_request

    if not _names_recipe(overrides):
        path, rest = resources.folder("conf") / "base.yaml", tuple(overrides)
    else:
        request = parse_request(overrides)
        path, rest = find(request.recipe), request.overrides
    with as_user_errors(path, rest):
        return values(path, rest)


def _found(words: list[str]) -> list[Setting]:
    """Return the settings that match the words; raises UserError if none match."""
    from kd.base.errors import UserError
    from kd.recipe.schema.recipe import RecipeConfig
    from kd.recipe.schema.search import nearest, search
    from kd.recipe.schema.walk import settings

    found = search(words, settings(RecipeConfig))
    if not found:
        near = nearest(words[-1], RecipeConfig)
        hint = f"Did you mean {' or '.join(near)}?" if near else "`kd settings` lists all."
        raise UserError(f"No setting matches {' '.join(words)}.", hint)
    return found
