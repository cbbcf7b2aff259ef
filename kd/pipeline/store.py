"""The store: where artifacts live, keyed by content, as `store/<stage>/<fingerprint>/<task>/`.

Beside a task's folder stand, while they matter, its work in progress (`.partial`), its lease, its progress and the
record of its last failure; so the state of everything can be read with `ls`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.base import lease
from kd.base.errors import UserError
from kd.base.files import write_text
from kd.base.hashing import FileHashes
from kd.base.lease import Lease, LeaseHeld
from kd.pipeline.fingerprint import is_fingerprint
from kd.pipeline.model import Task

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ArtifactPaths:
    """Where a task's output stands, and what stands beside it."""

    final: Path

    def _beside(self, suffix: str) -> Path:
        return self.final.with_name(self.final.name + suffix)

    @property
    def partial(self) -> Path:
        """Work in progress."""
        return self._beside(".partial")

    @property
    def lease(self) -> Path:
        """Who works on it."""
        return self._beside(".lease")

    @property
    def progress(self) -> Path:
        """How far the work is."""
        return self._beside(".progress.json")

    @property
    def failure(self) -> Path:
        """Why the last attempt failed."""
        return self._beside(".failed.json")

    @property
    def attempts(self) -> Path:
        """When the attempts so far began, and how long each lived."""
        return self._beside(".attempts.json")

    @property
    def energy(self) -> Path:
        """What the attempts so far took from the plug."""
        return self._beside(".energy.json")

    @property
    def lineage(self) -> Path:
        """The fingerprint without how far the work goes."""
        return self._beside(".lineage")

    def is_published(self) -> bool:
        """Whether the output is there, whole."""
        return (self.final / MANIFEST).is_file()

    def manifest(self) -> dict[str, Any]:
        """The record beside the output; raises UserError where the disk has spoilt it."""
        path = self.final / MANIFEST
        try:
            return dict(json.loads(path.read_text("utf-8")))
        except ValueError:
            hint = f"Remove the folder {self.final}: the next `kd run` makes it anew."
            raise UserError(f"The record {path} is damaged.", hint) from None


class Store:
    """A folder of artifacts that any number of runs share."""

    def __init__(self, root: Path) -> None:
        # One spelling of each place, whatever link or `..` led here: `clean` compares what runs have written down.
        self.root = root.resolve()

    def paths(self, task: Task) -> ArtifactPaths:
        """Where a task's output stands."""
        return ArtifactPaths(self.root / task.relative)

    def file_hashes(self) -> FileHashes:
        """Content hashes of raw files, remembered in the store."""
        return FileHashes(self.root / ".files.json")

    def resumable_from(self, task: Task) -> list[Path]:
        """Folders, published or left off, that hold the same work gone less far or further, newest first."""
        found = []
        for mark in self.root.glob(f"{glob_escape(task.stage.name)}/*/{glob_escape(task.name)}.lineage"):
            paths = ArtifactPaths(mark.with_suffix(""))
            with contextlib.suppress(FileNotFoundError):  # published or removed by another process this moment
                if mark.read_text("utf-8").strip() != task.lineage or paths.final == self.paths(task).final:
                    continue
                if paths.is_published():
                    found.append((paths.final.stat().st_mtime, paths.final))
                elif paths.partial.is_dir() and not lease.is_held(paths.lease):
                    found.append((paths.partial.stat().st_mtime, paths.partial))
        return [folder for _, folder in sorted(found, reverse=True)]

    # --- which runs use it -------------------------------------------------------------------------------------

    def register(self, run: Path) -> None:
        """Remembers that the run at this folder uses the store."""
        name = hashlib.sha256(str(run).encode()).hexdigest()[:16]
        mark = self.root / ".runs" / name
        if not mark.exists():
            write_text(mark, f"{run}\n")

    def runs(self) -> list[Path]:
        """The folders of all runs that use the store and still exist, those that one may not look at among them."""
        return [run for run in self._registered() if _may_exist(run)]

    def runs_gone(self) -> list[Path]:
        """Where runs that used the store once were: they have been removed, or they and the store have been moved."""
        return [run for run in self._registered() if not _may_exist(run)]

    def _registered(self) -> list[Path]:
        return [Path(mark.read_text("utf-8").rstrip("\n")) for mark in sorted((self.root / ".runs").glob("[!.]*"))]

    # --- what lies in it ---------------------------------------------------------------------------------------

    def all_paths(self) -> Iterator[ArtifactPaths]:
        """Every task's place that holds anything; what else somebody keeps in this folder is none."""
        found = (path for path in self.root.glob("[!.]*/*") if is_fingerprint(path.name) and path.is_dir())
        for fingerprint in sorted(found):
            names = {path.name.removesuffix(".partial") for path in fingerprint.iterdir() if path.is_dir()}
            names |= {path.name.removesuffix(".lineage") for path in fingerprint.glob("[!.]*.lineage")}
            yield from (ArtifactPaths(fingerprint / name) for name in sorted(names))

    def remove(self, paths: ArtifactPaths) -> None:
        """Removes a task's output and all beside it; raises UserError when it is being worked on."""
        try:
            held = Lease.acquire(paths.lease)
        except LeaseHeld:
            raise UserError(f"{paths.final} is being worked on.", "Wait for it, or cancel its run.") from None
        with held:
            for folder in (paths.final, paths.partial):
                if folder.is_dir():
                    # Renamed first, so that nothing half-removed has a name that means something.
                    doomed = paths.final.with_name(f".{paths.final.name}.removed-{secrets.token_hex(4)}")
                    folder.rename(doomed)
                    shutil.rmtree(doomed)
            for path in (paths.progress, paths.failure, paths.attempts, paths.energy, paths.lineage):
                path.unlink(missing_ok=True)
                for left in path.parent.glob(f".{glob_escape(path.name)}.*"):  # by a process that was killed
                    left.unlink(missing_ok=True)
        for folder in (paths.final.parent, paths.final.parent.parent):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def _may_exist(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except PermissionError:  # in somebody else's home
        return True


def glob_escape(name: str) -> str:
    """A name as a pattern that matches it alone."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def folder_bytes(folder: Path) -> int:
    """Disk used below a folder; files that are also linked from elsewhere count here too."""
    return sum(os.lstat(path).st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
