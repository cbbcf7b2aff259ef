"""Content hashes of raw files, remembered by path, size and modification time.

A corpus of hundreds of gigabytes is read once for its hash and not again until it changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from kd.base.errors import UserError
from kd.base.files import write_text


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class FileHashes:
    """SHA-256 by path; `cache` is a JSON file that lives as long as the store."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, list[object]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._known.update(json.loads(cache.read_text("utf-8")))

    def __call__(self, path: Path) -> str:
        """The hash of a file; raises UserError where it cannot be read."""
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
                # Purged from scratch after it was read: what was made of it is still right, and can still be shown.
                return str(self._known[key][2])
            raise UserError(f"The file {path} does not exist.", "Give the path of a file that is there.") from None
        except OSError as error:
            raise UserError(f"The file {path} cannot be read: {os.strerror(error.errno or 0)}.") from None
        self._known[key] = [*mark, value]
        with contextlib.suppress(OSError):  # a store that one may only read: the hash is right all the same
            write_text(self._cache, json.dumps(self._known, indent=0))
        return value
