"""What tables call the files they were given: as little of a path as tells it from the others.

Programs read whole names; what people read leaves out what all names have in common.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from kd.base.errors import UserError

WORTH = 8  # characters that are worth a note below the table
_ENDS = re.compile(r"[^\W_]+$")  # of what is common: the letters of a word that goes on differently


def labelled(given: Sequence[str]) -> dict[str, Path]:
    """Files by what the tables call them: the name before `=`, or the shortest end of the path that tells them apart.

    Raises UserError for a file that is given twice, or a name that two have.
    """
    named: dict[str, Path] = {}
    unnamed: list[Path] = []
    order: list[str | Path] = []
    for text in given:
        name, equals, path = text.partition("=")
        if equals and name and not Path(text).exists():
            if name in named:
                raise UserError(f"Two hypotheses are called {name}.", "Give each a name of its own.")
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
        raise UserError(f"Two hypotheses are called {taken}.", "Give each a name of its own: NAME=PATH.")
    return files


def _shortest(paths: Sequence[Path]) -> list[str]:
    """As many of its last parts as tell each path from the others."""
    parts = [path.resolve().parts if len({p.name for p in paths}) < len(paths) else path.parts for path in paths]
    found = []
    for mine in parts:
        length = 1
        while sum(other[-length:] == mine[-length:] for other in parts) > 1:
            length += 1
        found.append("/".join(mine[-length:]).replace("//", "/"))
    return found


def short(names: Sequence[str]) -> tuple[dict[str, str], str]:
    """Names for a table, by name, and what they all begin with and the table leaves out; nothing where little is won.

    `newstest2021.en-de.hyp.UEdin.de` among its like becomes `UEdin.de`.
    """
    first, last = min(names), max(names)  # what these two begin with, all do
    common = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    common = _ENDS.sub("", common)
    if len(names) < 2 or len(common) < WORTH or any(name == common for name in names):
        return {name: name for name in names}, ""
    return {name: name[len(common) :] for name in names}, common
