"""Runs one task: lease, work beside the final place, check, manifest, rename.

Whatever dies when, what has the final name is whole; what an attempt that died left is gone on with or swept away.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from kd.base import energy
from kd.base.errors import IncompleteArtifact, StopRequested, TransientError, UserError
from kd.base.files import rename_folder, sync_folder, write_json, write_text
from kd.base.hashing import sha256
from kd.base.lease import Lease, LeaseHeld
from kd.base.progress import Progress
from kd.base.usage import peak_memory
from kd.pipeline import attempts
from kd.pipeline.attempts import Attempt
from kd.pipeline.fingerprint import canonical
from kd.pipeline.model import Artifact, Input, Job, Summary, Task
from kd.pipeline.store import MANIFEST, ArtifactPaths, Store

# errno -> what a user can do about it
DISK_FAULTS = {
    errno.ENOSPC: "Free some space, or set store.dir to a folder on another disk; what is done is kept.",
    errno.EDQUOT: "Free some of your quota, or set store.dir to a folder elsewhere; what is done is kept.",
    errno.EROFS: "Set store.dir to a folder that can be written to.",
    errno.EACCES: "Set store.dir to a folder that you may write to.",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f).",
}
WAIT_SECONDS = 1.0  # between two looks at a lease that another holds
USING_GPUS = ("train", "decode")  # classes of kinds: Kind.resources
PACKAGES = ("kd", "torch", "fairseq", "ctranslate2", "sentencepiece", "sacrebleu", "numpy")


def execute(
    task: Task,
    store: Store,
    *,
    threads: int,
    device: str,
    machine: Mapping[str, Any],
    tracking: Mapping[str, Any] | None = None,
    wait: bool = False,
) -> bool:
    """Runs a task unless its output is there; returns whether it ran. wait: for another process that works on it.

    Raises UserError, TransientError (another process works on it) or whatever bug the stage has; the failure is
    recorded beside the task's place first.
    """
    paths = store.paths(task)
    if paths.is_published():
        return False
    ensure_ready(task, store)
    with _lease(task, paths, wait) as held:
        if paths.is_published():
            return False
        try:
            _attempt(task, store, paths, held, threads, device, machine, tracking or {})
        except BaseException as error:
            failure = disk_fault(error, paths.final.parent)
            if held.still_ours():
                if failure is not None and not task.stage.kind.resumable:
                    shutil.rmtree(paths.partial, ignore_errors=True)  # of no use, and in the way on a full disk
                attempts.end(paths, telling=_telling(error))
                failure = failure or _in_vain(error, task, paths)
                _record_failure(paths, failure or error)
            if failure is not None:
                raise failure from None
            raise
        finally:
            if held.still_ours():
                paths.progress.unlink(missing_ok=True)
    return True


def ensure_ready(task: Task, store: Store) -> None:
    """Raises UserError where something that a task reads from is not there."""
    for upstream in task.upstream():
        if not store.paths(upstream).is_published():
            raise UserError(f"{task.full_name} reads from {upstream.full_name}, which is not there.", "Run that first.")


def _lease(task: Task, paths: ArtifactPaths, wait: bool) -> Lease:
    told = False
    while True:
        try:
            return Lease.acquire(paths.lease, on_lost=_end_this_process)
        except OSError as error:
            raise disk_fault(error, paths.final.parent) or error from None
        except LeaseHeld as error:
            who = f"process {error.holder.pid} on {error.holder.host}" if error.holder else "another process"
            if not wait:
                raise TransientError(f"{task.full_name} is being worked on by {who}.") from None
            if not told:
                print(f"kd: waiting for {who}, which works on {task.full_name} or died without a word", file=sys.stderr)
            told = True
            time.sleep(WAIT_SECONDS)


def _telling(error: BaseException) -> bool:
    """Whether how far an attempt came says something of the task: not where it had to give way to something else."""
    return not (isinstance(error, StopRequested) and error.number == signal.SIGTERM)


def _in_vain(error: BaseException, task: Task, paths: ArtifactPaths) -> UserError | None:
    """The sentence for a task that ended as something to be tried again, when it has been often enough."""
    if not isinstance(error, TransientError) or not attempts.in_vain(paths, resumable=task.stage.kind.resumable):
        return None
    what = f"{task.full_name} came no further in {attempts.IN_VAIN} attempts in a row; at the end of the last: {error}"
    if task.stage.kind.resumable:
        return UserError(what, f"Give it more time by machine.resources.{task.stage.kind.resources}.hours.")
    return UserError(what, f"It always begins anew: raise machine.resources.{task.stage.kind.resources}.hours.")


def _end_this_process() -> None:
    # Two must not write to one folder. The command `task` takes this signal as: save, end, try again.
    os.kill(os.getpid(), signal.SIGTERM)


def _attempt(
    task: Task,
    store: Store,
    paths: ArtifactPaths,
    held: Lease,
    threads: int,
    device: str,
    machine: Mapping[str, Any],
    tracking: Mapping[str, Any],
) -> None:
    started = time.time()
    so_far = attempts.note(paths, held, started)
    paths.failure.unlink(missing_ok=True)
    write_text(paths.lineage, f"{task.lineage}\n")
    if paths.partial.exists() and not task.stage.kind.resumable:
        shutil.rmtree(paths.partial)
    paths.partial.mkdir(exist_ok=True)
    progress = Progress(paths.progress)
    job = Job(
        name=task.name,
        stage=task.stage.name,
        config=task.stage.config,
        identity=task.identity,
        axis=task.stage.axis,
        axis_value=task.stage.axis_value,
        inputs={role: [_artifact(item, store) for item in task.inputs.get(role, [])] for role in task.stage.kind.roles},
        files=task.files,
        out=paths.partial,
        resumable_from=store.resumable_from(task) if task.stage.kind.resumable else [],
        attempts=len(so_far),
        threads=threads,
        device=device,
        machine=machine,
        progress=progress,
        tracking=tracking,
        hash_file=store.file_hashes(),
    )
    progress.update("starting")
    uses_gpus = task.stage.kind.resources in USING_GPUS
    with energy.measuring(paths.energy, uses_gpus=uses_gpus, machine={**machine, "device": device}) as meter:
        task.stage.kind.run(job)
    progress.update("checking")
    summary = task.stage.kind.check(job)
    write_json(paths.partial / MANIFEST, _manifest(task, job, summary, so_far, meter.spent))
    sync_folder(paths.partial)
    if not held.still_ours():
        raise TransientError(f"{task.full_name} was taken over by another process; its output is used.")
    rename_folder(paths.partial, paths.final)
    paths.attempts.unlink(missing_ok=True)
    paths.energy.unlink(missing_ok=True)


def _artifact(item: Input, store: Store) -> Artifact:
    task, paths = item.task, store.paths(item.task)
    return Artifact(
        path=paths.final,
        label=item.label,
        stage=task.stage.name,
        task=task.name,
        fingerprint=task.fingerprint,
        axis=task.stage.axis,
        settings=canonical(task.stage.config),
        manifest=paths.manifest(),
    )


def _manifest(
    task: Task, job: Job[Any], summary: Summary, so_far: list[Attempt], spent: energy.Spent
) -> dict[str, Any]:
    files: dict[str, dict[str, Any]] = {
        str(path.relative_to(job.out)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(job.out.rglob("*"))
        if path.is_file() and not path.is_symlink() and path != job.out / MANIFEST  # a link's file stands once
    }
    attempts.take_down(so_far[-1])
    return {
        "stage": task.stage.name,
        "task": task.name,
        "kind": task.stage.kind.name,
        "kind_version": task.stage.kind.version,
        "fingerprint": task.fingerprint,
        "lineage": task.lineage,
        "axis": task.stage.axis,
        "settings": canonical(task.stage.config),
        "inputs": {
            role: [f"{item.task.full_name}@{item.task.fingerprint}" for item in items]
            for role, items in task.inputs.items()
        },
        "raw_files": {str(path): value for path, value in task.files.items()},
        **asdict(summary),
        "bytes": sum(int(entry["bytes"]) for entry in files.values()),
        "files": files,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(sum(attempt.get("seconds", 0.0) for attempt in so_far), 3),
        "cpu_seconds": attempts.cpu_seconds(so_far),
        "attempts": len(so_far),
        "peak_memory": peak_memory(),
        "energy": energy.record(spent, job.machine),
        "host": socket.gethostname(),
        "machine": job.machine.get("name"),
        "device": job.device,
        "threads": job.threads,
        "nodes": job.world.nodes,
        "container": container(),
        "versions": versions(),
    }


def container() -> dict[str, str | None] | None:
    """The image that this process runs in, as its launcher told: {"path", "sha256"}; None outside of one.

    The digest of an image that was entered by hand is not known.
    """
    path = os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER")
    if path is None:
        return None
    return {"path": os.environ.get("KD_CONTAINER") or path, "sha256": os.environ.get("KD_CONTAINER_SHA256") or None}


def versions() -> dict[str, str]:
    """Package -> version, of what results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def disk_fault(error: BaseException, folder: Path) -> UserError | None:
    """The sentence for a disk or folder that cannot be written to, `folder` or another; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in DISK_FAULTS:
        return None
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
    if folder != named and folder not in named.parents:  # a folder for temporary files, for instance
        return UserError(f"{named}: {os.strerror(error.errno)}.", "Make room there, or give the right to use it.")
    return UserError(f"Writing to {folder} failed: {os.strerror(error.errno)}.", DISK_FAULTS[error.errno])


def _record_failure(paths: ArtifactPaths, error: BaseException) -> None:
    if isinstance(error, TransientError | KeyboardInterrupt):
        return  # no failure: the work is left off, and goes on
    record = {
        "message": str(error) or type(error).__name__,
        "kind": type(error).__name__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if not isinstance(error, UserError | IncompleteArtifact):
        record["traceback"] = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):  # on a full disk the sentence on standard error has to do
        write_json(paths.failure, record)


def failed_since(paths: ArtifactPaths, begun: float) -> bool:
    """Whether an attempt has failed for good since a moment, in seconds since the epoch."""
    try:
        failed = json.loads(paths.failure.read_text("utf-8"))["time"]
        return datetime.fromisoformat(failed).timestamp() >= begun
    except (OSError, ValueError, KeyError):
        return False


def failure_message(paths: ArtifactPaths) -> str | None:
    """What the last attempt died of, if it failed and was not begun again."""
    try:
        return str(json.loads(paths.failure.read_text("utf-8"))["message"])
    except (OSError, ValueError, KeyError):
        return None
