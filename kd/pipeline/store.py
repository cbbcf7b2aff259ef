"""Store artifacts, keyed by content, in `store/<stage>/<fingerprint>/<task>/`.

While they are relevant, a task's work in progress (`.partial`), lease, progress and last failure are beside its folder,
so `ls` shows the state of everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.base import lease
from kd.base.errors import UserError
from kd.base.files import DamagedFile, read_object, remove_temporary_files, write_text
from kd.base.hashing import FileHashes
from kd.base.lease import Lease, LeaseHeld
from kd.pipeline.fingerprint import is_fingerprint
from kd.pipeline.model import Task

MANIFEST = "manifest.json"
RAN = ".ran"  # file of a partial folder whose work is done, so that another attempt only repeats the check
TEMPORARY_SECONDS = 3600.0  # since its last change, after which a temporary file belongs to a process that was killed


@dataclass(frozen=True)
class ArtifactPaths:
    """The paths of a task's output and of the files beside it."""

    final: Path

    def _beside(self, suffix: str) -> Path:
        return self.final.with_name(self.final.name + suffix)

    @property
    def partial(self) -> Path:
        """The folder of the work in progress."""
        return self._beside(".partial")

    @property
    def lease(self) -> Path:
        """The lease file of the process that works on the task."""
        return self._beside(".lease")

    @property
    def progress(self) -> Path:
        """The file with the progress of the work."""
        return self._beside(".progress.json")

    @property
    def failure(self) -> Path:
        """The file with the reason why the last attempt failed."""
        return self._beside(".failed.json")

    @property
    def attempts(self) -> Path:
        """The file with start and duration of each attempt so far."""
        return self._beside(".attempts.json")

    @property
    def energy(self) -> Path:
        """The file with the energy that the attempts so far used."""
        return self._beside(".energy.json")

    @property
    def lineage(self) -> Path:
        """The file with the task's lineage: the hash of its work without its extent."""
        return self._beside(".lineage")

    @property
    def ran(self) -> bool:
        """Return whether the work in progress is complete except for its check."""
        return any((self.partial / name).is_file() for name in (RAN, MANIFEST))

    def is_published(self) -> bool:
        """Return whether the output exists; it is complete then."""
        return (self.final / MANIFEST).is_file()

    def manifest(self) -> dict[str, Any]:
        """Read the manifest; raises DamagedFile if it is damaged."""
        hint = f"Remove the folder {self.final}: the next `kd run` makes it again."
        found = read_object(self.final / MANIFEST, hint)
        for key, blank in BLANK_MANIFEST.items():
            if not isinstance(found.get(key), int | float if isinstance(blank, float) else type(blank)):
                raise DamagedFile(f"{self.final / MANIFEST} is damaged: its {key} is missing or wrong.", hint)
        return found

    def sweep(self) -> None:
        """Remove the temporary files that killed processes left beside the output."""
        remove_temporary_files(self.final.parent, self.final.name, older_than=TEMPORARY_SECONDS)


# The keys of a manifest that kd reads, as they are in an empty one.
BLANK_MANIFEST: dict[str, Any] = {
    "stage": "",
    "task": "",
    "kind": "",
    "fingerprint": "",
    "settings": {},
    "inputs": {},
    "counts": {},
    "facts": {},
    "files": {},
    "bytes": 0,
    "finished": "",
    "seconds": 0.0,
}


class Store:
    """A folder of artifacts that any number of runs share."""

    def __init__(self, root: Path) -> None:
        # One spelling of each path, whatever link or `..` led here: `clean` compares paths that runs have recorded.
        self.root = root.resolve()

    def paths(self, task: Task) -> ArtifactPaths:
        """Return the paths of a task's output."""
        return ArtifactPaths(self.root / task.relative)

    def file_hashes(self) -> FileHashes:
        """Return the content hashes of raw files, cached in the store."""
        return FileHashes(self.root / ".files.json")

    def resumable_from(self, task: Task) -> list[Path]:
        """Return the complete or partial folders of the same work with another extent, newest first."""
        found = []
        for mark in self.root.glob(f"{glob_escape(task.stage.name)}/*/{glob_escape(task.name)}.lineage"):
            paths = ArtifactPaths(mark.with_suffix(""))
            with contextlib.suppress(FileNotFoundError):  # published or removed by another process this moment
                if mark.read_text("utf-8", "replace").strip() != task.lineage or paths.final == self.paths(task).final:
                    continue
                if paths.is_published():
                    found.append((paths.final.stat().st_mtime, paths.final))
                elif paths.partial.is_dir() and not lease.is_held(paths.lease):
                    found.append((paths.partial.stat().st_mtime, paths.partial))
        return [folder for _, folder in sorted(found, reverse=True)]

    # --- the runs that use it ----------------------------------------------------------------------------------

    def register(self, run: Path) -> None:
        """Record that the run in this folder uses the store."""
        name = hashlib.sha256(str(run).encode()).hexdigest()[:16]
        mark = self.root / ".runs" / name
        if not mark.exists():
            write_text(mark, f"{run}\n")

    def runs(self) -> list[Path]:
        """Return the folders of all runs that use the store and still exist, unreadable ones included."""
        return [run for run in self._registered() if _may_exist(run)]

    def runs_gone(self) -> list[Path]:
        """Return the former folders of runs that used the store: removed, or moved."""
        return [run for run in self._registered() if not _may_exist(run)]

    def _registered(self) -> list[Path]:
        marks = sorted((self.root / ".runs").glob("[!.]*"))
        return [Path(mark.read_text("utf-8", "surrogateescape").rstrip("\n")) for mark in marks]

    # --- its content -------------------------------------------------------------------------------------------

    def all_paths(self) -> Iterator[ArtifactPaths]:
        """Yield the paths of every task with any output; ignore all other content of the folder.

        Symbolic links are not followed, since they may lead out of the store. A link in place of a task's folder is
        yielded, and `remove` unlinks it.
        """
        for stage in _folders(self.root):
            for fingerprint in _folders(stage):
                if is_fingerprint(fingerprint.name):
                    yield from (ArtifactPaths(fingerprint / name) for name in sorted(_task_names(fingerprint)))

    def remove(self, paths: ArtifactPaths) -> None:
        """Remove a task's output and all files beside it, but no target of a symbolic link.

        Raises UserError if a process works on it, or if its folder is reached through a link within the store.
        """
        folder = paths.final.parent
        if folder.is_symlink() or folder.parent.is_symlink():
            raise UserError(f"{folder} is, or is below, a symbolic link.", "Remove the link by hand.")
        try:
            held = Lease.acquire(paths.lease)
        except LeaseHeld:
            raise UserError(f"A process is working on {paths.final}.", "Wait for it, or cancel its run.") from None
        with held:
            for path in (paths.final, paths.partial):
                _remove_folder(path)
            for path in (paths.progress, paths.failure, paths.attempts, paths.energy, paths.lineage):
                path.unlink(missing_ok=True)
            for doomed in folder.glob(f".{glob_escape(paths.final.name)}.removed-*"):
                _remove_folder(doomed)
        remove_temporary_files(folder, paths.final.name, older_than=0.0)
        self._remove_empty(folder)

    def sweep(self) -> None:
        """Remove the temporary files of killed processes everywhere in the store, and the folders that are empty."""
        for stage in _folders(self.root):
            for fingerprint in _folders(stage):
                if is_fingerprint(fingerprint.name):
                    remove_temporary_files(fingerprint, "", older_than=TEMPORARY_SECONDS)
                    for doomed in fingerprint.glob(".*.removed-*"):
                        _remove_folder(doomed)
                    self._remove_empty(fingerprint)

    def _remove_empty(self, fingerprint: Path) -> None:
        for folder in (fingerprint, fingerprint.parent):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def _folders(folder: Path) -> list[Path]:
    """Return the folders below a folder that are neither hidden nor links, sorted."""
    try:
        with os.scandir(folder) as entries:
            found = [e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(found)]


def _task_names(fingerprint: Path) -> set[str]:
    """Return the names of the tasks that have a folder, a link or a lineage in the folder of a fingerprint."""
    names = set()
    with os.scandir(fingerprint) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False) or entry.is_symlink():
                names.add(entry.name.removesuffix(".partial"))
            elif entry.name.endswith(".lineage"):
                names.add(entry.name.removesuffix(".lineage"))
    return names


def _remove_folder(folder: Path) -> None:
    """Remove a folder; if it is a symbolic link, only the link."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        # Renamed first, so that no half-removed folder has a meaningful name. rmtree refuses to follow links.
        hidden = folder.name if folder.name.startswith(".") else f".{folder.name.removesuffix('.partial')}"
        doomed = folder.with_name(f"{hidden.partition('.removed-')[0]}.removed-{secrets.token_hex(4)}")
        folder.rename(doomed)
        shutil.rmtree(doomed)


def _may_exist(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except PermissionError:  # in another user's home
        return True


def glob_escape(name: str) -> str:
    """Return a glob pattern that matches only `name`."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder, even if also hard-linked elsewhere; 0 for a symbolic link."""
    if folder.is_symlink():
        return 0
    return sum(os.lstat(path).st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
