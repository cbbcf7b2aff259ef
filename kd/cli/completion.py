"""`kd completion`: print the shell code that completes commands, recipes, keys and values.

argcomplete runs `kd` when TAB is pressed, with `_ARGCOMPLETE` in the environment; only then is it imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

EXAMPLE = """eval "$(kd completion bash)"       in ~/.bashrc
  eval "$(kd completion zsh)"        in ~/.zshrc, after compinit"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that names the shell."""
    parser.add_argument("shell", choices=["bash", "zsh"])


def run(options: argparse.Namespace) -> int:
    """Print the shell code; return the exit status."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["kd"], shell=options.shell))
    return 0


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions of the command line in the environment, and end the process."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options=False)


def overrides(prefix: str, **_: object) -> list[str]:
    """Return the completions of a partly typed override: keys with a `=`, or values after it."""
    return list(_overrides(prefix))


def words(prefix: str, **_: object) -> list[str]:
    """Return the keys that begin with a word of `kd settings`."""
    from kd.recipe.schema.recipe import RecipeConfig
    from kd.recipe.schema.walk import settings

    return [setting.key for setting in settings(RecipeConfig) if setting.key.startswith(prefix)]


def _overrides(prefix: str) -> Iterator[str]:
    from kd.recipe.schema.recipe import RecipeConfig
    from kd.recipe.schema.walk import NAME, settings

    key, equals, value = prefix.partition("=")
    if equals:
        yield from (f"{key}={each}" for each in _values(key) if each.startswith(value))
        return
    for name in ("recipe", "upto", "stages", *_groups()):
        if name.startswith(prefix):
            yield f"{name}="
    for setting in settings(RecipeConfig):
        if setting.key.startswith(prefix) and NAME not in setting.key and setting.key not in ("recipe", "chain"):
            yield f"{setting.key}="


def _groups() -> dict[str, list[str]]:
    from kd.recipe.overrides import groups

    return groups()


def _values(key: str) -> list[str]:
    """Return the allowed values of a key; empty if they cannot be listed."""
    from kd.recipe.find import recipes
    from kd.recipe.schema.recipe import RecipeConfig
    from kd.recipe.schema.walk import settings

    if key == "recipe":
        return sorted(recipes())
    if key in (known := _groups()):
        return known[key]
    return next((setting.choices for setting in settings(RecipeConfig) if setting.key == key), [])
