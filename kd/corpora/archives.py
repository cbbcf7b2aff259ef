"""Read files inside zip and tar archives without unpacking anything to disk.

OPUS and ELRC ship corpora in zips, statmt in compressed tars.
"""

from __future__ import annotations

import errno
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import zstandard

from kd.base.errors import UserError
from kd.corpora.compression import Begun, TooMuchMemory, compression_of, decompressed

ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)
# Files that macOS puts beside the real ones: their names end alike, and they hold icons and attributes.
MAC = re.compile(r"(^|/)(__MACOSX/|\._[^/]*$)")
# What the libraries raise for damaged, truncated, encrypted and hostile archives
UNREADABLE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError, RuntimeError,
    NotImplementedError, IndexError, KeyError, OverflowError, ValueError, struct.error, TooMuchMemory,
)  # fmt: skip
ENCRYPTED = 0x1  # flag of a zip's entry


@dataclass(frozen=True)
class Member:
    """One file inside an archive."""

    archive: Path
    name: str

    @property
    def suffix(self) -> str:
        """The suffix of its name, such as `.gz`."""
        return Path(self.name).suffix

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive of several files, judged by its name."""
    return ARCHIVE.search(path.name) is not None


def is_zip(path: Path) -> bool:
    """Return whether a file is a zip archive, judged by its name."""
    return path.suffix.lower() == ".zip"


def members(archive: Path) -> list[Member]:
    """Return the files in an archive, sorted by name, without those that macOS adds.

    A tar is read to its end, so that its compression's checksums and its end mark are checked.

    Raises:
        UserError: The archive is missing, damaged, truncated or encrypted.
    """
    try:
        names = _zip_names(archive) if is_zip(archive) else _tar_listing(archive).names
    except FileNotFoundError:
        raise UserError(f"The file {archive} does not exist.", "Give the path of an existing file.") from None
    except (*UNREADABLE, OSError) as error:
        if is_fault_of_disk(error):
            raise
        raise UserError(f"The archive {archive} cannot be read: {reason_of(error)}.", "Fetch it again.") from None
    return [Member(archive, name) for name in sorted(names) if not MAC.search(name)]


def is_fault_of_disk(error: Exception) -> bool:
    """Return whether an I/O error comes from the machine, not from the content of an archive."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EACCES, errno.EINVAL)


def reason_of(error: Exception) -> str:
    """Return the cause of a read error, without a full stop."""
    if isinstance(error, EOFError):
        return "it is truncated"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def lacks_end_mark(archive: Path) -> bool:
    """Return whether a tar lacks its final zero block, as if it was cut off between two of its files."""
    if not is_archive(archive) or is_zip(archive):
        return False
    members(archive)  # raises the error of a damaged one
    return not _tar_listing(archive).ended


@contextmanager
def open_member(member: Member) -> Iterator[IO[bytes]]:
    """Open a member as a binary file.

    Raises:
        UserError: The archive has no member of that name, or the member is encrypted.
        UNREADABLE: While reading, if the archive is damaged.
    """
    missing = UserError(
        f"There is no {member.name} in {member.archive}.", "List the archive's files, and correct the name."
    )
    if is_zip(member.archive):
        with zipfile.ZipFile(member.archive) as archive:
            if member.name not in archive.namelist():
                raise missing
            with archive.open(member.name) as file:
                yield file
        return
    # As a stream: two members that are read side by side each decompress the archive.
    with _opened_tar(member.archive) as tar:
        for info in tar:
            if info.name == member.name and (extracted := tar.extractfile(info)) is not None:
                yield extracted
                return
    raise missing


def _zip_names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        entries = [info for info in opened.infolist() if not info.is_dir()]
    locked = [info.filename for info in entries if info.flag_bits & ENCRYPTED]
    if locked:
        raise RuntimeError(f"{locked[0]} is encrypted")
    names = [info.filename for info in entries]
    if len(set(names)) < len(names):
        raise ValueError("it holds two files of one name")
    return names


class _Listing(NamedTuple):
    names: Sequence[str]
    ended: bool  # by an end mark


def _tar_listing(archive: Path) -> _Listing:
    status = archive.stat()
    return _list_tar(archive, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)  # a tar has to be decompressed for it
def _list_tar(archive: Path, _size: int, _modified: int) -> _Listing:
    with _opened_tar(archive) as tar:
        names = [info.name for info in tar if info.isfile()]
        tar.check_end()
    if len(set(names)) < len(names):
        raise ValueError("it holds two files of one name")
    return _Listing(names, tar.ended)


class _CheckedInfo(tarfile.TarInfo):
    """A tar header. A damaged or truncated header is an error; tarfile would take it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        """Read the next header."""
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # a zero block, which ends the archive
            assert isinstance(tar, _CheckedTar)
            tar.ended = True
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]  # the file ends between two members
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged header ({error})") from None


class _CheckedTar(tarfile.TarFile):
    """A tar read as a stream, with every header checked. `ended`: the end mark was read."""

    tarinfo = _CheckedInfo
    ended = False

    def check_end(self) -> None:
        """Read the file to its end. Raises ReadError if anything but zeros follows the end mark."""
        assert self.fileobj is not None
        while block := self.fileobj.read(1 << 16):
            if block.strip(b"\0"):
                raise tarfile.ReadError("data follows its end mark, as if several tars were joined")


class _Stream(io.RawIOBase):
    """Chunks of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as one chunk goes."""
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


@contextmanager
def _opened_tar(archive: Path) -> Iterator[_CheckedTar]:
    """Open a tar, compressed or not, as a stream."""
    with archive.open("rb") as file:
        begun = Begun(file)
        expected = archive.suffix.lower() not in (".tar", "")
        if expected and not compression_of(begun.begin) and begun.begin[257:262] != b"ustar":
            raise tarfile.ReadError("it is neither compressed nor a tar" if begun.begin else "it is empty")
        stream = io.BufferedReader(_Stream(decompressed(begun)), 1 << 16)
        with _CheckedTar.open(fileobj=stream, mode="r|", name=str(archive)) as tar:
            assert isinstance(tar, _CheckedTar)
            yield tar
