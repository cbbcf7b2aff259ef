"""Read translation memories in TMX 1.4, the exchange format of translation tools and institutions.

Units are read one at a time, so memory does not grow with the file; entities, DTDs and network access are off.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lxml import etree

from kd.base.errors import UserError
from kd.base.escapes import visible
from kd.corpora.archives import Member
from kd.corpora.lines import Broken, BrokenRow, BrokenText, PathLike, check_file, open_bytes, without_breaks
from kd.corpora.tmx_text import segment_text
from kd.corpora.tmx_units import root_tag, units
from kd.models.languages import matches, standard

FEED_BYTES = 1 << 16  # given to the parser at once; the resulting elements are in memory
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
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
    broken: Broken | None = None,
    keep_codes: bool = False,
) -> Iterator[tuple[str, ...]]:
    """Yield source, target and the values of `keep` for each translation unit that has both languages.

    bpt, ept, ph, it, ut and sub are removed with their content, which is native code; hi and unknown elements leave
    their text. Native code that is white space, a line break or a block tag becomes a space between two words. A run of
    line breaks in the text becomes one space.

    Args:
        path: The file.
        source: BCP-47 code, matched as a basic language range of RFC 4647 (`en` matches `en-GB` and `EN_us`); ISO 639-2
            and 639-3 codes equal those of 639-1 (`eng`). Of several variants in a unit, an exact match is taken, else
            the first.
        target: The same for the target language.
        keep: Names of attributes (creationdate, tuid …) or `prop:TYPE`; the unit's own value, else the target
            variant's, else the source's, else "". Several properties of a type are joined by `; `.
        counts: Receives the numbers of omitted units, by reason, and of replaced line breaks.
        broken: Receives each unit that is not well-formed, control characters included; without it, the file is
            refused.
        keep_codes: Keep native code that stands for a variable (`{0}`, `%s`) as text.

    Raises:
        UserError: Immediately, for a missing file.
        BrokenText: While reading, with line and byte, if the XML ends early or is not well-formed.
        NoSuchPair: At the end of a file in which no unit has both languages.
    """
    counts = Counter() if counts is None else counts
    place = check_file(path)
    elements = _elements(place) if broken is None else _elements_alone(place, broken)
    return _units(place, elements, source, target, _Wanted(keep, keep_codes), counts)


class _Wanted(NamedTuple):
    keep: Sequence[str]
    codes: bool


def _units(
    path: Path | Member,
    elements: Iterator[etree._Element],
    source: str,
    target: str,
    wanted: _Wanted,
    counts: Counter[str],
) -> Iterator[tuple[str, ...]]:
    seen: Counter[str] = Counter()
    found = False
    for unit in elements:
        variants = unit.findall("{*}tuv")
        sides = [_variant(variants, language, counts) for language in (source, target)]
        if None not in sides:
            found = True
            if row := _row(unit, sides, wanted, counts):
                yield row
            continue
        seen.update(filter(None, map(_language, variants)) if not found else ())
        missing = [language for language, side in zip((source, target), sides, strict=True) if side is None]
        counts[f"no {' and no '.join(missing)}"] += 1
    if seen and not found:
        there = visible(", ".join(sorted(seen)[:40]))
        raise NoSuchPair(
            f"No translation unit of {path} has both {source} and {target}: there are {there}.",
            "Use languages of the file in the recipe's pair.",
        )


def _language(variant: etree._Element) -> str:
    return str(variant.get(LANGUAGE) or variant.get("lang") or "")


def _variant(variants: Sequence[etree._Element], language: str, counts: Counter[str]) -> etree._Element | None:
    fitting = [variant for variant in variants if matches(language, _language(variant))]
    if len(fitting) > 1:
        counts[VARIANTS] += 1
        exact = standard(language)
        fitting.sort(key=lambda variant: standard(_language(variant)) != exact)  # stable
    return fitting[0] if fitting else None


def _row(
    unit: etree._Element, sides: Sequence[etree._Element | None], wanted: _Wanted, counts: Counter[str]
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
        text = segment_text(segment, wanted.codes)
        if "\n" in text:
            counts[BREAKS] += 1
        texts.append(without_breaks(text))
    source, target = sides
    places = [place for place in (unit, target, source) if place is not None]
    return (*texts, *(_provenance(places, name) for name in wanted.keep))


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


# libxml2's limits stay on: 10 MB a text, 256 levels.
SAFE: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "dtd_validation": False,
    "attribute_defaults": False,
    "huge_tree": False,
    "collect_ids": False,
}


def _elements(path: Path | Member) -> Iterator[etree._Element]:
    """Yield every `tu`; each is removed from memory when the next one is requested."""
    parser = etree.XMLPullParser(events=("end",), tag="{*}tu", **SAFE)
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


def _elements_alone(path: Path | Member, broken: Broken) -> Iterator[etree._Element]:
    """Yield every `tu` that is well-formed by itself, and pass the others to `broken`."""
    root = root_tag(path)
    for markup, line in units(path):
        try:
            (unit,) = etree.fromstring(f"{root}{markup}</tmx>".encode(), etree.XMLParser(**SAFE))
        except UnicodeEncodeError:
            reason, readable = "bytes that the encoding does not allow", markup.encode("utf-8", "replace").decode()
            broken(_malformed(path, line, reason, readable), [readable])
        except (etree.XMLSyntaxError, ValueError) as error:
            broken(_malformed(path, line, _reason(error), markup), [markup])
        else:
            yield unit


def _malformed(path: Path | Member, line: int, reason: str, markup: str) -> BrokenRow:
    return BrokenRow(f"{path}, the unit in line {line}: {reason}.", "Mend the file.", "malformed unit", line, markup)


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
    return BrokenText(f"{path}, {place}: {_reason(error)}.", "Mend the file.")


def _reason(error: Exception) -> str:
    """Return libxml2's message without its position, which is relative to the parsed piece of text."""
    return re.sub(r",\s+line \d+, column \d+.*", "", str(error), flags=re.DOTALL).rstrip(".\n ")


def _line_start(path: Path | Member, line: int) -> tuple[int, int]:
    """Read the decompressed file again; return the number of bytes before a line, and per character."""
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
