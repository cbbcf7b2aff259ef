"""Write text files line by line, plain or compressed, that get their names once they are complete."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from types import TracebackType
from typing import Protocol

import zstandard

from kd.corpora.lines import PathLike

WRITE_CHARACTERS = 1 << 20  # buffered before they are encoded, compressed and written


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Stored:
    """The pass-through compressor for uncompressed files."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(path: Path, level: int) -> _Compressor:
    if path.suffix == ".zst":
        return zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
    if path.suffix == ".gz":
        return zlib.compressobj(level=6, wbits=31)  # a gzip header without a time: equal content, equal bytes
    if path.suffix in (".xz", ".bz2"):
        raise ValueError(f"{path}: only plain, .gz and .zst files are written")
    return _Stored()


class LineWriter:
    """Write a text file (.zst and .gz compressed) that gets its final name once it is complete.

    A context manager; an exception removes the partial file. After `close`: `lines`, `bytes` (on disk) and `sha256`
    (hexadecimal, of the bytes on disk).
    """

    def __init__(self, path: PathLike, level: int = 3) -> None:
        self.path = Path(path)
        self.lines = 0
        self.bytes = 0
        self.sha256 = ""
        self._compressor = _compressor(self.path, level)
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._file = self._partial.open("wb")
        self._hash = hashlib.sha256()
        self._buffer: list[str] = []
        self._characters = 0

    def write(self, line: str) -> None:
        r"""Add a line, given without `\n`. Raises ValueError if it contains `\n` or cannot be encoded as UTF-8."""
        if "\n" in line:
            raise ValueError(f"a line of {self.path} would hold a line break: {line[:80]!r}")
        self._buffer.append(line)
        self._characters += len(line) + 1
        self.lines += 1
        if self._characters >= WRITE_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._buffer.append("")
            self._put(self._compressor.compress("\n".join(self._buffer).encode("utf-8")))
        self._buffer = []
        self._characters = 0

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._flush()
        self._put(self._compressor.flush())
        self._file.close()
        self.sha256 = self._hash.hexdigest()
        self._partial.replace(self.path)

    def abort(self) -> None:
        """Remove the partial file."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            try:
                self.close()
            except BaseException:
                self.abort()
                raise
        else:
            self.abort()
