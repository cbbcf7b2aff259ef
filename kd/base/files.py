"""Files and folders that are there whole or not at all, whatever dies when.

Everything is written beside its final place, flushed to disk and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replaces the file's content in one step. `durable=False`: it may be lost when the computer goes down."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
            handle.flush()
            if durable:
                os.fsync(handle.fileno())
        aside.replace(path)
    finally:
        with contextlib.suppress(OSError):  # gone by now, unless writing failed: then that is what is told
            aside.unlink()


def write_json(path: Path, value: Any) -> None:
    """Replaces the file's content by readable JSON, in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


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


def sync_folder(folder: Path) -> None:
    """Flushes a folder, its files and its entries to disk, so that a rename that follows never names lost content."""
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            _sync(path)
    _sync(folder)


def rename_folder(aside: Path, final: Path) -> None:
    """Gives a finished folder its final name."""
    aside.rename(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot do this for folders. A full disk, though, may show here first.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
