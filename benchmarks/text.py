"""Text made up for benchmarks: sentences of ordinary length whose words are as unevenly frequent as in a language.

Equal seeds give equal text; a sentence costs about a microsecond, so that millions can be had.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate

_LETTERS = "eeeeeeennnniiissrrraaatttdhulcgmobwfkzpvüäöß"
_VOCABULARY = 50_000  # words
_PHRASES = 20_000  # sentences are put together from these


def sentences(count: int, seed: int, words: int = 20) -> Iterator[str]:
    """Yield sentences of about `words` words, half as many to one and a half times as many."""
    rng = random.Random(seed)
    lexicon = ["".join(rng.choices(_LETTERS, k=rng.choice((2, 3, 3, 4, 5, 6, 7, 9, 12)))) for _ in range(_VOCABULARY)]
    zipf = list(accumulate(1 / rank for rank in range(1, _VOCABULARY + 1)))
    size = max(1, words // 4)
    phrases = [" ".join(rng.choices(lexicon, cum_weights=zipf, k=size)) for _ in range(_PHRASES)]
    choice, parts = rng.choices, (2, 3, 4, 4, 5, 6)
    for _ in range(count):
        yield " ".join(choice(phrases, k=rng.choice(parts))) + "."


def pairs(count: int, seed: int, words: int = 20) -> Iterator[tuple[str, str]]:
    """Yield pairs of two made-up languages."""
    return zip(sentences(count, seed, words), sentences(count, seed + 1, words), strict=True)
