"""What several tests of corpora share: text that breaks other people's readers, and a way to tamper with shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import zstandard
from lxml import etree

TORTURE = [
    "next line \x85 here",
    "line separator \u2028 and paragraph separator \u2029",
    "lone \r return",
    "ends like Windows\r",
    "form \f feed, \v tab, \x1c \x1d \x1e separators",
    "NUL \0 byte",
    "",
    "\ufeffa byte order mark",
    "right-to-left \u200f mark, \u202eoverride",
    "family 👩‍👩‍👧‍👦, flag 🇪🇺",
    " no-break\u00a0space ",
    "",
    "x" * (1 << 20),
    "last",
]

AS_READ = [text.rstrip("\r") for text in TORTURE]  # as users' files are read: line ends are no content


def rewrite(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a shard's file as someone would who knows nothing of the index."""
    lines = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()).split(b"\n")[:-1]
    path.write_bytes(zstandard.compress(b"".join(line + b"\n" for line in change(lines))))


def write_tmx(path: Path, pairs: Iterable[tuple[str, str]], source: str = "en-GB", target: str = "DE") -> None:
    """A TMX file as lxml serialises it, which knows what has to be escaped."""
    with etree.xmlfile(str(path), encoding="utf-8") as file:
        file.write_declaration()
        with file.element("tmx", version="1.4"), file.element("body"):
            for texts in pairs:
                unit = etree.Element("tu")
                for language, text in zip((source, target), texts, strict=True):
                    variant = etree.SubElement(unit, "tuv")
                    variant.set("{http://www.w3.org/XML/1998/namespace}lang", language)
                    etree.SubElement(variant, "seg").text = text
                file.write(unit)
                file.write("\n")
