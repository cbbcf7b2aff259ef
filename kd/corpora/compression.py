"""Decompress gzip, xz, bzip2 and zstandard streams in bounded memory, and check every checksum and end mark.

The format is recognised by its first bytes, not by the file's name. Python's own readers silently stop at padding or
damage between two streams (lzma, bz2), and zstandard's reader takes a truncated frame for the end of the file.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import zstandard

READ_BYTES = 1 << 16  # of a compressed file at once
CHUNK_BYTES = 1 << 18  # of decompressed data at once, at most: a million bytes of short lines are many objects
WINDOW_BYTES = 1 << 27  # of memory that a zstandard or xz file may ask for; `zstd -d` has the same limit
BEGIN_BYTES = 512  # enough to recognise every format below, tar included

# zstandard's frames (RFC 8878, section 3.1)
_FRAME, _SKIPPABLE = b"\x28\xb5\x2f\xfd", range(0x184D2A50, 0x184D2A60)
_DICTIONARY_BYTES = (0, 1, 2, 4)
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)
_RUN = 1  # type of a block that is one byte, repeated

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    _FRAME: "zstandard",
    b"BZh": "bzip2",
}
_ARCHIVES = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar"}
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # of a block, of the end: what follows `BZh` and a digit


class TooMuchMemory(Exception):
    """A compressed file needs more memory than `WINDOW_BYTES` to decompress."""


class Readable(Protocol):
    """The part of a binary file's interface that is needed here."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; empty at the end."""


class Begun:
    """A binary file whose first bytes have been inspected; `read` returns them again.

    Attributes:
        begin: The first `BEGIN_BYTES` bytes, or fewer if the file is shorter.
    """

    def __init__(self, file: Any) -> None:
        self.begin: bytes = file.read(BEGIN_BYTES)
        self._left = self.begin
        self._read: Callable[[int], bytes] = getattr(file, "read1", file.read)

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes."""
        if self._left:
            part, self._left = self._left[:size], self._left[size:]
            return part
        return self._read(size)


def compression_of(begin: bytes) -> str:
    """Return the name of the compression that a file's first bytes indicate: gzip, xz, bzip2, zstandard or ""."""
    name = next((name for magic, name in _MAGIC.items() if begin.startswith(magic)), "")
    if name == "bzip2" and not begin[4:10].startswith(_BZIP2_BLOCKS):
        return ""  # a text that happens to begin with these letters
    if not name and len(begin) >= 8 and int.from_bytes(begin[:4], "little") in _SKIPPABLE:
        return "zstandard"
    return name


def begins_compressed(begin: bytes) -> bool:
    """Return whether a very short file may be the start of a compressed file that was truncated."""
    return any(magic.startswith(begin[: len(magic)]) for magic in _MAGIC) and len(begin) < 10


def archive_of(begin: bytes) -> str:
    """Return the name of the archive format that a file's first bytes indicate: zip, 7z, rar, tar or ""."""
    if begin[257:262] == b"ustar":
        return "tar"
    return next((name for magic, name in _ARCHIVES.items() if begin.startswith(magic)), "")


def decompressed(file: Begun) -> Iterator[bytes]:
    """Yield the content of a file, decompressed if necessary, in chunks of at most `CHUNK_BYTES`.

    Raises:
        EOFError: The last stream of the file is truncated.
        zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError: A stream is damaged, or is followed by other data.
        TooMuchMemory: A stream asks for more memory than `WINDOW_BYTES`.
    """
    name = compression_of(file.begin)
    if name == "gzip":
        yield from _streams(file, _Gzip, padding=1)
    elif name == "xz":
        yield from _streams(file, _new_xz, padding=4)
    elif name == "bzip2":
        yield from _streams(file, bz2.BZ2Decompressor, padding=0)
    elif name == "zstandard":
        yield from _frames(file)
    else:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


class _Gzip:
    """zlib's decompressor of one gzip stream, with the interface of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data


def _new_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=2 * WINDOW_BYTES)


def _streams(file: Readable, new: Callable[[], Any], padding: int) -> Iterator[bytes]:
    """Yield the content of all streams of a file.

    Args:
        file: The compressed file.
        new: Makes the decompressor of one stream.
        padding: Zero bytes are allowed after a stream in multiples of this; 0 allows none.
    """
    stream, begun, zeros = new(), False, 0
    while data := file.read(READ_BYTES):
        while data or not stream.needs_input:
            if not begun and padding:
                rest = data.lstrip(b"\0")
                zeros += len(data) - len(rest)
                data = rest
                if not data:
                    break
            if not begun and padding and zeros % padding:
                raise lzma.LZMAError("the padding between two streams has a wrong length")
            begun = True
            try:
                chunk = stream.decompress(data, CHUNK_BYTES)
            except lzma.LZMAError as error:
                if "emory" in str(error):
                    raise TooMuchMemory("it needs more than 256 MiB of memory; compress it again by `xz -9`") from None
                raise
            if chunk:
                yield chunk
            data = b""
            if stream.eof:
                data, stream, begun, zeros = stream.unused_data, new(), False, 0
    if begun:
        raise EOFError
    if padding and zeros % padding:
        raise lzma.LZMAError("the padding at the end has a wrong length")


def _frames(file: Readable) -> Iterator[bytes]:
    """Yield the content of all zstandard frames of a file, block by block: a block holds 128 KiB at most."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
    while magic := file.read(4):
        magic += _exactly(file, 4 - len(magic))
        if int.from_bytes(magic, "little") in _SKIPPABLE:
            _skip(file, int.from_bytes(_exactly(file, 4), "little"))
            continue
        if magic != _FRAME:
            raise zstandard.ZstdError("data that is not a frame follows a frame")
        yield from _frame(file, decompressor)


def _frame(file: Readable, decompressor: zstandard.ZstdDecompressor) -> Iterator[bytes]:
    descriptor = _exactly(file, 1)
    kind, single = descriptor[0] >> 6, descriptor[0] >> 5 & 1
    size = _CONTENT_SIZE_BYTES[kind] or single
    header = _FRAME + descriptor + _exactly(file, 1 - single + _DICTIONARY_BYTES[descriptor[0] & 3] + size)
    parameters = zstandard.get_frame_parameters(header)
    if parameters.window_size > WINDOW_BYTES:
        raise TooMuchMemory(
            f"it needs {parameters.window_size >> 20} MiB of memory; compress it again by `zstd --long=27`"
        )
    frame = decompressor.decompressobj()
    yield from filter(None, [frame.decompress(header)])
    last = False
    while not last:
        start = _exactly(file, 3)
        number = int.from_bytes(start, "little")
        last = bool(number & 1)
        body = _exactly(file, 1 if number >> 1 & 3 == _RUN else number >> 3)
        yield from filter(None, [frame.decompress(start + body)])
    if parameters.has_checksum:
        yield from filter(None, [frame.decompress(_exactly(file, 4))])
    if not frame.eof:
        raise zstandard.ZstdError("a frame does not end where its last block ends")


def _exactly(file: Readable, size: int) -> bytes:
    """Read exactly this many bytes. Raises EOFError at the end of the file."""
    parts, left = [], size
    while left:
        part = file.read(left)
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _skip(file: Readable, size: int) -> None:
    while size:
        size -= len(_exactly(file, min(size, READ_BYTES)))
