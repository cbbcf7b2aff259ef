"""Message catalogues of software, JSON or gettext, in a folder or inside a zip or wheel, as parallel text.

Strings that stand at the same place (key path, or context and message id) of the same catalogue in two languages are a
pair.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.corpora.lines import PathLike, without_breaks
from kd.models.languages import primary

Messages = dict[tuple[str, ...], str]  # place in the catalogue -> text, in the order of the document

GETTEXT = (".po", ".mo")


def read_catalogues(
    root: PathLike,
    files: str,
    source: str,
    target: str,
    counts: Counter[str] | None = None,
    gettext_language: str = "en",
) -> Iterator[tuple[str, str]]:
    """Yield the texts that two languages have in the same places, by sorted file name and in the order of the document.

    root: folder, zip or wheel. files: glob of one language's catalogues below it, `{language}` standing for the code
    (`pt-BR` finds `pt_BR` too); `*` and `?` stay within a folder, `**` does not. The files of two languages belong
    together where their wildcards match the same. In gettext's catalogues the message id is text in `gettext_language`
    (English, as gettext's manual advises): a language of that kind needs no catalogue of its own, and what one leaves
    empty, as Django's templates do, is the id. Of plural forms the singular goes with the first and the plural with the
    last, which is right for two forms and mostly right for more.

    A run of line breaks inside a message becomes one space. `counts`, if given, takes how often that was done and what
    was left out, by reason. Raises UserError for an unreadable root or catalogue, with its line, and for a glob that
    finds nothing.
    """
    counts = Counter() if counts is None else counts
    archive = _open_archive(Path(root))
    if "{language}" not in files:
        raise UserError(
            f"The glob {files} names no language.", "Write {language} in it where the language's code stands."
        )
    left, right = (_matching(archive.names, files, language) for language in (source, target))
    kind = Path(files).suffix
    if kind not in (".json", *GETTEXT):
        raise UserError(f"Catalogues end in .json, .po or .mo, and {files} does not.", "Change corpus.sources.….files.")
    for language, found, other in ((source, left, right), (target, right, left)):
        by_id = kind in GETTEXT and other and primary(language) == primary(gettext_language)
        if not found and not by_id:
            raise UserError(
                f"No catalogue of the language {language} matches {files} in {root}.",
                "Check the glob and the language's code.",
            )
    ids_of = [kind in GETTEXT and primary(language) == primary(gettext_language) for language in (source, target)]
    yield from _pairs(archive, left, right, counts, ids_of)


def catalogue_files(root: Path, files: str, source: str, target: str) -> list[Path]:
    """The files on disk that `read_catalogues` reads: catalogues of both languages, or the archive with them."""
    if not root.is_dir():
        return [root]
    names = _open_archive(root).names
    found = {name for language in (source, target) for name in _matching(names, files, language).values()}
    return [root / name for name in sorted(found)]


def _pairs(
    archive: _Archive,
    left: dict[tuple[str, ...], str],
    right: dict[tuple[str, ...], str],
    counts: Counter[str],
    ids_of: Sequence[bool],  # whether message ids are text of the source language, of the target language
) -> Iterator[tuple[str, str]]:
    by_id = not left or not right  # one side has no catalogues: its text is the message id
    for place, name in sorted((left or right).items(), key=lambda item: item[1]):
        if not by_id and place not in right:
            counts["no catalogue in the target language"] += 1
            continue
        if by_id:
            own = _messages(archive, name, counts)
            own, other = (own, _message_ids(own)) if left else (_message_ids(own), own)
        elif ids_of[0]:  # as without a catalogue, but for what it says otherwise
            other = _messages(archive, right[place], counts)
            changed = _messages(archive, name, Counter())
            own = {key: changed.get(key, text) for key, text in _message_ids(other).items()}
        else:
            own = _messages(archive, name, counts)
            other = _messages(archive, right[place], Counter())
            if ids_of[1]:
                other = _message_ids(own) | other
        for key, text in own.items():
            if key not in other:
                counts["not translated"] += 1
            elif pair := _one_line(text, other[key], counts):
                yield pair


def _message_ids(messages: Messages) -> Messages:
    """gettext's own text of each message; its key holds context, id and plural form."""
    return {key: key[1] for key in messages}


def _one_line(source: str, target: str, counts: Counter[str]) -> tuple[str, str] | None:
    for text in (source, target):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON's escapes can spell
            counts["no valid text"] += 1
            return None
    counts["line breaks made spaces"] += ("\n" in source) + ("\n" in target)
    return without_breaks(source), without_breaks(target)


# --- where catalogues lie ----------------------------------------------------------------------------------------


class _Archive:
    """Files by their path with slashes."""

    def __init__(self, label: str, names: list[str], read: Callable[[str], bytes]) -> None:
        self.label = label
        self.names = names
        self.read = read


def _open_archive(root: Path) -> _Archive:
    if root.is_dir():
        names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        return _Archive(str(root), names, lambda name: (root / name).read_bytes())
    if not root.exists():
        raise UserError(f"{root} does not exist.", "Give a folder, zip or wheel that holds message catalogues.")
    try:
        archive = zipfile.ZipFile(root)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{root} is no readable zip or wheel: {error}.", "Fetch it again.") from None
    return _Archive(str(root), sorted(archive.namelist()), archive.read)


def _matching(names: list[str], files: str, language: str) -> dict[tuple[str, ...], str]:
    """The files of a language by what their wildcards matched."""
    codes = sorted({language, language.replace("-", "_"), language.replace("_", "-")})
    translated = []
    for part in re.split(r"(\{language\}|\*\*/|\*\*|\*|\?)", files):
        wildcards = {"**/": "((?:.*/)?)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
        if part == "{language}":
            translated.append(f"(?:{'|'.join(map(re.escape, codes))})")
        else:
            translated.append(wildcards.get(part) or re.escape(part))
    pattern = re.compile("".join(translated), re.DOTALL)
    return {match.groups(): name for name in names if (match := pattern.fullmatch(name))}


# --- what stands in one ------------------------------------------------------------------------------------------


def _messages(archive: _Archive, name: str, counts: Counter[str]) -> Messages:
    try:
        content = archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{name} in {archive.label} cannot be read: {error}.", "Fetch the archive again.") from None
    label = f"{name} in {archive.label}"
    if name.endswith(".json"):
        return _json_messages(content, label, counts)
    return _gettext_messages(content, label, Path(name).suffix, counts)


def _json_messages(content: bytes, label: str, counts: Counter[str]) -> Messages:
    try:
        text = content.decode("utf-8-sig")
        tree = json.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{label}, line {line}: not valid UTF-8.", "Convert the file to UTF-8.") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{label}, line {error.lineno}: {error.msg}.", "Mend the file or leave it out.") from None
    except RecursionError:
        raise UserError(f"{label} is nested too deeply.", "Leave the file out.") from None
    messages: Messages = {}
    todo: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while todo:  # depth first in the order of the document
        place, value = todo.pop()
        if isinstance(value, str):
            messages[place] = value
        elif isinstance(value, dict):
            todo += reversed([((*place, key), child) for key, child in value.items()])
        elif isinstance(value, list):
            todo += reversed([((*place, str(number)), child) for number, child in enumerate(value)])
        else:
            counts["not a string"] += 1
    return messages


def _gettext_messages(content: bytes, label: str, suffix: str, counts: Counter[str]) -> Messages:
    """Translated messages by (context, message id, plural form)."""
    messages: Messages = {}
    for entry in _gettext_entries(content, label, suffix):
        if entry.obsolete:
            counts["obsolete"] += 1
        elif "fuzzy" in getattr(entry, "flags", ()):
            counts["fuzzy"] += 1
        elif entry.msgid_plural:
            forms = [entry.msgstr_plural[number] for number in sorted(entry.msgstr_plural, key=int)]
            if not forms or not all(forms):
                counts["not translated"] += 1
                continue
            # One form alone is the general one: it is a translation of the plural.
            if len(forms) > 1:
                messages[entry.msgctxt or "", entry.msgid, "singular"] = forms[0]
            messages[entry.msgctxt or "", entry.msgid_plural, "plural"] = forms[-1]
        elif entry.msgstr:
            messages[entry.msgctxt or "", entry.msgid, ""] = entry.msgstr
        else:
            counts["not translated"] += 1
    return messages


def _gettext_entries(content: bytes, label: str, suffix: str) -> list[Any]:
    import polib

    # Through a file: polib splits a string, but not a file, at U+0085, U+2028 and their like.
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(content)
        file.flush()
        try:
            return list(polib.pofile(file.name) if suffix == ".po" else polib.mofile(file.name))
        except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
            reason = str(error).replace(file.name, Path(label.split(" in ", maxsplit=1)[0]).name).rstrip(".")
            raise UserError(f"{label} is no gettext catalogue: {reason}.", "Mend the file or leave it out.") from None
