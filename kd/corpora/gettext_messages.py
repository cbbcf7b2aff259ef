"""Read the messages of gettext catalogues, .po and .mo, in time linear in their size.

polib parses them. It joins the lines of a message one by one, leaves octal escapes as they are and trusts the tables of
.mo files. Therefore this module prepares the text and checks the tables first.
"""

from __future__ import annotations

import codecs
import gettext
import re
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from kd.base.errors import UserError

Messages = dict[tuple[str, ...], str]  # context, message id and plural form -> text

NOT_TRANSLATED = "not translated"
_CHARSET = re.compile(rb"charset=([A-Za-z0-9._:-]+)")
_PLURAL = re.compile(r"plural\s*=\s*([^;]+)")
_CONTINUED = re.compile(r'\s*(#~\s*|#\|\s*)?(".*")\s*\Z', re.DOTALL)
_ESCAPES = re.compile(r"(?:\\[0-7]{1,3}|\\x[0-9A-Fa-f]{2})+|\\.", re.DOTALL)
_BYTE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|([0-7]{1,3}))")
_CONTROLS = {"\\a": "\a", "\\b": "\b", "\\f": "\f", "\\v": "\v"}
_QUOTED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_MO_MAGIC = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}


def gettext_messages(content: bytes, label: str, suffix: str, counts: Counter[str]) -> Messages:
    """Return the translated messages of a catalogue.

    Of the plural forms, those for n = 1 and for most n from 2 to 100 are taken, by the header's `Plural-Forms`.

    Args:
        content: The file.
        label: Its name, for messages.
        suffix: `.po` or `.mo`.
        counts: Receives the number of omitted messages, by reason.

    Raises:
        UserError: The content is not a catalogue.
    """
    catalogue = _parsed(content, label, suffix)
    forms = _forms(str(catalogue.metadata.get("Plural-Forms", "")))
    messages: Messages = {}
    for entry in catalogue:
        if entry.obsolete:
            counts["obsolete"] += 1
        elif "fuzzy" in getattr(entry, "flags", ()):
            counts["fuzzy"] += 1
        elif entry.msgid_plural:
            _add_plural(messages, entry, forms, counts)
        elif entry.msgstr:
            messages[entry.msgctxt or "", entry.msgid, ""] = entry.msgstr
        else:
            counts[NOT_TRANSLATED] += 1
    return messages


def _add_plural(messages: Messages, entry: Any, forms: tuple[int, int] | None, counts: Counter[str]) -> None:
    texts = {int(number): text for number, text in entry.msgstr_plural.items()}
    if not texts or not all(texts.values()):
        counts[NOT_TRANSLATED] += 1
        return
    if len(texts) == 1:  # the general form: a translation of the plural
        singular = plural = next(iter(texts))
    elif forms is not None:
        singular, plural = forms
    elif len(texts) == 2:
        singular, plural = 0, 1
    else:
        counts["no rule for plural forms"] += 1
        return
    if plural not in texts or singular not in texts:
        counts[NOT_TRANSLATED] += 1
        return
    if singular != plural:
        messages[entry.msgctxt or "", entry.msgid, "singular"] = texts[singular]
    messages[entry.msgctxt or "", entry.msgid_plural, "plural"] = texts[plural]


@lru_cache(maxsize=256)
def _forms(header: str) -> tuple[int, int] | None:
    """Return the numbers of the forms for 1 and for most numbers from 2 to 100; None without a valid rule."""
    found = _PLURAL.search(header)
    if not found:
        return None
    try:
        rule = gettext.c2py(found[1].strip())
        several = Counter(rule(number) for number in range(2, 101))
        return rule(1), several.most_common(1)[0][0]
    except (ValueError, ArithmeticError, RecursionError):
        return None


# --- parsing -----------------------------------------------------------------------------------------------------


def _parsed(content: bytes, label: str, suffix: str) -> Any:
    import polib

    if suffix == ".po":
        content = _prepared(content, label)
    else:
        _check_tables(content, label)
    # Through a file: polib splits a string, but not a file, at U+0085, U+2028 and their like.
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(content)
        file.flush()
        try:
            return polib.pofile(file.name, encoding="utf-8") if suffix == ".po" else polib.mofile(file.name)
        except Exception as error:  # a parser of other people's files, which raises whatever it meets
            reason = str(error).replace(file.name, Path(label.split(" in ", maxsplit=1)[0]).name).rstrip(".")
            raise _no_catalogue(label, reason or type(error).__name__) from None


def _no_catalogue(label: str, reason: str) -> UserError:
    return UserError(f"{label} is not a gettext catalogue: {reason}.", "Correct the file or leave it out.")


def _prepared(content: bytes, label: str) -> bytes:
    """Return a .po file in UTF-8 with each message on one line and only the escapes that polib knows."""
    found = _CHARSET.search(content[: 1 << 16])
    charset = found[1].decode("ascii") if found else "utf-8"
    if charset.upper() == "CHARSET":  # a template's
        charset = "utf-8"
    try:
        codec = codecs.lookup(charset)
        text = content.removeprefix(codecs.BOM_UTF8).decode(codec.name)
    except (LookupError, ValueError) as error:
        start = getattr(error, "start", 0)
        line = content.count(b"\n", 0, start) + 1
        raise UserError(
            f"{label}, line {line}: not valid {charset}, which its header names.", "Convert the file to UTF-8."
        ) from None
    lines = _joined(text.split("\n"))
    prepared = "\n".join(_with_known_escapes(line, codec.decode) for line in lines)
    return prepared.encode("utf-8", "replace")


def _joined(lines: Iterable[str]) -> list[str]:
    """Join the quoted lines of each message; empty lines replace them, so that line numbers stay correct."""
    done: list[str] = []
    pieces: list[str] = []
    empty = 0

    def finish() -> None:
        nonlocal empty
        if pieces:
            done.append(f'{pieces[0][:-1]}{"".join(piece[1:-1] for piece in pieces[1:])}"' if pieces[1:] else pieces[0])
        done.extend([""] * empty)
        pieces.clear()
        empty = 0

    for line in lines:
        line = line.rstrip("\r").replace("\r", "\\r")
        continued = _CONTINUED.match(line)
        if continued and pieces and _takes(pieces[0], continued[1]) and len(continued[2]) > 1:
            pieces.append(continued[2])
            empty += 1
            continue
        finish()
        pieces.append(line.rstrip())
    finish()
    return done


def _takes(first: str, mark: str | None) -> bool:
    """Return whether a quoted line with this comment mark continues a line of a message."""
    start = first.lstrip()
    if not first.endswith('"'):
        return False
    return start.startswith(mark.strip()) if mark else start.startswith(("msg", '"'))


def _with_known_escapes(line: str, decode: Callable[[bytes], tuple[str, int]]) -> str:
    if "\\" not in line or (line.startswith("#") and not line.startswith(("#~", "#|"))):
        return line

    def known(match: re.Match[str]) -> str:
        escape = match[0]
        if not _BYTE.match(escape):
            return _CONTROLS.get(escape, escape)
        values = [int(x, 16) if x else int(o, 8) & 0xFF for x, o in _BYTE.findall(escape)]
        try:
            text = decode(bytes(values))[0]
        except ValueError:
            return escape
        return "".join(_QUOTED.get(character, character) for character in text)

    return _ESCAPES.sub(known, line)


def _check_tables(content: bytes, label: str) -> None:
    """Check that the strings of a .mo file lie within the file and total at most twice its size."""
    order = _MO_MAGIC.get(content[:4])
    try:
        if order is None:
            raise ValueError("it does not begin like a .mo file")
        _, number, originals, translations = struct.unpack_from(f"{order}4I", content, 4)
        total = 0
        for table in (originals, translations):
            for length, start in struct.iter_unpack(f"{order}2I", content[table : table + 8 * number]):
                total += length
                if start + length > len(content):
                    raise ValueError("a string lies outside of the file")
            if table + 8 * number > len(content):
                raise ValueError("a table lies outside of the file")
        if total > 2 * len(content):
            raise ValueError("its strings overlap")
    except (ValueError, struct.error) as error:
        raise _no_catalogue(label, str(error)) from None
