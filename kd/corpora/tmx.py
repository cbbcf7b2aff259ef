"""Translation memories in TMX 1.4, the format that translators' tools and institutions exchange, streamed.

Units are read one at a time and forgotten, so that memory stays flat; entities, DTDs and the network are off.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from lxml import etree

from kd.base.errors import UserError
from kd.corpora.archives import Member
from kd.corpora.lines import BrokenText, PathLike, check_file, open_bytes, without_breaks

FEED_BYTES = 1 << 16  # given to the parser at once; what it makes of them is in memory
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# TMX 1.4b, 3.3: what these hold is native code, or (sub) a text of its own that only stands inside another's code.
CODE = frozenset(("bpt", "ept", "ph", "it", "ut", "sub"))
BREAK_TYPES = frozenset(("lb", "pb", "cb"))  # TMX 1.4b, 4.1, values of `type`: line, page and column break
BREAK_CODE = re.compile(r"<br\b|\\(?:line|par|tab|page)\b|\n", re.IGNORECASE)
UNRESOLVED = "entities not resolved"
NEWLINES = {codecs.BOM_UTF16_LE: b"\n\0", codecs.BOM_UTF16_BE: b"\0\n"}  # as Euramis and Trados export
VARIANTS = "several variants of a language"
BREAKS = "line breaks made spaces"


class NoSuchPair(UserError):
    """A file in which no unit has both languages."""


def read_tmx(
    path: PathLike | Member,
    source: str,
    target: str,
    keep: Sequence[str] = (),
    counts: Counter[str] | None = None,
) -> Iterator[tuple[str, ...]]:
    """Yield source, target and the values of `keep` for each translation unit that has both languages.

    source, target: BCP-47 codes, matched as basic ranges of RFC 4647 (`en` takes `en-GB` and `EN_us`); of several
    variants in a unit an exact match is taken, else the first. keep: names of attributes (creationdate, tuid …) or
    `prop:TYPE`; the unit's own value, else the target variant's, else the source's; "" where there is none, several
    properties of a type joined by `; `.

    Of inline elements bpt, ept, ph, it, ut and sub go with all they hold, hi and any other stays as its text. Nothing
    is put in their place, but a space for a placeholder that breaks a line between two words. A run of line breaks
    becomes one space, other whitespace stays. `counts` takes how often that was done, and the units left out, by
    reason.

    Raises UserError for a missing file, BrokenText, with line and byte, where the XML ends or is bad, and NoSuchPair at
    the end of a file that has the languages in no unit.
    """
    counts = Counter() if counts is None else counts
    return _units(check_file(path), source, target, keep, counts)


def _units(
    path: Path | Member, source: str, target: str, keep: Sequence[str], counts: Counter[str]
) -> Iterator[tuple[str, ...]]:
    seen: Counter[str] = Counter()
    found = False
    for unit in _elements(path):
        variants = unit.findall("{*}tuv")
        sides = [_variant(variants, language, counts) for language in (source, target)]
        if None not in sides:
            found = True
            if row := _row(unit, sides, keep, counts):
                yield row
            continue
        seen.update(filter(None, map(_language, variants)) if not found else ())
        missing = [language for language, side in zip((source, target), sides, strict=True) if side is None]
        counts[f"no {' and no '.join(missing)}"] += 1
    if seen and not found:
        there = ", ".join(sorted(seen)[:40])
        raise NoSuchPair(
            f"No translation unit of {path} has both {source} and {target}: there are {there}.",
            "Name the pair in the recipe by languages that the file has.",
        )


@lru_cache(maxsize=4096)
def matches(language: str, tag: str) -> bool:
    """Whether a tag is within a basic language range (RFC 4647, 3.3.1), `_` counting as `-`."""
    wanted, given = (text.replace("_", "-").lower() for text in (language, tag))
    return given == wanted or given.startswith(wanted + "-")


def _language(variant: etree._Element) -> str:
    return str(variant.get(LANGUAGE) or variant.get("lang") or "")


def _variant(variants: Sequence[etree._Element], language: str, counts: Counter[str]) -> etree._Element | None:
    fitting = [variant for variant in variants if matches(language, _language(variant))]
    if len(fitting) > 1:
        counts[VARIANTS] += 1
        exact = language.replace("_", "-").lower()
        fitting.sort(key=lambda variant: _language(variant).replace("_", "-").lower() != exact)  # stable
    return fitting[0] if fitting else None


def _row(
    unit: etree._Element, sides: Sequence[etree._Element | None], keep: Sequence[str], counts: Counter[str]
) -> tuple[str, ...] | None:
    texts = []
    for side in sides:
        segment = side.find("{*}seg") if side is not None else None
        if segment is None:
            counts["no segment"] += 1
            return None
        if next(segment.iter(etree.Entity), None) is not None:
            counts[UNRESOLVED] += 1
            return None
        text = segment_text(segment)
        if "\n" in text:
            counts[BREAKS] += 1
        texts.append(without_breaks(text))
    source, target = sides
    places = [place for place in (unit, target, source) if place is not None]
    return (*texts, *(_provenance(places, name) for name in keep))


def segment_text(element: etree._Element) -> str:
    """The text of a segment without its inline elements; see `read_tmx` for what becomes of each."""
    if not len(element):
        return element.text or ""
    parts: list[str] = []
    _collect(element, parts)
    return "".join(parts)


def _collect(element: etree._Element, parts: list[str]) -> None:
    parts.append(element.text or "")
    for child in element:
        tail = child.tail or ""
        if isinstance(child.tag, str):  # no comment, no processing instruction
            if child.tag.rpartition("}")[2] not in CODE:
                _collect(child, parts)
            elif tail and not tail[0].isspace() and not _ends_in_space(parts) and _breaks_line(child):
                parts.append(" ")
        parts.append(tail)


def _breaks_line(code: etree._Element) -> bool:
    native = "".join(str(text) for text in code.itertext())
    return code.get("type") in BREAK_TYPES or BREAK_CODE.search(native) is not None


def _ends_in_space(parts: Sequence[str]) -> bool:
    last = next((part for part in reversed(parts) if part), " ")  # nothing before it: no space is wanted either
    return last[-1].isspace()


def _provenance(places: Sequence[etree._Element], name: str) -> str:
    kind, colon, wanted = name.partition(":")
    for place in places:
        if colon and kind == "prop":
            values = [prop.text or "" for prop in place.findall("{*}prop") if prop.get("type") == wanted]
            value = "; ".join(values)
        else:
            value = place.get(name) or ""
        if value:
            return without_breaks(value)
    return ""


# --- XML, one unit at a time -------------------------------------------------------------------------------------


def _elements(path: Path | Member) -> Iterator[etree._Element]:
    """Every `tu`, each gone from memory once the next is asked for. libxml2's limits stay on: 10 MB a text, depth."""
    parser = etree.XMLPullParser(
        events=("end",),
        tag="{*}tu",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        collect_ids=False,
    )
    try:
        for chunk in open_bytes(path):
            for start in range(0, len(chunk), FEED_BYTES):
                parser.feed(chunk[start : start + FEED_BYTES])
                yield from _finished(parser)
        parser.close()
    except etree.XMLSyntaxError as error:
        yield from _finished(parser)
        raise _bad_xml(path, error) from None
    yield from _finished(parser)


def _finished(parser: etree.XMLPullParser) -> Iterator[etree._Element]:
    with contextlib.suppress(etree.XMLSyntaxError):  # comes back from the parser, once what was good is taken
        for _, unit in parser.read_events():
            assert isinstance(unit, etree._Element)
            yield unit
            unit.clear()
            parent = unit.getparent()
            while parent is not None and parent[0] is not unit:  # earlier units, empty by now, and what was between
                del parent[0]


def _bad_xml(path: Path | Member, error: etree.XMLSyntaxError) -> BrokenText:
    line, column = error.lineno or 1, max(error.offset or 1, 1)
    place = f"line {line}"
    with contextlib.suppress(BrokenText):  # a damaged archive: then it has no bytes to count
        before, width = _line_start(path, line)
        place += f", byte {before + (column - 1) * width + 1}"
    reason = re.sub(r",\s+line \d+, column \d+.*", "", str(error.msg), flags=re.DOTALL).rstrip(".\n ")
    return BrokenText(f"{path}, {place}: {reason}.", "Mend the file.")


def _line_start(path: Path | Member, line: int) -> tuple[int, int]:
    """The bytes before a line of the decompressed file, which is read again for it, and the bytes of a character."""
    before, wanted = 0, line - 1
    newline = b""
    for chunk in open_bytes(path):
        newline = newline or NEWLINES.get(chunk[:2], b"\n")
        at = -1
        while wanted and (at := chunk.find(newline, at + 1)) >= 0:
            wanted -= 1
            if not wanted:
                return before + at + len(newline), len(newline)
        before += len(chunk)
    return before if wanted else 0, len(newline)
