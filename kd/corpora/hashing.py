"""A seeded hash of a sentence, used to draw held-out sets and to shuffle corpora.

It depends on seed, purpose and text alone, so it is the same in every corpus and on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

HASH_BITS = 64


def sentence_hash(seed: int, purpose: str) -> Callable[[str], int]:
    """Return a function from text to 64 bits (BLAKE2b). Two purposes with one seed give unrelated hashes."""
    salt = (seed % (1 << 128)).to_bytes(16, "little")
    person = purpose.encode("ascii")
    blake2b, from_bytes = hashlib.blake2b, int.from_bytes

    def of(text: str) -> int:
        digest = blake2b(text.encode("utf-8"), digest_size=HASH_BITS // 8, salt=salt, person=person).digest()
        return from_bytes(digest, "big")

    return of
