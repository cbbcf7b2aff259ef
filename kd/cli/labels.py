"""Derive the names of systems in tables from the paths of their files: the shortest distinct endings.

Output for programs has the whole names; tables for people leave out the parts that all names have in common.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from kd.base.errors import UserError

WORTH = 8  # common characters from which the table has a note
_ENDS = re.compile(r"[^\W_]+$")  # the last word of the common part, which may continue differently


def labelled(given: Sequence[str]) -> dict[str, Path]:
    """Return the files by name: the text before `=`, or the shortest unique ending of the path.

    Raises:
        UserError: A file is given twice, or two files have the same name.
    """
    named: dict[str, Path] = {}
    unnamed: list[Path] = []
    order: list[str | Path] = []
    for text in given:
        name, equals, path = text.partition("=")
        if equals and name and not Path(text).exists():
            if name in named:
                raise UserError(f"Two hypotheses are called {name}.", "Give each another name.")
            named[name] = Path(path)
            order.append(name)
        else:
            unnamed.append(Path(text))
            order.append(Path(text))
    seen: set[Path] = set()
    for file in [*named.values(), *unnamed]:
        place = file.resolve()
        if place in seen:
            raise UserError(f"The hypothesis {file} is given twice.", "Give each file once.")
        seen.add(place)
    labels = dict(zip(unnamed, _shortest(unnamed), strict=True))
    files = {labels[item] if isinstance(item, Path) else item: named[item] if isinstance(item, str) else item
             for item in order}  # fmt: skip
    if len(files) < len(order):
        taken = next(label for label in labels.values() if label in named)
        raise UserError(f"Two hypotheses are called {taken}.", "Give each another name: NAME=PATH.")
    return files


def _shortest(paths: Sequence[Path]) -> list[str]:
    """Return each path cut to the fewest trailing parts that make it unique."""
    parts = [path.resolve().parts if len({p.name for p in paths}) < len(paths) else path.parts for path in paths]
    found = []
    for mine in parts:
        length = 1
        while sum(other[-length:] == mine[-length:] for other in parts) > 1:
            length += 1
        found.append("/".join(mine[-length:]).replace("//", "/"))
    return found


def short(names: Sequence[str]) -> tuple[dict[str, str], str]:
    """Map whole names to names for a table; also return the common beginning left out, if it is long enough.

    Among files of the same test set, `newstest2021.en-de.hyp.UEdin.de` becomes `UEdin.de`.
    """
    first, last = min(names), max(names)  # a beginning that these two share is common to all
    common = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    common = _ENDS.sub("", common)
    if len(names) < 2 or len(common) < WORTH or any(name == common for name in names):
        return {name: name for name in names}, ""
    return {name: name[len(common) :] for name in names}, common
