"""Find the files of message catalogues in a folder, zip or wheel, and read them with a bound on their size."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from kd.base.errors import UserError
from kd.corpora.archives import ENCRYPTED, MAC, UNREADABLE, is_fault_of_disk, reason_of

LARGEST = 64 << 20  # bytes of one catalogue; it is parsed as a whole
# gettext writes scripts and variants of a language as a modifier.
_MODIFIERS = {"latn": "latin", "cyrl": "cyrillic", "deva": "devanagari", "arab": "arabic", "valencia": "valencia"}


class Files:
    """Files by their path with slashes.

    Attributes:
        label: The folder or archive, for messages.
        names: The paths below the folder or archive, sorted.
        read: Returns the content of a path. Raises UserError for a file that is damaged, encrypted or too large.
    """

    def __init__(self, label: str, names: list[str], open_file: Callable[[str], IO[bytes]]) -> None:
        self.label = label
        self.names = [name for name in names if not MAC.search(name)]
        self._open = open_file

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        try:
            with self._open(name) as file:
                content = file.read(LARGEST + 1)
        except (*UNREADABLE, OSError) as error:
            if is_fault_of_disk(error):
                raise
            raise UserError(
                f"{name} in {self.label} cannot be read: {reason_of(error)}.", "Fetch the archive again."
            ) from None
        if len(content) > LARGEST:
            raise UserError(
                f"{name} in {self.label} has more than {LARGEST >> 20} MiB, too large for a catalogue.",
                "Leave the file out of corpus.sources.….files, or split it.",
            )
        return content


def open_files(root: Path) -> Files:
    """Open a folder, zip or wheel. Raises UserError if it does not exist or cannot be read."""
    if root.is_dir():
        names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        return Files(str(root), names, lambda name: (root / name).open("rb"))
    if not root.exists():
        raise UserError(f"{root} does not exist.", "Give a folder, zip or wheel that holds message catalogues.")
    try:
        archive = zipfile.ZipFile(root)
        locked = [info.filename for info in archive.infolist() if info.flag_bits & ENCRYPTED]
        if locked:
            raise RuntimeError(f"{locked[0]} is encrypted")
    except (*UNREADABLE, OSError) as error:
        raise UserError(f"{root} is not a readable zip or wheel: {reason_of(error)}.", "Fetch it again.") from None
    return Files(str(root), sorted(archive.namelist()), archive.open)


def matching(names: list[str], files: str, language: str) -> dict[tuple[str, ...], str]:
    """Return the files of a language, keyed by the text that their wildcards matched."""
    translated = []
    for part in re.split(r"(\{language\}|\*\*/|\*\*|\*|\?)", files):
        wildcards = {"**/": "((?:.*/)?)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
        if part == "{language}":
            translated.append(f"(?:{'|'.join(map(re.escape, _codes(language)))})")
        else:
            translated.append(wildcards.get(part) or re.escape(part))
    pattern = re.compile("".join(translated), re.DOTALL)
    return {match.groups(): name for name in names if (match := pattern.fullmatch(name))}


def _codes(language: str) -> list[str]:
    """Return the ways to write a language's code in a file's name: `sr-Latn`, `sr_Latn` and gettext's `sr@latin`."""
    codes = {language, language.replace("-", "_"), language.replace("_", "-")}
    first, *rest = re.split("[-_]", language)
    if rest and (modifier := _MODIFIERS.get(rest[-1].lower())):
        codes.add("_".join([first, *rest[:-1]]) + f"@{modifier}")
    return sorted(codes)
