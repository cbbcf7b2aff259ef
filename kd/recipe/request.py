"""Parse a command line about a recipe, and expand a sweep into one request per combination of values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kd.base.errors import UserError
from kd.base.urls import mask_text
from kd.pipeline.fingerprint import digest
from kd.recipe.find import recipes
from kd.recipe.overrides import is_sweep, read, variants

MAX_NAME_BYTES = 200  # of a folder's name; file systems take 255


@dataclass(frozen=True)
class Request:
    """A recipe, the requested stages, and Hydra overrides."""

    recipe: str
    overrides: tuple[str, ...]
    stages: tuple[str, ...] = ()
    upto: str | None = None
    variant: str = ""  # of a sweep: each has a run folder of its own
    wait: bool = False  # whether `kd run` stays until a scheduler has accepted all jobs

    @property
    def command(self) -> str:
        """Return the arguments to type for the same recipe, quoted for a shell, with secrets in URLs masked."""
        return shlex.join(map(mask_text, [f"recipe={self.recipe}", *self.overrides]))


def parse_request(arguments: Sequence[str]) -> Request:
    """Separate `recipe=`, `stages=[…]`, `upto=` (or `until=`) and `wait=` from Hydra overrides.

    Raises:
        UserError: For an argument that is not an override, or if no recipe is named.
    """
    recipe, upto, wait = None, None, False
    stages: tuple[str, ...] = ()
    rest = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not key or (not equals and not argument.startswith("~")):
            raise _no_override(argument)
        if key == "recipe":
            recipe = value
        elif key in ("upto", "until"):
            upto = value
        elif key == "wait":
            if value not in ("true", "false"):
                raise UserError(f"wait={value} is neither true nor false.", "Write wait=true.")
            wait = value == "true"
        elif key == "stages":
            stages = tuple(name.strip() for name in value.strip("[]").split(",") if name.strip())
            if not stages:
                raise UserError("stages= is empty.", "Name one, such as stages=[select].")
        else:
            rest.append(argument)
    if not recipe:
        raise UserError("No recipe is named.", f"Add recipe=NAME with one of: {', '.join(sorted(recipes()))}.")
    return Request(recipe, tuple(rest), stages, upto, wait=wait)


def _no_override(argument: str) -> UserError:
    if argument in recipes():
        return UserError(f"{argument!r} is the name of a recipe.", f"Write recipe={argument}.")
    return UserError(f"{argument!r} is neither an option nor an override.", "Give overrides as KEY=VALUE.")


def sweep(request: Request) -> list[Request]:
    """Return the requests of a `-m` sweep: one for each combination of values, with a run folder of its own."""
    varied = [f"{given.prefix}{given.key}=" for given in map(read, request.overrides) if is_sweep(given.text)]
    requests: dict[str, Request] = {}
    for overrides in variants(request.overrides):
        part = [text for text in overrides if text.startswith(tuple(varied))]
        # Without characters that Hydra or a shell interprets, so that the folder can be typed as run.dir=…
        name = re.sub(r"[^\w.+-]+", "-", mask_text("_".join(part))) or "all"
        if len(name.encode()) > MAX_NAME_BYTES or name in requests:  # a/1 and a-1 become the same name
            name = f"{name[:60]}…{digest(part)}"
        requests[name] = replace(request, overrides=tuple(overrides), variant=name)
    return list(requests.values())
