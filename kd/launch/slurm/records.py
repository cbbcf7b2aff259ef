"""Record each submission of a run before it is made: one small file per submission, in the run's folder.

Each submission has a fresh id that its jobs carry as their comment, by which a job is recognised even if `kd run` was
killed right after sbatch.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from kd.base.files import DamagedFile, read_object, write_json
from kd.base.lease import Lease, LeaseHeld
from kd.launch.slurm.client import Row
from kd.pipeline.run import SLURM, Run

COMMENT = "kd:"  # prefix of the comments of kd's jobs
POLL_SECONDS = 0.5
_REMEDY = "Cancel its jobs, if squeue shows any, and remove the file."


@dataclass(frozen=True)
class Element:
    """A task as an element of a job array."""

    task: str  # its full name
    place: str  # of its output, relative to the store


@dataclass(frozen=True)
class Submission:
    """One call of sbatch: a script and its elements."""

    script: str  # name in the run's folder
    stage: str
    elements: Mapping[int, Element]
    frozen: str  # hash of the config of its tasks
    dependency: str
    job: str | None = None  # Slurm's id; None until it is known
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    written: float = field(default_factory=time.time)
    user: int = field(default_factory=os.getuid)

    @property
    def comment(self) -> str:
        """The comment of its jobs."""
        return COMMENT + self.id

    def has(self, row: Row) -> bool:
        """Return whether a job belongs to this submission: by comment or, if a site overwrites comments, by id."""
        return row.comment == self.comment or (row.array == self.job and not row.comment.startswith(COMMENT))


class Records:
    """The submissions of a run."""

    def __init__(self, run: Run) -> None:
        self.folder = run.folder / SLURM

    @property
    def lease(self) -> Path:
        """The lease of the process that submits."""
        return self.folder / "submitting.lease"

    def hold(self, say: Callable[[str], None]) -> Lease:
        """Take the lease, waiting for the process that holds it."""
        told = False
        while True:
            try:
                return Lease.acquire(self.lease)
            except LeaseHeld as error:
                if not told:
                    who = f"process {error.holder.pid} on {error.holder.host}" if error.holder else "another process"
                    say(f"Waiting for {who}, which is submitting this run.")
                told = True
                time.sleep(POLL_SECONDS)

    def write(self, submission: Submission) -> None:
        """Write a submission, or its new state."""
        write_json(self._path(submission), asdict(submission))

    def remove(self, submission: Submission) -> None:
        """Remove a submission that never reached Slurm."""
        self._path(submission).unlink(missing_ok=True)

    def read(self) -> list[Submission]:
        """Return all submissions, oldest first."""
        found = []
        for path in (self.folder / "submissions").glob("*.json"):
            try:
                found.append(_submission(path))
            except FileNotFoundError:  # removed this moment
                continue
        return sorted(found, key=lambda submission: submission.written)

    def exist(self) -> bool:
        """Return whether anything was ever submitted."""
        return any((self.folder / "submissions").glob("*.json"))

    def resolve(self, rows: list[Row]) -> list[Submission]:
        """Return all submissions, oldest first; fill in missing job ids from the queue."""
        known = []
        for submission in self.read():
            row = next((row for row in rows if row.comment == submission.comment), None)
            if submission.job is None and row is not None:
                submission = replace(submission, job=row.array)
                self.write(submission)
            known.append(submission)
        return known

    def _path(self, submission: Submission) -> Path:
        return self.folder / "submissions" / f"{submission.id}.json"


def _submission(path: Path) -> Submission:
    """Read the record of a submission; raise DamagedFile if it is damaged."""
    plain = read_object(path, _REMEDY)
    found: Submission | None
    try:
        elements = {int(number): Element(**item) for number, item in plain.pop("elements").items()}
        found = Submission(elements=elements, **plain)
    except (KeyError, TypeError, ValueError, AttributeError):
        found = None
    if found is None or not _has_right_types(found):
        raise DamagedFile(
            f"{path} is damaged: it is not the record of a submission.",
            _REMEDY,
        )
    return found


def _has_right_types(found: Submission) -> bool:
    """Return whether all values have the right type; a damaged file may still be valid JSON."""
    texts = [found.script, found.stage, found.frozen, found.dependency, found.id, found.job or ""]
    texts += [text for element in found.elements.values() for text in (element.task, element.place)]
    numbers = (found.written, found.user)
    return all(isinstance(text, str) for text in texts) and all(isinstance(number, int | float) for number in numbers)
