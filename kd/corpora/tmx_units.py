"""Split a translation memory into units without parsing it, so that a malformed unit does not affect the others.

Each unit is then parsed separately. Used where `corpus.on_error` is `skip`; otherwise one parser reads the whole file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kd.corpora.archives import Member
from kd.corpora.lines import BrokenText, open_bytes

LONGEST_UNIT = 16 << 20  # characters; libxml2 takes 10 MB a text
_DECLARED = re.compile(rb"""<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_START = re.compile(r"<tu(?=[\s>])")
_APART = re.compile(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>", re.DOTALL)  # what may hold markup that is none
_END = re.compile(r"</tu\s*>")
_ROOT = re.compile(r"<tmx\b[^>]*>")


class Unit(NamedTuple):
    """The markup of a unit as found in the file."""

    markup: str
    line: int  # where it begins, from 1


def units(path: Path | Member) -> Iterator[Unit]:
    """Yield every `tu` of a file, complete or not. Bytes that the encoding does not allow become lone surrogates.

    Raises:
        BrokenText: The file ends within a unit or before `</tmx>`, is a damaged archive, or has an unknown encoding.
    """
    cutter = _Cutter(path)
    for text in _text(path):
        yield from cutter.feed(text)
    cutter.close()


def root_tag(path: Path | Member) -> str:
    """Return the start tag of the file's root element, whose namespaces apply in every unit."""
    begin = ""
    for text in _text(path):
        begin += text
        if (found := _ROOT.search(begin)) or len(begin) > 1 << 16:
            return found[0] if found else "<tmx>"
    return "<tmx>"


class _Cutter:
    """Find units in text that arrives in pieces; comments are removed first, since they may contain units."""

    def __init__(self, path: Path | Member) -> None:
        self._path = path
        self._tail = ""  # an unfinished comment or CDATA section
        self._text = ""
        self._line = 1

    def feed(self, text: str) -> Iterator[Unit]:
        """Add more text and yield the units that end in it."""
        self._text += self._without_comments(text)
        while start := _START.search(self._text):
            self._drop(start.start())
            end, following = _END.search(self._text, 3), _START.search(self._text, 3)
            if following and (not end or following.start() < end.start()):
                yield self._take(following.start())  # a unit that is never closed
            elif end:
                yield self._take(end.end())
            elif len(self._text) > LONGEST_UNIT:
                yield self._take(len(self._text))
            else:
                return
        if "</tmx" not in self._text:
            self._drop(max(0, len(self._text) - 64))

    def close(self) -> None:
        """Raise BrokenText if the file ends before its root element does."""
        if self._tail or "</tmx" not in self._text or _START.search(self._text):
            raise BrokenText(f"{self._path}, line {self._line}: the file ends before </tmx>.", "Fetch it again.")

    def _without_comments(self, text: str) -> str:
        text = _APART.sub(_lines_alone, self._tail + text)
        # A comment or section that is not closed yet waits, and so does a beginning of its mark.
        marks = [place for place in (text.rfind("<!--"), text.rfind("<![CDATA[")) if place >= 0]
        open_from = [place for place in marks if not _APART.match(text, place)]
        cut = min(open_from) if open_from else len(text) - len(_PARTIAL.search(text)[0])  # type: ignore[index]
        self._tail = text[cut:]
        if len(self._tail) > LONGEST_UNIT:
            raise BrokenText(f"{self._path}, line {self._line}: a comment is not closed.", "Mend the file.")
        return text[:cut]

    def _take(self, size: int) -> Unit:
        unit = Unit(self._text[:size], self._line)
        self._drop(size)
        return unit

    def _drop(self, size: int) -> None:
        self._line += self._text.count("\n", 0, size)
        self._text = self._text[size:]


_PARTIAL = re.compile(r"(?:<(?:!(?:-|\[[A-Z]*)?)?)?\Z")


def _lines_alone(match: re.Match[str]) -> str:
    """Return a CDATA section unchanged, and a comment reduced to its line breaks, so that line numbers stay correct."""
    return match[0] if match[0].startswith("<![") else "\n" * match[0].count("\n")


def _text(path: Path | Member) -> Iterator[str]:
    chunks = open_bytes(path)
    begin = next(chunks, b"")
    encoding = _encoding(begin)
    try:
        decoder = codecs.getincrementaldecoder(encoding)(
            errors="surrogatepass" if encoding.startswith("utf-16") else "surrogateescape"
        )
    except LookupError:
        raise BrokenText(f"{path} declares the unknown encoding {encoding!r}.", "Convert it to UTF-8.") from None
    try:
        yield decoder.decode(begin)
        for chunk in chunks:
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise BrokenText(f"{path} is not valid {encoding}: {error}.", "Convert it to UTF-8.") from None


def _encoding(begin: bytes) -> str:
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    declared = _DECLARED.match(begin.removeprefix(codecs.BOM_UTF8))
    name = declared[1].decode("ascii").lower() if declared else "utf-8"
    return "utf-8-sig" if name in ("utf-8", "utf8") else name
