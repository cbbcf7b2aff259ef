"""Changes bytes as damaged disks, broken programs and hostile authors change them; a seed decides which."""

from __future__ import annotations

import random

# Bytes that mean something in the formats that are read here
TELLING = (
    b"\0",
    b"\n",
    b"\r",
    b"\r\n",
    b"\t",
    b'"',
    b"\\",
    b"<",
    b">",
    b"&",
    b"</tu>",
    b"<tu>",
    b"<!--",
    b"]]>",
    b"&#x1f;",
    b"{",
    b"[",
    b"}",
    b"]",
    b",",
    b"|||",
    b" ||| ",
    b"-1",
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\x1a",
    b"\xf0\x9f\x91\xa9",
    b"\xed\xa0\x80",
    b"\x1b[2J",
    b"..",
    b"/",
    b"PK\x05\x06",
    b"\x1f\x8b",
    b"[" * 3000,
)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return content with one to four changes, each of a random kind at a random place."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice(CHANGES)(content, chance)
    return content


def flip_bit(content: bytes, chance: random.Random) -> bytes:
    """Return content with another bit."""
    if not content:
        return content
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def truncate(content: bytes, chance: random.Random) -> bytes:
    """Return the beginning of content."""
    return content[: chance.randrange(len(content) + 1)]


def remove(content: bytes, chance: random.Random) -> bytes:
    """Return content without a piece."""
    start = chance.randrange(len(content) + 1)
    return content[:start] + content[start + chance.choice((1, 2, 8, 64)) :]


def repeat(content: bytes, chance: random.Random) -> bytes:
    """Return content with a piece that comes twice."""
    start = chance.randrange(len(content) + 1)
    end = start + chance.choice((1, 4, 32, 256))
    return content[:end] + content[start:end] + content[end:]


def insert(content: bytes, chance: random.Random) -> bytes:
    """Return content with bytes that mean something in one of the formats."""
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.choice(TELLING) + content[place:]


def overwrite(content: bytes, chance: random.Random) -> bytes:
    """Return content with random bytes in place of some."""
    place = chance.randrange(len(content) + 1)
    piece = chance.randbytes(chance.choice((1, 2, 4, 8)))
    return content[:place] + piece + content[place + len(piece) :]


CHANGES = (flip_bit, flip_bit, truncate, remove, repeat, insert, insert, overwrite)
