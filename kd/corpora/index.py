"""Read and write the `index.json` of a folder, and compare the files with it.

Corpora, n-best lists and held-out sets share this one form.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.base import files
from kd.base.errors import IncompleteArtifact, UserError
from kd.corpora.lines import PathLike, count_lines
from kd.corpora.writing import LineWriter

INDEX = "index.json"
LONGEST_NAME = 200  # bytes; file systems take 255, endings included


class Damaged(UserError, IncompleteArtifact):
    """Files differ from their index. In `check` this repeats the task; other readers get an error with a hint."""

    def __init__(self, what: str, hint: str = "Remove the folder and run the stage again.") -> None:
        super().__init__(what, hint)


def write_json(path: PathLike, content: Mapping[str, Any]) -> None:
    """Write a JSON file in one step, without flushing: the whole task folder is flushed before it is published."""
    files.write_json(Path(path), content, durable=False)


def read_json(path: PathLike) -> dict[str, Any]:
    """Read a JSON object. Raises Damaged if there is none."""
    try:
        return files.read_object(Path(path))
    except FileNotFoundError:
        raise Damaged(f"{path} is missing.") from None
    except files.DamagedFile as error:
        raise Damaged(error.problem) from None


def entry_of_file(value: Any) -> dict[str, Any]:
    """Return the validated size and hash of a file's entry. Raises ValueError if they are invalid."""
    size, digest = count_of(value["bytes"]), _typed(value["sha256"], str)
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{digest[:40]!r} is not a hash")
    return {"bytes": size, "sha256": digest}


def count_of(value: Any) -> int:
    """Return a validated number of lines. Raises ValueError for anything but an integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{str(value)[:40]} is not a number of lines")
    return value


def shard_name(value: Any) -> str:
    """Return the validated name of a shard. Raises ValueError for a name that may lead to another folder."""
    if not re.fullmatch(r"[\w-][\w.-]*", _typed(value, str)) or len(value.encode()) > LONGEST_NAME:
        raise ValueError(f"{value[:40]!r} is not the name of a shard")
    return str(value)


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{str(value)[:40]!r} is in place of a {kind.__name__}")
    return value


def write_index(folder: PathLike, kind: str, version: int, content: Mapping[str, Any]) -> None:
    """Write the index of a folder, after all its other files."""
    write_json(Path(folder) / INDEX, {"format": kind, "version": version, **content})


def read_index(folder: PathLike, kind: str, version: int) -> dict[str, Any]:
    """Read an index. Raises Damaged if it is missing, UserError if it is of another kind or version."""
    path = Path(folder) / INDEX
    content = read_json(path)
    found = (content.get("format"), content.get("version"))
    if found != (kind, version):
        raise UserError(
            f"{path} has format {found[0]}, version {found[1]}, but {kind}, version {version}, is needed.",
            "Give another folder, or make this one again with this version of kd.",
        )
    return content


def file_entry(writer: LineWriter) -> dict[str, Any]:
    """Return the entry of a file in an index."""
    return {"bytes": writer.bytes, "sha256": writer.sha256}


def verify_file(path: Path, entry: Mapping[str, Any]) -> None:
    """Compare a file with its entry. Raises Damaged; if the archive is broken, names the last good line."""
    if not path.is_file():
        raise Damaged(f"{path} is missing.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not isinstance(entry, Mapping) or not isinstance(entry.get("sha256"), str):
        raise Damaged(f"The entry of {path} in its index is damaged.")
    if digest == entry["sha256"]:
        return
    try:
        lines = count_lines(path)
    except UserError as error:
        raise Damaged(error.problem) from None
    size = path.stat().st_size
    raise Damaged(f"{path} was changed: it has {size} bytes in {lines} lines and another hash than its index states.")
