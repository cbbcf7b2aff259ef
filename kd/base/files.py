"""Read JSON, and write files and folders in one step: they are complete or absent, even after a crash.

Everything is written beside its final place, flushed to disk and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from kd.base.errors import UserError

TOKEN_BYTES = 4  # of randomness in the name of a temporary file, as hexadecimal digits
_ASIDE = re.compile(rf"\..+\.[0-9a-f]{{{2 * TOKEN_BYTES}}}")


class DamagedFile(UserError):
    """A file whose content differs from what was written."""


def read_json(path: Path, hint: str = "") -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        hint: What the user can do about a damaged file.

    Raises:
        DamagedFile: The file is not JSON: cut short, not UTF-8, nested too deeply, an integer of thousands of digits.
        OSError: The file cannot be read.
    """
    content = path.read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise DamagedFile(f"{path} is damaged: it is not JSON.", hint) from None


def read_object(path: Path, hint: str = "") -> dict[str, Any]:
    """Read a JSON file that holds an object; raises as `read_json` does, and DamagedFile for any other value."""
    content = read_json(path, hint)
    if not isinstance(content, dict):
        raise DamagedFile(f"{path} is damaged: it is not a JSON object.", hint)
    return content


def aside_name(path: Path) -> Path:
    """Return a new name beside `path` for a temporary file: hidden, and found by `remove_temporary_files`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(TOKEN_BYTES)}")


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace a file's content in one step.

    Args:
        path: The file; its folder is made if it is missing.
        text: The new content.
        durable: Whether to flush it to disk: otherwise it may be lost when the computer crashes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_name(path)
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
            handle.flush()
            if durable:
                os.fsync(handle.fileno())
        aside.replace(path)
    finally:
        with contextlib.suppress(OSError):  # gone by now, unless writing failed: then that error is reported
            aside.unlink()


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace a file's content by readable JSON, in one step; `durable` as in `write_text`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", durable=durable)


def link_file(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source` in one step, or a copy if the file system has no hard links."""
    with contextlib.suppress(FileNotFoundError):
        if source.samefile(target):
            return
    aside = target.with_name(target.name + ".tmp")
    aside.unlink(missing_ok=True)
    try:
        os.link(source, aside)
    except OSError:
        shutil.copyfile(source, aside)
    aside.replace(target)


def remove_temporary_files(folder: Path, name: str, *, older_than: float) -> None:
    """Remove the temporary files `.NAME.*` of a folder that a killed process left.

    Args:
        folder: The folder.
        name: The beginning of the final names of these files; empty for all hidden files.
        older_than: Seconds since the last change, so that files still being written are kept.
    """
    newest, start = time.time() - older_than, f".{name}." if name else "."
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(start) or entry.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime <= newest:
                    Path(entry.path).unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder and all below it, to which no process writes.

    They are those of `aside_name`, and files that end in `.tmp`.
    """
    for path in list(folder.rglob("*")):
        if (_ASIDE.fullmatch(path.name) or path.suffix == ".tmp") and (path.is_symlink() or path.is_file()):
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Flush a folder, its files and its entries to disk, so that a later rename never publishes lost content."""
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            _sync(path)
    _sync(folder)


def rename_folder(aside: Path, final: Path) -> None:
    """Give a finished folder its final name."""
    aside.rename(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush folders. But a full disk may be reported here first.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
