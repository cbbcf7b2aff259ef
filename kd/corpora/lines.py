"""Text files read and written line by line, plain or compressed, in flat memory.

A line ends at `\\n` alone: U+0085, U+2028, form feeds, lone `\\r`, NUL and byte order marks are content, so that two
files that were aligned on disk are aligned in memory.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import lzma
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import zstandard

from kd.base.errors import UserError
from kd.corpora.archives import UNREADABLE, Member, open_member

READ_BYTES = 1 << 20  # of a plain or decompressed file at once
READ_COMPRESSED_BYTES = 1 << 16  # of a zstandard file at once: decompressed it is all in memory
WRITE_CHARACTERS = 1 << 20  # buffered before they are encoded, compressed and written

COMPRESSED = (".gz", ".zst", ".xz", ".bz2")

# What reading an archive that is cut off or changed raises
READ_ERRORS = (*UNREADABLE, lzma.LZMAError, zstandard.ZstdError, OSError)

STANDARD_INPUT = Path("/dev/stdin")  # which is read as it comes, and once

PathLike = str | os.PathLike[str]


class BrokenText(UserError):
    """A file that is good up to some place: what was read before it was yielded, and could be used."""


def open_lines(path: PathLike | Member) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without their `\\n`; a last line without one counts.

    The suffixes .gz, .zst, .xz and .bz2 are decompressed. Raises UserError at once for a missing file, and in reading,
    after all good lines, BrokenText for invalid UTF-8 (file, line, byte) and for a damaged or truncated archive (file,
    last line).
    """
    return _lines(check_file(path))


def check_file(path: PathLike | Member) -> Path | Member:
    """A file that is there, or UserError."""
    place = path if isinstance(path, Member) else Path(path)
    on_disk = place.archive if isinstance(place, Member) else place
    if not on_disk.is_file() and on_disk != STANDARD_INPUT:
        reason = "is a folder" if on_disk.is_dir() else "does not exist"
        raise UserError(f"The file {on_disk} {reason}.", "Give the path of an existing text file.")
    return place


def open_bytes(path: PathLike | Member) -> Iterator[bytes]:
    """Yield the decompressed bytes of a file in chunks. Raises BrokenText for a damaged or truncated archive."""
    place, number = check_file(path), 0

    def chunks() -> Iterator[bytes]:
        nonlocal number
        try:
            for chunk in _chunks(place):
                yield chunk
                number += chunk.count(b"\n")
        except READ_ERRORS as error:
            raise _unreadable(place, number, error) from None

    return chunks()


def _lines(path: Path | Member) -> Iterator[str]:
    number = 0
    unfinished: list[bytes] = []  # pieces of a line whose end has not been read; joined once, however long it grows
    try:
        for chunk in _chunks(path):
            end = chunk.rfind(b"\n")
            if end < 0:
                unfinished.append(chunk)
                continue
            unfinished.append(chunk[:end])
            block = b"".join(unfinished)
            unfinished = [chunk[end + 1 :]]
            for lines in _decoded(block, path, number):
                yield from lines
                number += len(lines)
    except READ_ERRORS as error:
        raise _unreadable(path, number, error) from None
    last = b"".join(unfinished)
    if last:
        for lines in _decoded(last, path, number):
            yield from lines


def _decoded(block: bytes, path: Path | Member, before: int) -> Iterator[list[str]]:
    """The lines of a block that ends where a line ends; `before` lines came before it."""
    try:
        yield block.decode("utf-8").split("\n")
        return
    except UnicodeDecodeError as error:
        start = block.rfind(b"\n", 0, error.start) + 1
        offset = error.start - start + 1
    good = block[: start - 1].decode("utf-8").split("\n") if start else []
    yield good
    raise BrokenText(
        f"{path}, line {before + len(good) + 1}: byte {offset} of the line is not valid UTF-8.",
        "Convert the file to UTF-8 (iconv does), or remove the line on both sides.",
    )


def _unreadable(path: Path | Member, good_lines: int, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno not in (None, errno.EACCES):
        return error  # the disk's fault, not the file's
    if isinstance(error, PermissionError):
        return UserError(f"The file {path} cannot be read: {error.strerror}.", "Change its permissions.")
    kind = "truncated" if isinstance(error, EOFError) else "damaged"
    return BrokenText(f"The archive {path} is {kind} after line {good_lines}.", "Fetch or make it again.")


def _chunks(path: Path | Member) -> Iterator[bytes]:
    with open_member(path) if isinstance(path, Member) else path.open("rb") as file:
        opened: Any = file
        if path.suffix in COMPRESSED and not isinstance(path, Member) and os.fstat(file.fileno()).st_size == 0:
            raise EOFError  # even an archive of nothing has a header
        if path.suffix == ".zst":
            yield from _zstandard_chunks(file)
            return
        if path.suffix == ".gz":
            opened = gzip.GzipFile(fileobj=file)
        elif path.suffix == ".xz":
            opened = lzma.LZMAFile(file)  # noqa: SIM115 -- `file` is what is closed
        elif path.suffix == ".bz2":
            opened = bz2.BZ2File(file)
        # What can be had at once: `read` would take what it has with it where an archive breaks off.
        while chunk := opened.read1(READ_BYTES):
            yield chunk


def _zstandard_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Every frame of a file; zstandard's own reader takes a truncated frame for the end of the file."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    frame = None
    while data := file.read(READ_COMPRESSED_BYTES):
        while data:
            frame = frame or decompressor.decompressobj()
            if decompressed := frame.decompress(data):
                yield decompressed
            data = b""
            if frame.eof:
                data, frame = frame.unused_data, None
    if frame is not None:
        raise EOFError


def open_aligned(paths: Sequence[PathLike | Member]) -> Iterator[tuple[str, ...]]:
    """Yield the lines with the same number of several files together.

    Raises UserError, naming each file's number of lines, when one ends before another, and what `open_lines` raises.
    """
    streams = [open_lines(path) for path in paths]
    return _aligned(paths, streams)


def _aligned(paths: Sequence[PathLike | Member], streams: Sequence[Iterator[str]]) -> Iterator[tuple[str, ...]]:
    try:
        yield from zip(*streams, strict=True)
    except ValueError:  # of `strict` alone: reading raises none
        counts = {str(path): count_lines(path) for path in paths}
    else:
        return
    shortest, longest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    raise UserError(
        f"The files are not aligned: {longest} is longer, with {counts[longest]} lines, "
        f"and {shortest} ends after line {counts[shortest]}.",
        "Every line of one needs its partner, on the same line of the other.",
    )


def without_breaks(text: str) -> str:
    """A text that has line breaks as one line: each run of them, with the blanks around it, becomes one space."""
    return re.sub(r"[ \t\r]*\n[ \t\r\n]*", " ", text).strip(" ") if "\n" in text else text


def count_lines(path: PathLike | Member) -> int:
    """The number of lines that `open_lines` yields."""
    return sum(1 for _ in open_lines(path))


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Stored:
    """The compressor of files that are not compressed."""

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
    """Writes a text file (.zst and .gz compressed) that has its final name once it is whole.

    A context manager: leaving it by an exception removes what was written. After `close`: `lines`, `bytes` (on disk)
    and `sha256` (hexadecimal, of the bytes on disk).
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
        """Add a line, given without its `\\n`. Raises ValueError if it holds one or is not encodable as UTF-8."""
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
        """Remove what was written."""
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
