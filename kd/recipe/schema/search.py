"""Find settings by words, and the likely intended keys for a key that does not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from kd.recipe.schema.walk import NAME, Setting, hints, is_config, settings, split_key, type_at, without_none

ALIKE = 0.7  # difflib's ratio from which names resemble each other: `device` and `decode` have 0.67
MOST = 3  # keys that an error proposes at most
SYNONYMS = {
    "src": "source",
    "tgt": "target",
    "trg": "target",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "lr": "learning_rate",
    "ckpt": "checkpoint",
}
"""The field's other words for parts of keys."""


def search(words: Sequence[str], found: Iterable[Setting]) -> list[Setting]:
    """Return the settings whose key, aliases, meaning, unit or choices contain every word, in any order.

    A setting that contains the usual word for a synonym (`source` for `src`) is found as well.
    """
    return [setting for setting in found if all(_matches(word.lower(), setting) for word in words)]


def _matches(word: str, setting: Setting) -> bool:
    return _contains(setting, word) or ((usual := with_usual_words(word)) != word and _contains(setting, usual))


def with_usual_words(key: str) -> str:
    """Return a key with the usual words for its synonyms: `test.source` for `test.src`."""
    return ".".join(SYNONYMS.get(part.lower(), part) for part in key.split("."))


def _contains(setting: Setting, word: str) -> bool:
    spaced = word.replace("_", " ")
    text = " ".join((setting.key.replace("_", " "), *setting.aliases, setting.meaning, setting.unit)).lower()
    return word in setting.key.lower() or spaced in text.replace("_", " ")


def nearest(key: str, schema: type, entries: Sequence[str] = (), *, elsewhere: bool = True) -> list[str]:
    """Return the full keys that were probably meant, the likeliest first; empty if none is similar.

    Args:
        key: The key that does not exist.
        schema: Config dataclass in which it was looked up.
        entries: Existing names at the position of its last part, if the user chooses these names.
        elsewhere: Whether to look for its last part at other levels as well.
    """
    usual = with_usual_words(key)
    if usual != key and _is_key(usual, schema):
        return [usual]
    above, _, leaf = key.rpartition(".")
    beside = difflib.get_close_matches(leaf, [*_fields(above, schema), *entries], n=1, cutoff=ALIKE)
    if beside:
        return [f"{above}.{beside[0]}" if above else beside[0]]
    if not elsewhere:
        return []
    others = [setting for setting in settings(schema) if NAME not in setting.key and _is_meant(leaf, setting)]
    first = key.partition(".")[0] if above else ""
    same = [setting.key for setting in others if first and setting.key.startswith(f"{first}.")]
    return (same or [setting.key for setting in others])[:MOST]


def _is_key(key: str, schema: type) -> bool:
    """Return whether a key takes a value; groups of settings do not."""
    names = split_key(schema, key)
    return names is not None and not is_config(without_none(type_at(schema, names))[0])


def _fields(above: str, schema: type) -> list[str]:
    names = split_key(schema, above, holds_mapping=True)
    kind = None if names is None else without_none(type_at(schema, names))[0]
    return list(hints(kind)) if is_config(kind) else []


def _is_meant(leaf: str, setting: Setting) -> bool:
    plain = re.sub(r"[\W_]", "", leaf.lower())
    return any(plain == re.sub(r"[\W_]", "", name.lower()) for name in (setting.leaf, *setting.aliases))
