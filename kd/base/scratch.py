"""Make folders for temporary files, and remove those that killed processes left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from kd.base.files import write_json
from kd.base.lease import Holder, read

OWNER = "owner.json"
CONTENT = "content"


@contextlib.contextmanager
def scratch_folder(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """Make a folder below `place` (default: TMPDIR), and remove it at the end.

    Also removes the folders of the same prefix whose process on this computer is dead: a killed process cannot remove
    its own, and one may hold models of several gigabytes.
    """
    _remove_abandoned(place or Path(tempfile.gettempdir()), prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as name:
        folder = Path(name, CONTENT)
        folder.mkdir()
        write_json(Path(name, OWNER), asdict(Holder.here()))
        yield folder


def _remove_abandoned(place: Path, prefix: str) -> None:
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if not entry.name.startswith(prefix) or not entry.is_dir(follow_symlinks=False):
                continue
            owner = read(Path(entry.path, OWNER))
            if owner is not None and owner.alive() is False and entry.stat().st_uid == os.getuid():
                shutil.rmtree(entry.path, ignore_errors=True)
