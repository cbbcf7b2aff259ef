"""Run one task: take its lease, work in a folder beside the final place, check, write the manifest, rename.

A folder with its final name is always complete. Output of a crashed attempt is resumed or deleted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd.base import energy
from kd.base.errors import StopRequested, TransientError, UserError
from kd.base.faults import disk_fault
from kd.base.files import remove_leftovers, rename_folder, sync_folder, write_json, write_text
from kd.base.lease import Lease, LeaseHeld
from kd.base.progress import Progress
from kd.pipeline import attempts
from kd.pipeline.failures import record_failure
from kd.pipeline.fingerprint import canonical
from kd.pipeline.manifest import manifest
from kd.pipeline.model import Artifact, Input, Job, Summary, Task
from kd.pipeline.staging import staged
from kd.pipeline.store import MANIFEST, RAN, ArtifactPaths, Store

_LOG = logging.getLogger(__name__)

WAIT_SECONDS = 1.0  # between two looks at a lease that another process holds


def execute(
    task: Task,
    store: Store,
    *,
    threads: int,
    device: str,
    machine: Mapping[str, Any],
    tracking: Mapping[str, Any] | None = None,
    packages: Sequence[str] = (),
    wait: bool = False,
    scratch: str | None = None,
) -> bool:
    """Run a task unless its output exists; returns whether it ran.

    A failure is recorded beside the task's output before it is raised.

    Args:
        task: The task.
        store: The store that it reads from and writes to.
        threads: CPU threads for the task.
        device: cpu, cuda or rocm.
        machine: The facts of the machine's description.
        tracking: The trackers to report to, and their settings.
        packages: Packages whose versions the manifest records.
        wait: Whether to wait for another process that works on the task.
        scratch: A fast local folder to which a training copies its inputs; None: it reads them from the store.

    Raises:
        UserError: The user made a mistake, or an input is missing.
        TransientError: Another process works on the task, or a temporary fault occurred.
    """
    return _Execution(task, store, threads, device, machine, tracking or {}, packages, scratch).run(wait=wait)


def ensure_ready(task: Task, store: Store) -> None:
    """Raise UserError if an input of the task is missing."""
    for upstream in task.upstream():
        if not store.paths(upstream).is_published():
            raise UserError(
                f"{task.full_name} needs {upstream.full_name}, which is missing.",
                f"Run the stage {upstream.stage.name} first.",
            )


@dataclass
class _Execution:
    """One attempt at a task, with everything that it needs."""

    task: Task
    store: Store
    threads: int
    device: str
    machine: Mapping[str, Any]
    tracking: Mapping[str, Any]
    packages: Sequence[str]
    scratch: str | None = None
    paths: ArtifactPaths = field(init=False)

    def __post_init__(self) -> None:
        self.paths = self.store.paths(self.task)

    def run(self, *, wait: bool) -> bool:
        """Take the lease and run the task unless its output exists; returns whether it ran."""
        if self.paths.is_published():
            return False
        ensure_ready(self.task, self.store)
        with self._lease(wait=wait) as held:
            if self.paths.is_published():
                return False
            try:
                self._attempt(held)
            except BaseException as error:
                failure = self._explained(error, ours=held.still_ours())
                if failure is not None:
                    raise failure from None
                raise
            finally:
                if held.still_ours():
                    with contextlib.suppress(OSError):  # must not replace the error that is being reported
                        self.paths.progress.unlink(missing_ok=True)
        return True

    def _lease(self, *, wait: bool) -> Lease:
        announced = False
        while True:
            try:
                return Lease.acquire(self.paths.lease, on_lost=_end_this_process)
            except OSError as error:
                raise disk_fault(error, self.paths.final.parent) or error from None
            except LeaseHeld as error:
                holder = f"process {error.holder.pid} on {error.holder.host}" if error.holder else "another process"
                if not wait:
                    raise TransientError(f"{self.task.full_name} is being worked on by {holder}.") from None
                if not announced:
                    _LOG.warning("waiting for %s, which has the lease of %s", holder, self.task.full_name)
                announced = True
                time.sleep(WAIT_SECONDS)

    def _attempt(self, held: Lease) -> None:
        paths, kind = self.paths, self.task.stage.kind
        paths.sweep()
        so_far = attempts.note(paths, held, time.time())
        paths.failure.unlink(missing_ok=True)
        write_text(paths.lineage, f"{self.task.lineage}\n")
        if paths.partial.exists() and not (kind.resumable or paths.ran):
            shutil.rmtree(paths.partial)
        paths.partial.mkdir(exist_ok=True)
        inputs = [self.store.paths(item).final for item in self.task.upstream()] if kind.trains else []
        with staged(inputs, self.scratch) as copies:
            summary, job, spent = self._work(len(so_far), copies)
        # Attempts that were killed while they wrote a file left parts of it, which must not be published.
        remove_leftovers(paths.partial)
        record = manifest(self.task, job, summary, so_far, spent, self.packages)
        write_json(paths.partial / MANIFEST, record)
        (paths.partial / RAN).unlink(missing_ok=True)
        sync_folder(paths.partial)
        if not held.still_ours():
            raise TransientError(f"{self.task.full_name} was taken over by another process; its output is used.")
        rename_folder(paths.partial, paths.final)
        paths.attempts.unlink(missing_ok=True)
        paths.energy.unlink(missing_ok=True)

    def _work(self, number: int, copies: Mapping[Path, Path]) -> tuple[Summary, Job[Any], Any]:
        """Do the task's work and check its output; return the summary, the job and the energy spent."""
        paths, kind = self.paths, self.task.stage.kind
        job = self._job(number, copies)
        job.progress.update("starting")
        machine = {**self.machine, "device": self.device}
        with energy.measuring(paths.energy, uses_gpus=kind.uses_gpus, machine=machine) as meter:
            if not paths.ran:
                kind.run(job)
                # A stop during the check, which may take hours, must not repeat the work.
                sync_folder(paths.partial)
                (paths.partial / RAN).touch()
        job.progress.update("checking")
        return self._check(job), job, meter.spent

    def _check(self, job: Job[Any]) -> Summary:
        """Check the output; if the check fails, the next attempt repeats the work."""
        try:
            return self.task.stage.kind.check(job)
        except (TransientError, OSError):  # the same check may pass in another attempt
            raise
        except Exception:
            for name in (RAN, MANIFEST):
                (self.paths.partial / name).unlink(missing_ok=True)
            raise

    def _job(self, number: int, copies: Mapping[Path, Path]) -> Job[Any]:
        task, stage = self.task, self.task.stage
        return Job(
            name=task.name,
            stage=stage.name,
            config=stage.config,
            identity=task.identity,
            axis=stage.axis,
            axis_value=stage.axis_value,
            inputs={
                role: [self._artifact(item, copies) for item in task.inputs.get(role, [])] for role in stage.kind.roles
            },
            files=task.files,
            out=self.paths.partial,
            resumable_from=self.store.resumable_from(task) if stage.kind.resumable else [],
            attempts=number,
            threads=self.threads,
            device=self.device,
            machine=self.machine,
            progress=Progress(self.paths.progress),
            tracking=self.tracking,
            hash_file=self.store.file_hashes(),
        )

    def _artifact(self, item: Input, copies: Mapping[Path, Path]) -> Artifact:
        task, paths = item.task, self.store.paths(item.task)
        return Artifact(
            path=copies.get(paths.final, paths.final),
            label=item.label,
            stage=task.stage.name,
            task=task.name,
            fingerprint=task.fingerprint,
            axis=task.stage.axis,
            settings=canonical(task.stage.config),
            manifest=paths.manifest(),
            subject=item.subject,
        )

    # --- failing -------------------------------------------------------------------------------------------------

    def _explained(self, error: BaseException, *, ours: bool) -> UserError | TransientError | None:
        """Record a failed attempt; return the error to report, a clearer one than `error` if possible.

        Args:
            error: The error that ended the attempt.
            ours: Whether this process still holds the lease; if not, the records belong to another process.
        """
        failure = disk_fault(error, self.paths.final.parent)
        if not ours:
            return failure
        if isinstance(failure, UserError) and not (self.task.stage.kind.resumable or self.paths.ran):
            shutil.rmtree(self.paths.partial, ignore_errors=True)  # useless, and it takes space on a full disk
        stopped = isinstance(error, StopRequested) and error.number == signal.SIGTERM
        attempts.end(self.paths, counts=not stopped)
        failure = failure or self._no_progress(error)
        record_failure(self.paths, failure or error)
        return failure

    def _no_progress(self, error: BaseException) -> UserError | None:
        """Return the error for a task that was retried too often without progress; None if a retry makes sense."""
        kind = self.task.stage.kind
        if not isinstance(error, TransientError) or not attempts.is_stuck(self.paths, resumable=kind.resumable):
            return None
        problem = (
            f"{self.task.full_name} made no progress in {attempts.STUCK_AFTER} attempts in a row. The last: {error}"
        )
        hours = f"machine.resources.{kind.resources}.hours"
        if kind.resumable:
            return UserError(problem, f"Give it more time: raise {hours}.")
        return UserError(problem, f"It starts from the beginning each time: raise {hours}.")


def _end_this_process() -> None:
    # Two processes must not write to one folder. `kd task` handles this signal: save, end, retry later.
    os.kill(os.getpid(), signal.SIGTERM)
