"""What kind of value a setting takes, in a user's words, out of what OmegaConf objects to a value of another kind.

OmegaConf speaks of Python's types and of its own containers, which nobody who writes a recipe has met.
"""

from __future__ import annotations

import re

_KINDS = (  # what OmegaConf 2.3 says -> what the key takes
    (r"could not be converted to Integer", "It takes a whole number."),
    (r"could not be converted to Float", "It takes a number."),
    (r"is not a valid bool", "It takes true or false."),
    (r"Cannot convert '\w+' to string", "It takes a text."),
    (r"Cannot (?:assign|merge) \w+ (?:to|with) (?:Dict\[|DictConfig)", "It takes a mapping, such as {NAME: VALUE}."),
    (r"(?:dict|DictConfig) is not a ListConfig|Cannot merge DictConfig with ListConfig", "It takes a list: [VALUE]."),
    (r"is not Optional", "It cannot be null."),
)


def kind_of_value(told: str, key: str, value: str | None = None) -> str | None:
    """The sentence on what `key` takes; None where OmegaConf's message does not tell. `value`: what it was given."""
    if "is not a ListConfig, list or tuple" in told and not re.search(r"\b(dict|DictConfig) is not", told):
        return f"It takes a list: write {key}=[{value if value is not None else 'VALUE'}]."
    if one_of := re.search(r"expected one of \[(.*?)\]", told):
        return f"It takes one of: {one_of[1]}."
    return next((kind for pattern, kind in _KINDS if re.search(pattern, told)), None)


def given_value(told: str) -> str | None:
    """The value that OmegaConf objects to, as it was typed; None where its message does not tell."""
    found = re.search(r"[Vv]alue '(.*)'(?: of type |,| is not )|Cannot convert '\w+' to string: '(.*)'", told)
    if found is None:
        return "null" if "is not Optional" in told else None
    return found[1] if found[1] is not None else found[2]
