"""Standard input as a corpus: stored in a file named by its content, since tasks run later and elsewhere.

The same text piped in twice gives the same file, so nothing is computed twice.
"""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path
from typing import IO

from kd.base.errors import UserError
from kd.base.scratch import scratch_folder

STDIN = "-"
CHUNK_BYTES = 1 << 20
# How compressed files begin; TMX by the way XML does, in UTF-8 and UTF-16.
MAGIC = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst", b"BZh": ".bz2"}
XML = tuple("<".encode(encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16"))


@cache  # it can be read once
def keep_stdin(folder: Path) -> Path:
    """Write standard input to a file in the folder and return its path: .tmx where it begins like XML, else .tsv.

    Compressed text stays compressed, and is taken for TSV. Raises UserError if the input is empty.
    """
    example = "Pipe a corpus in: `cat corpus.tsv | kd run recipe=files source=-`."
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("The source is - (standard input), but nothing is piped into it.", example)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(".stdin-", folder) as place:
            partial = place / "stdin"
            with partial.open("wb") as file:
                digest, begin = _copy(sys.stdin.buffer, file)
            if not begin:
                raise UserError("The source is - (standard input), but it is empty.", example)
            path = folder / f"{digest[:16]}{_suffix(begin)}"
            partial.replace(path)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(
            f"The cache folder {folder} cannot be written: {error.strerror}.", "Set corpus.cache to a writable folder."
        ) from None
    return path


def _copy(stream: IO[bytes], file: IO[bytes]) -> tuple[str, bytes]:
    """Copy a stream; returns its SHA-256 and its first bytes."""
    digest, begin = hashlib.sha256(), b""
    while chunk := stream.read(CHUNK_BYTES):
        begin = begin or chunk[:64]
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    return digest.hexdigest(), begin


def _suffix(begin: bytes) -> str:
    compression = next((suffix for magic, suffix in MAGIC.items() if begin.startswith(magic)), "")
    return (".tmx" if begin.lstrip().startswith(XML) else ".tsv") + compression
