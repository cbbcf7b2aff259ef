r"""Read text files line by line, plain or compressed, in bounded memory.

A line ends at `\n` alone: U+0085, U+2028, form feeds, lone `\r` and NUL are content, so that two files that are aligned
on disk are aligned in memory. `open_lines` reads files that kd wrote, unchanged. `open_text` reads users' files: a `\r`
before `\n`, a byte order mark at the start and a `^Z` at the end are not content.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kd.base.errors import UserError
from kd.corpora.archives import UNREADABLE, Member, is_fault_of_disk, open_member, reason_of
from kd.corpora.compression import (
    Begun,
    TooMuchMemory,
    archive_of,
    begins_compressed,
    compression_of,
    decompressed,
)

LONGEST_LINE = 10 << 20  # bytes of a line of a user's file, as libxml2 limits the text of an XML element
LONGEST_OWN_LINE = 1 << 28  # bytes of a line that kd wrote: n-best lists and their tokens are longer than sentences

COMPRESSED = (".gz", ".zst", ".xz", ".bz2")

READ_ERRORS = (*UNREADABLE, OSError)  # what reading a truncated or damaged archive raises

STANDARD_INPUT = Path("/dev/stdin")  # which is read as it comes, and once

BYTE_ORDER_MARK = "\ufeff"
END_OF_DOS_FILE = "\x1a"  # ^Z

PathLike = str | os.PathLike[str]

_BREAKS = re.compile(r"[ \t\r]*\n[ \t\r\n]*")


class BrokenText(UserError):
    """A file is broken at some position; the lines before it were yielded and can be used."""


class BrokenRow(BrokenText):
    """A line, row or unit is broken, but the file can be read on after it.

    Attributes:
        reason: The kind of damage, worded for a table of counts.
        line: The line of the file, from 1.
        text: The text as far as it can be read, for a sample.
    """

    def __init__(self, problem: str, hint: str = "", reason: str = "", line: int = 0, text: str = "") -> None:
        super().__init__(problem, hint)
        self.reason = reason
        self.line = line
        self.text = text


Broken = Callable[[BrokenRow, Sequence[str]], None]  # takes a broken row and its texts, and lets the reader go on


def open_lines(path: PathLike | Member) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file without their `\n`; a last line without one counts.

    Raises:
        UserError: Immediately, if the file does not exist.
        BrokenText: While reading, after all good lines, for invalid UTF-8 (file, line, byte), a line of more than
            `LONGEST_OWN_LINE` bytes, and a damaged or truncated archive (file, last line).
    """
    return _exact(check_file(path))


def open_text(path: PathLike | Member) -> Iterator[str]:
    r"""Yield the lines of a user's file as `open_lines` does, without `\r` before `\n`, byte order mark and final `^Z`.

    Raises:
        UserError: As in `open_lines`; and while reading, for a file whose lines end in `\r` alone, for UTF-16, and for
            a file whose kind differs from its name. A line may have `LONGEST_LINE` bytes.
    """
    return _good(_text(check_file(path)))


def open_marked(path: PathLike | Member) -> Iterator[str | BrokenRow]:
    """Yield the lines like `open_text`; in place of each unreadable line, the error that names it."""
    return _text(check_file(path))


def check_file(path: PathLike | Member) -> Path | Member:
    """Return the path of a file. Raises UserError if it does not exist."""
    place = path if isinstance(path, Member) else Path(path)
    on_disk = place.archive if isinstance(place, Member) else place
    if not (on_disk.is_file() or on_disk.is_fifo() or on_disk == STANDARD_INPUT):
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


def _good(lines: Iterator[str | BrokenRow]) -> Iterator[str]:
    for line in lines:
        if not isinstance(line, str):
            raise line
        yield line


def _exact(path: Path | Member) -> Iterator[str]:
    for batch in _batches(path, LONGEST_OWN_LINE):
        yield from batch.lines if batch.whole else _good(iter(batch.lines))  # type: ignore[misc]


def _text(path: Path | Member) -> Iterator[str | BrokenRow]:
    """Yield lines without line ends; the last line is held back until the end of the file is known."""
    held: str | BrokenRow | None = None
    number = 0
    for batch in _batches(path, LONGEST_LINE, first=_check_begin):
        lines = batch.lines
        if not number and isinstance(lines[0], str):
            lines[0] = lines[0].lstrip(BYTE_ORDER_MARK)
        if batch.returns:
            lines = [line.rstrip("\r") if isinstance(line, str) else line for line in lines]
        if held is not None:
            yield held
        number += len(lines)
        held = lines.pop()
        yield from lines
    if isinstance(held, str) and number == 1 and "\r" in held:
        raise UserError(
            f"The lines of {path} end in a carriage return alone, as on old Macs.",
            f"Convert it: `tr '\\r' '\\n' < {path} > NEW`.",
        )
    if isinstance(held, str) and held.endswith(END_OF_DOS_FILE):
        held = held.rstrip(END_OF_DOS_FILE) or None
    if held is not None:
        yield held


class _Batch(NamedTuple):
    lines: list[str | BrokenRow]
    whole: bool  # no line is broken
    returns: bool  # a carriage return is among the characters


def _batches(
    path: Path | Member, longest: int, first: Callable[[bytes, Path | Member], None] = lambda *_: None
) -> Iterator[_Batch]:
    """Yield the lines, or the error for each unreadable line. first: a function that checks the text's first bytes."""
    number = 0
    try:
        for block in _blocks(path, longest, first):
            if block is None:
                batch = _Batch([_too_long(path, number + 1, longest)], False, False)
            else:
                batch = _batch(block, path, number)
            yield batch
            number += 1 if block is None else block.count(b"\n") + 1
    except READ_ERRORS as error:
        raise _unreadable(path, number, error) from None


def _batch(block: bytes, path: Path | Member, before: int) -> _Batch:
    try:
        return _Batch([*block.decode("utf-8").split("\n")], True, b"\r" in block)
    except UnicodeDecodeError:
        return _Batch(list(_decoded(block, path, before)), False, b"\r" in block)


def _blocks(path: Path | Member, longest: int, first: Callable[[bytes, Path | Member], None]) -> Iterator[bytes | None]:
    r"""Yield blocks of whole lines without the last `\n`, and None for each line of more than `longest` bytes."""
    unfinished: list[bytes] = []  # pieces of a line whose end has not been read; joined once, however long it grows
    size, begun = 0, False
    for chunk in _chunks(path):
        if not begun:
            first(chunk, path)
            begun = True
        end = chunk.rfind(b"\n")
        if end >= 0 and size + chunk.find(b"\n") > longest:
            yield None
            rest = chunk[chunk.find(b"\n") + 1 :]
            unfinished, size, chunk, end = [], 0, rest, rest.rfind(b"\n")
        if end >= 0:
            unfinished.append(chunk[:end])
            yield b"".join(unfinished)
            unfinished, size, chunk = [], 0, chunk[end + 1 :]
        size += len(chunk)
        if chunk and size <= longest:
            unfinished.append(chunk)
        elif size > longest:
            unfinished = []
    if size > longest:
        yield None
    elif size:
        yield b"".join(unfinished)


def _too_long(path: Path | Member, number: int, longest: int) -> BrokenRow:
    return BrokenRow(
        f"{path}, line {number}: the line has more than {longest >> 20} MiB.",
        "Remove the line on both sides, unless the file is binary data, which is not text.",
        "too long a line",
        number,
    )


def _decoded(block: bytes, path: Path | Member, before: int) -> Iterator[str | BrokenRow]:
    """Yield the lines of a block, or the error for each invalid line; `before` lines precede the block."""
    for number, line in enumerate(block.split(b"\n"), before + 1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield BrokenRow(
                f"{path}, line {number}: byte {error.start + 1} of the line is not valid UTF-8.",
                "Convert the file to UTF-8 (iconv does), or remove the line on both sides.",
                "invalid UTF-8",
                number,
                line.decode("utf-8", "replace"),
            )


def _check_begin(begin: bytes, path: Path | Member) -> None:
    """Raise UserError for a file whose content is not UTF-8 text, whatever its name."""
    begin = begin[:4096]
    if begin.startswith((b"\xff\xfe", b"\xfe\xff")) or _is_wide(begin):
        raise UserError(f"{path} is encoded in UTF-16, not UTF-8.", "Convert it: `iconv -f UTF-16 -t UTF-8`.")
    if kind := archive_of(begin):
        raise UserError(
            f"{path} is a {kind} archive, but would be read as text.",
            "Rename it to end in .zip, .tar, .tar.gz …; if it lies inside another archive, unpack that one first.",
        )
    if kind := compression_of(begin):
        raise UserError(f"{path} is compressed twice: it holds {kind} data.", "Decompress it once.")


def _is_wide(begin: bytes) -> bool:
    """Return whether text without a byte order mark is UTF-16: in European languages every other byte is then 0."""
    even, odd = begin[::2].count(0), begin[1::2].count(0)
    return len(begin) >= 4 and max(even, odd) > 0.4 * len(begin) / 2 and min(even, odd) < 0.02 * len(begin)


def _unreadable(path: Path | Member, good_lines: int, error: Exception) -> Exception:
    if is_fault_of_disk(error):
        return error
    if isinstance(error, PermissionError):
        return UserError(f"The file {path} cannot be read: {error.strerror}.", "Change its permissions.")
    if isinstance(error, TooMuchMemory | RuntimeError | NotImplementedError):  # too large a window, encryption …
        return BrokenText(f"{path} cannot be read: {reason_of(error)}.", "Repack it, or decompress it first.")
    kind = "truncated" if isinstance(error, EOFError) else "damaged"
    return BrokenText(f"The archive {path} is {kind} after line {good_lines}.", "Fetch or make it again.")


def _chunks(path: Path | Member) -> Iterator[bytes]:
    with open_member(path) if isinstance(path, Member) else path.open("rb") as file:
        begun = Begun(file)
        if path.suffix in COMPRESSED and not compression_of(begun.begin):
            raise _not_compressed(path, begun.begin)
        yield from decompressed(begun)


def _not_compressed(path: Path | Member, begin: bytes) -> Exception:
    """Return the error for a file that is not compressed although its name suggests it."""
    if begins_compressed(begin):  # even an archive of nothing has a header
        return EOFError()
    kind = archive_of(begin) or ("text" if _is_text(begin) else "")
    if not kind:
        return ValueError("no compressed data")
    return UserError(
        f"{path} is not compressed, although its name ends in {path.suffix}: it is {_WITH_ARTICLE.get(kind, kind)}.",
        "Give it a name that matches its content.",
    )


_WITH_ARTICLE = {"text": "plain text", "zip": "a zip archive", "tar": "a tar archive", "7z": "a 7z archive"}


def _is_text(begin: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return False
    return not any(character < "\t" for character in text)


def open_aligned(paths: Sequence[PathLike | Member]) -> Iterator[tuple[str, ...]]:
    """Yield the lines of several files that kd wrote, in parallel.

    Raises UserError, with each file's number of lines, if one ends before another, and the errors of `open_lines`.
    """
    streams = [open_lines(path) for path in paths]
    try:
        yield from zip(*streams, strict=True)
    except ValueError:  # of `strict` alone: reading raises none
        counts = {str(path): count_lines(path) for path in paths}
    else:
        return
    raise unequal(counts)


def unequal(counts: dict[str, int]) -> UserError:
    """Return the error for files that should be aligned but differ in their numbers of lines."""
    shortest, longest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    return UserError(
        f"The files are not aligned: {longest} is longer, with {counts[longest]} lines, "
        f"and {shortest} ends after line {counts[shortest]}.",
        "Every line of one file needs its partner on the same line of the other.",
    )


def without_breaks(text: str) -> str:
    """Return a text as one line: each run of line breaks, with the surrounding blanks, becomes one space.

    A final carriage return is removed, as by `open_text`.
    """
    if "\n" in text:
        text = _BREAKS.sub(" ", text).strip(" ")
    return text.rstrip("\r")


def count_lines(path: PathLike | Member) -> int:
    """Count the lines that `open_lines` yields."""
    return sum(1 for _ in open_lines(path))
