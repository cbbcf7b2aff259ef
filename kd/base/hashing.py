"""Hash files, and remember the hashes by path, size and modification time.

A corpus of hundreds of gigabytes is read once for its hash, and not again until it changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from kd.base.errors import UserError
from kd.base.files import DamagedFile, read_object, write_text

CHUNK_BYTES = 1 << 20


def sha256(path: Path, tick: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal digits.

    Args:
        path: The file.
        tick: Called with the number of bytes read since its last call.
    """
    with path.open("rb") as handle:
        if tick is None:
            return hashlib.file_digest(handle, "sha256").hexdigest()
        digest = hashlib.sha256()
        while chunk := handle.read(CHUNK_BYTES):
            digest.update(chunk)
            tick(len(chunk))
        return digest.hexdigest()


class FileHashes:
    """SHA-256 by path; `cache` is a JSON file that remembers them between processes."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, list[object]] = {}
        with contextlib.suppress(OSError, DamagedFile):
            known = read_object(cache)
            self._known = {path: mark for path, mark in known.items() if isinstance(mark, list) and len(mark) == 3}

    def __call__(self, path: Path) -> str:
        """Return the hash of a file; raises UserError if it cannot be read."""
        key = str(path.absolute())
        try:
            state = path.stat()
            mark = [state.st_size, state.st_mtime_ns]
            known = self._known.get(key)
            if known is not None and known[:2] == mark:
                return str(known[2])
            value = sha256(path)
        except FileNotFoundError:
            if key in self._known:
                # Purged from scratch after it was read: the artifacts made from it are still valid.
                return str(self._known[key][2])
            raise UserError(f"The file {path} does not exist.", "Give the path of an existing file.") from None
        except OSError as error:
            raise UserError(f"The file {path} cannot be read: {os.strerror(error.errno or 0)}.") from None
        self._known[key] = [*mark, value]
        with contextlib.suppress(OSError):  # a read-only store: the hash is valid all the same
            write_text(self._cache, json.dumps(self._known, indent=0))
        return value
