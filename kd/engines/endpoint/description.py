"""The description of a teacher behind a server: its model, its prompt, and the server's address.

A folder of such a teacher holds `model.json` alone, whose entry `endpoint` has the settings and the few-shot examples.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kd.base.errors import UserError
from kd.base.urls import HTTP, is_local, is_secret, is_secret_variable, split_secrets
from kd.models.description import ENDPOINT, FORMAT, Languages, read_description
from kd.models.folder import write_description
from kd.models.integrity import COPY_AGAIN
from kd.models.language_names import name_of
from kd.recipe.schema import TRANSIENT, EndpointConfig

ENTRY = "endpoint"  # in model.json
_PLACE = re.compile(r"\{(\w+)\}")
_LANGUAGES = ("source_language", "target_language")
_LONGEST_EXAMPLE = 400  # characters of a side


@dataclass(frozen=True)
class Endpoint:
    """A teacher behind a server.

    Attributes:
        name: Its name in the recipe, for messages.
        model: The server's name of the model.
        settings: Its keys in the recipe.
        languages: Codes of source and target.
        examples: Source and target of the few-shot examples.
    """

    name: str
    model: str
    settings: EndpointConfig
    languages: tuple[str, str]
    examples: tuple[tuple[str, str], ...] = ()

    @classmethod
    def open(cls, folder: Path, now: Mapping[str, Any] | None = None) -> Endpoint:
        """Read a folder. `now`: the current settings; their address, prices and limits replace the recorded ones."""
        description = read_description(folder)
        entry: Any = description.get(ENTRY)
        try:
            known = {field.name for field in fields(EndpointConfig)}
            settings = EndpointConfig(**{name: value for name, value in entry["settings"].items() if name in known})
            if now is not None:
                moving = [each.name for each in fields(EndpointConfig) if TRANSIENT.items() <= each.metadata.items()]
                settings = replace(settings, **{name: now[name] for name in moving if name in now})
            examples = tuple((str(source), str(target)) for source, target in entry["examples"])
            languages = (description["source_languages"][0], description["target_languages"][0])
            return cls(str(entry["name"]), str(entry["model"]), settings, languages, examples)
        except (TypeError, KeyError, ValueError, IndexError):
            raise UserError(f"{folder / 'model.json'} is damaged: it describes no endpoint.", COPY_AGAIN) from None

    def write(self, folder: Path) -> None:
        """Write the folder."""
        entry = {"name": self.name, "model": self.model, "settings": asdict(self.settings), "examples": self.examples}
        languages = Languages(self.languages[:1], self.languages[1:])
        write_description(folder, {"format": FORMAT, "engine": ENDPOINT, **languages.to_json(), ENTRY: entry})

    @property
    def where(self) -> str:
        """The key of its settings in the recipe, for messages."""
        return f"teachers.{self.name}"

    def messages(self, source: str) -> list[dict[str, str]]:
        """Return the messages of a request for the translation of a source."""
        named = dict(zip(_LANGUAGES, map(name_of, self.languages), strict=True))
        shown = (filled(self.settings.example, {**named, "source": one, "target": two}) for one, two in self.examples)
        user = filled(self.settings.prompt, {**named, "source": source, "examples": "".join(shown)})
        system = [{"role": "system", "content": filled(self.settings.system, named)}] if self.settings.system else []
        return [*system, {"role": "user", "content": user}]

    def frame(self) -> int:
        """Return the number of characters in a request, the source excluded."""
        return sum(len(message["content"]) for message in self.messages(""))


def filled(template: str, values: Mapping[str, str]) -> str:
    """Fill in the placeholders in one pass: a source may itself contain braces, which str.format would interpret."""
    return _PLACE.sub(lambda match: values.get(match[1], match[0]), template)


def check(name: str, model: str | None, settings: EndpointConfig) -> None:
    """Raise UserError for settings that cannot work, before any request."""
    key = f"teachers.{name}"
    if not model:
        raise UserError(f"{key}.model is not set.", "Set it to the name that the server has for the model.")
    url = settings.url or ""
    if not url.startswith(HTTP) or not urlsplit(url).hostname:
        raise UserError(f"{key}.url is {settings.url or 'not set'}.", f"Set it: {key}.url=http://localhost:8000/v1")
    if settings.start is not None and not is_local(url):
        raise UserError(
            f"{key}.start starts a server on the computer of the task, but {key}.url is {url}.",
            f"Set {key}.url=http://localhost:{{port}}/v1",
        )
    if settings.start is None and "{port}" in url:
        raise UserError(f"{key}.url has {{port}}, and {key}.start is not set.", f"Set {key}.start to a command.")
    _check_start(f"{key}.start", settings.start or "")
    _, secrets = split_secrets(url)
    if secrets.login or secrets.query:
        raise UserError(
            f"{key}.url holds a password or a key.", f"Put the key into the environment variable {settings.key}."
        )
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", settings.key):
        raise UserError(  # perhaps the key itself, which is not shown
            f"{key}.key is not the name of an environment variable.", "Set the variable, and give its name here."
        )
    _check_places(f"{key}.prompt", settings.prompt, ("source",), ("examples", *_LANGUAGES))
    _check_places(f"{key}.example", settings.example, ("source", "target"), _LANGUAGES)
    _check_places(f"{key}.system", settings.system or "", (), _LANGUAGES)
    if settings.examples and "{examples}" not in settings.prompt:
        raise UserError(
            f"{key}.examples is {settings.examples}, but the prompt has no {{examples}}.",
            "Put {examples} into the prompt.",
        )
    if reserved := {"messages", "model", "stream", "n"} & set(settings.fields):
        raise UserError(f"{key}.fields has {min(reserved)}, which kd sets.", "Leave it out.")
    if secret := [each for each in settings.fields if each != "user" and is_secret(each)]:
        raise UserError(
            f"{key}.fields has {secret[0]}, which may be a secret, and recipes are kept as they are.",
            f"Put the key into the environment variable {settings.key}.",
        )


def _check_start(key: str, command: str) -> None:
    """Raise UserError for a command that cannot be split, or in which a key is written (`--api-key KEY`, `TOKEN=…`)."""
    _check_places(key, command, (), ("model", "port"))
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"{key} is not a command: {error}.", "Correct its quotes.") from None
    for word, following in zip(words, [*words, "-"][1:], strict=True):
        name, equals, value = word.partition("=")
        given = value if equals else "" if following.startswith("-") or not word.startswith("-") else following
        if given and is_secret_variable(name):
            raise UserError(
                f"{key} has {name}, which may be a secret, and recipes are kept as they are.",
                "Leave it out, and set it in the environment of `kd run`, from which the server reads it (vLLM: "
                "VLLM_API_KEY).",
            )


def _check_places(key: str, template: str, needed: Sequence[str], allowed: Sequence[str]) -> None:
    found = _PLACE.findall(template)
    if missing := [name for name in needed if name not in found]:
        raise UserError(f"{key} has no {{{missing[0]}}}.", f"Put {{{missing[0]}}} where the text belongs.")
    if unknown := [name for name in found if name not in (*needed, *allowed)]:
        places = ", ".join(f"{{{name}}}" for name in (*needed, *allowed))
        raise UserError(f"{key} has {{{unknown[0]}}}, which is not known.", f"It may have {places}.")


def draw_examples(pairs: Sequence[tuple[str, str]], count: int) -> tuple[tuple[str, str], ...]:
    """Return `count` pairs for few-shot prompts, spread evenly over a set; long and empty pairs are left out.

    Raises:
        UserError: The set has fewer usable pairs.
    """
    usable = [pair for pair in pairs if all(side.strip() and len(side) <= _LONGEST_EXAMPLE for side in pair)]
    if len(usable) < count:
        raise UserError(f"dev has {len(usable)} pairs that can be examples, but {count} are needed.", "Lower examples.")
    return tuple(usable[number * len(usable) // count] for number in range(count))
