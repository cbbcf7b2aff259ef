"""Read message catalogues of software, JSON or gettext, in a folder, zip or wheel, as parallel text.

Two strings form a pair if they have the same key (key path, or context and message id) in the same catalogue in two
languages.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.corpora.catalogue_files import Files, matching, open_files
from kd.corpora.gettext_messages import gettext_messages
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
    accelerators: str = "",
) -> Iterator[tuple[str, str]]:
    """Yield the texts that two languages have under the same keys, by sorted file name and in document order.

    In gettext's catalogues the message id is text in `gettext_language`. That language needs no catalogue of its own;
    if it has one, empty entries, as in Django's templates, stand for the id. Of the plural forms, those for n = 1 and
    for most n from 2 to 100 are paired with singular and plural. A run of line breaks becomes one space.

    Args:
        root: Folder, zip or wheel.
        files: Glob of one language's catalogues below root, `{language}` standing for the code (`pt-BR` finds `pt_BR`,
            `sr-Latn` gettext's `sr@latin`). `*` and `?` stay within a folder, `**` does not. The files of two languages
            belong together where their wildcards match the same.
        source: BCP-47 code.
        target: BCP-47 code.
        counts: Receives the number of replaced line breaks, and of omitted messages by reason.
        gettext_language: Language of gettext's message ids; English, as gettext's manual advises.
        accelerators: Mark of menu accelerator letters, to be removed: `_` (GTK), `&` (Qt, Windows, KDE), `~`
            (LibreOffice).

    Raises:
        UserError: For an unreadable root or catalogue, with its line, and for a language without catalogues.
    """
    counts = Counter() if counts is None else counts
    archive = open_files(Path(root))
    if "{language}" not in files:
        raise UserError(f"The glob {files} has no {{language}}.", "Write {language} in place of the language's code.")
    left, right = (matching(archive.names, files, language) for language in (source, target))
    kind = Path(files).suffix
    if kind not in (".json", *GETTEXT):
        raise UserError(f"Catalogues end in .json, .po or .mo, and {files} does not.", "Change corpus.sources.….files.")
    ids_of = [kind in GETTEXT and primary(language) == primary(gettext_language) for language in (source, target)]
    for language, found, by_id in zip((source, target), (left, right), ids_of, strict=True):
        if not found and not (by_id and not all(ids_of)):
            raise UserError(
                f"No catalogue of the language {language} matches {files} in {root}.",
                "Check the glob and the language's code.",
            )
    for pair in _pairs(archive, left, right, counts, ids_of):
        yield without_accelerators(pair, accelerators) if accelerators else pair


def catalogue_files(root: Path, files: str, source: str, target: str) -> list[Path]:
    """Return the files that `read_catalogues` reads: catalogues of both languages, or the archive with them."""
    if not root.is_dir():
        return [root]
    names = open_files(root).names
    found = {name for language in (source, target) for name in matching(names, files, language).values()}
    return [root / name for name in sorted(found)]


def _pairs(
    archive: Files,
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
    """Return the untranslated text of each message; its key holds context, id and plural form."""
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


def without_accelerators(pair: tuple[str, str], mark: str) -> tuple[str, str]:
    """Remove the mark of a menu's letter from both sides if each has exactly one: `_Edit`, `Sa_ve`, `編集(_E)`."""
    found = re.compile(rf"\s*\({re.escape(mark)}\w\)|(?<!{re.escape(mark)}){re.escape(mark)}(?=[^\W_])(?!\w+;)")
    source, target = (found.findall(text) for text in pair)
    if len(source) != 1 or len(target) != 1:
        return pair
    return found.sub("", pair[0]), found.sub("", pair[1])


# --- content -----------------------------------------------------------------------------------------------------


def _messages(archive: Files, name: str, counts: Counter[str]) -> Messages:
    content = archive.read(name)
    label = f"{name} in {archive.label}"
    if name.endswith(".json"):
        return _json_messages(content, label, counts)
    return gettext_messages(content, label, Path(name).suffix, counts)


def _json_messages(content: bytes, label: str, counts: Counter[str]) -> Messages:
    try:
        text = content.decode("utf-8-sig")
        tree = json.loads(text, parse_int=len, parse_float=len)  # numbers are no text, and may have a million digits
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{label}, line {line}: not valid UTF-8.", "Convert the file to UTF-8.") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{label}, line {error.lineno}: {error.msg}.", "Correct the file or leave it out.") from None
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
