"""Read the languages of a recipe's pairs, and refuse texts that are not codes of languages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd.base.errors import UserError
from kd.models.language_names import code_of
from kd.models.languages import is_code, meant
from kd.recipe.schema.recipe import FILES_PAIR

EXAMPLES = "an ISO 639 code, such as en, pt-BR or zho_Hans"


def languages_of_pairs(pairs: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the language codes (`source` and `target`) of each language pair by its name.

    Raises:
        UserError: A pair does not name its languages, or a language has no valid code.
    """
    if len(pairs) > 1 and FILES_PAIR in pairs:
        named = next(name for name in pairs if name != FILES_PAIR)
        source, _, target = named.partition("-")
        raise UserError(
            f"The recipe has {named} and the unnamed pair {FILES_PAIR}, both of the same files.",
            f"Remove the unnamed pair: '~pairs.{FILES_PAIR}'. Or name its languages instead of adding a pair: "
            f"pairs.{FILES_PAIR}.source={source} pairs.{FILES_PAIR}.target={target}",
        )
    found = {name: _languages(name, pair) for name, pair in pairs.items()}
    _check(found)
    return found


def _languages(name: str, pair: Mapping[str, Any]) -> dict[str, str]:
    source, dash, target = name.partition("-")
    languages = {"source": pair["source"] or source, "target": pair["target"] or target}
    if not all(languages.values()) or (not dash and not pair["target"]):
        raise UserError(f"The pair {name} does not name its languages.", "Name it source-target, such as en-de.")
    return languages


def _check(pairs: Mapping[str, Mapping[str, str]]) -> None:
    """Raise UserError for languages that have no valid code; the placeholders of recipe=files are allowed."""
    wrong = {
        f"pairs.{name}.{side}": language
        for name, languages in pairs.items()
        for side, language in languages.items()
        if not is_code(language) and not (name == FILES_PAIR and language == side)
    }
    if not wrong:
        return
    texts = list(dict.fromkeys(wrong.values()))
    problem = f"{texts[0]} is not a language code." if len(texts) == 1 else f"{_and(texts)} are not language codes."
    codes = {key: meant(language) or code_of(language) for key, language in wrong.items()}
    if all(codes.values()):
        raise UserError(problem, f"Did you mean {' '.join(f'{key}={code}' for key, code in codes.items())}?")
    raise UserError(problem, f"Set {' and '.join(wrong)} to {EXAMPLES}.")


def _and(texts: list[str]) -> str:
    return f"{', '.join(texts[:-1])} and {texts[-1]}"
