"""Files inside zip and tar archives, read as they are: nothing is unpacked to disk.

OPUS and ELRC ship corpora in zips, statmt in compressed tars.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kd.base.errors import UserError

ARCHIVE = re.compile(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
UNREADABLE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """A file inside an archive."""

    archive: Path
    name: str

    @property
    def suffix(self) -> str:
        """Of its name, `.gz` …, as of a path."""
        return Path(self.name).suffix

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive of several files."""
    return ARCHIVE.search(path.name) is not None


def members(archive: Path) -> list[Member]:
    """The files in an archive, by sorted name. Raises UserError for one that cannot be read."""
    try:
        if archive.suffix.lower() == ".zip":
            with zipfile.ZipFile(archive) as opened:
                names = [info.filename for info in opened.infolist() if not info.is_dir()]
        else:
            with tarfile.open(archive, "r|*") as tar:
                names = [info.name for info in tar if info.isfile()]
    except FileNotFoundError:
        raise UserError(f"The file {archive} does not exist.", "Give the path of a file that is there.") from None
    except (*UNREADABLE, OSError) as error:
        raise UserError(f"The archive {archive} cannot be read: {error}.", "Fetch it again.") from None
    return [Member(archive, name) for name in sorted(names)]


@contextmanager
def open_member(member: Member) -> Iterator[IO[bytes]]:
    """The bytes of a member. Raises UserError if there is none of that name, and UNREADABLE in reading."""
    missing = UserError(f"There is no {member.name} in {member.archive}.", "Look at what the archive holds.")
    if member.archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(member.archive) as archive:
            if member.name not in archive.namelist():
                raise missing
            with archive.open(member.name) as file:
                yield file
        return
    # As a stream: two members read side by side each decompress the archive, and neither has to be unpacked.
    with tarfile.open(member.archive, "r|*") as tar:
        for info in tar:
            if info.name == member.name and (extracted := tar.extractfile(info)) is not None:
                yield extracted
                return
    raise missing
