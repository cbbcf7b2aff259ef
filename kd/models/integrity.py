"""Check files of models before they are used: present, complete, and unchanged since they were published."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.hashing import FileHashes
from kd.base.resources import cache_folder
from kd.models.files import DESCRIPTION, MANIFEST

COPY_AGAIN = "Copy the whole model folder again."
_LFS = b"version https://git-lfs.github.com/spec/"
_LEVELS = 3  # a record lies in the file's folder or up to two above: checkpoints/, model/, members/1/


def check_file(path: Path) -> None:
    """Raise UserError if a file is missing, empty, unreadable, or a Git LFS pointer instead of the file itself."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS))
    except FileNotFoundError:
        raise UserError(f"There is no {path}.", COPY_AGAIN) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.", COPY_AGAIN) from None
    if not head:
        raise UserError(f"{path} is empty.", COPY_AGAIN)
    if head == _LFS:
        raise UserError(
            f"{path} is a Git LFS pointer, not the file itself.", "Run `git lfs pull` in the clone of the model."
        )


def check_hash(path: Path) -> None:
    """Compare a file with the hash recorded at its publication, if there is a record.

    The record is the manifest of a task in the store, or the `model.json` of a folder for distribution. A file is
    hashed once: the hash is cached by path, size and modification time.

    Raises:
        UserError: The hash of the file differs from the record.
    """
    for folder in path.absolute().parents[:_LEVELS]:
        for record in (folder / MANIFEST, folder / DESCRIPTION):
            recorded = _recorded(record, path.absolute().relative_to(folder).as_posix())
            if recorded is None:
                continue
            if _hashes()(path) != recorded:
                raise UserError(
                    f"{path} was changed or damaged after it was published: its hash is not the one in {record}.",
                    f"Copy it again, or remove {folder} and run the stage again.",
                )
            return


def _recorded(record: Path, name: str) -> str | None:
    """Return the SHA-256 that a record states for a file; None without a record."""
    try:
        content: Any = json.loads(record.read_bytes())
        return str(content["files"][name]["sha256"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError, OSError):
        return None  # `ModelFolder` and `kd verify` report damaged records


@cache
def _hashes() -> FileHashes:
    return FileHashes(cache_folder() / "model-hashes.json")
