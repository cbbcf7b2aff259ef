"""Real text in many languages and scripts: the messages of Django, with people's translations of them.

Django is installed for its catalogues alone (extra `test` in pyproject.toml) and never imported.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import polib


@cache
def messages(language: str) -> tuple[tuple[str, str], ...]:
    """Return the distinct pairs of an English message and its translation, one line each.

    Args:
        language: a folder's name in Django's `locale`, such as "de" or "zh_Hans".
    """
    package = find_spec("django")
    assert package is not None and package.origin is not None
    files = sorted(Path(package.origin).parent.glob(f"**/locale/{language}/LC_MESSAGES/django.po"))
    pairs = [pair for file in files for entry in polib.pofile(str(file)) for pair in _pairs(entry)]
    lines = [(_line(english), _line(translation)) for english, translation in pairs]
    return tuple(dict.fromkeys(pair for pair in lines if all(pair) and pair[0] != pair[1]))


def _pairs(entry: polib.POEntry) -> list[tuple[str, str]]:
    if not entry.msgid_plural:
        return [(entry.msgid, entry.msgstr)]
    forms = entry.msgstr_plural
    return [(entry.msgid, forms[min(forms)]), (entry.msgid_plural, forms[max(forms)])]


def _line(text: str) -> str:
    return text.replace("\n", " ").strip()
