"""A made-up parallel corpus that a tiny model learns in seconds: numbers, translated word by word in reverse order.

Its sources repeat here and there, carry placeholders and include pairs that cleaning has to drop, as real corpora do.
"""

from __future__ import annotations

import gzip
import random
from pathlib import Path

WORDS = {
    "zero": "nol",
    "one": "uno",
    "two": "dva",
    "three": "tri",
    "four": "kvar",
    "five": "pet",
    "six": "ses",
    "seven": "sep",
    "eight": "okta",
    "nine": "nau",
    "{name}": "{name}",
}


def write(folder: Path, pairs: int = 2400, seed: int = 7) -> None:
    """Write `corpus.en` and `corpus.xx.gz`, aligned by line."""
    random_ = random.Random(seed)
    source, target = [], []
    for _ in range(pairs):
        words = random_.choices(list(WORDS), k=random_.randint(2, 7))
        source.append(" ".join(words))
        target.append(" ".join(WORDS[word] for word in reversed(words)))
    source += [*source[:40], "", "one two three four five six seven eight nine zero", "copied as it is"]
    target += [*target[:40], "leer", "x", "copied as it is"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.en").write_text("".join(f"{line}\n" for line in source), "utf-8", newline="\n")
    packed = gzip.compress("".join(f"{line}\n" for line in target).encode(), mtime=0)  # the same bytes whenever written
    (folder / "corpus.xx.gz").write_bytes(packed)
