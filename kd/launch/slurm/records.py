"""What a run has submitted, written down before it is: one small file a submission, in the run's folder.

Each has a fresh id that its jobs carry as their comment. So a job is known again whatever died between sbatch and here.
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

COMMENT = "kd:"  # begins the comment of a job of ours
POLL_SECONDS = 0.5
_REMEDY = "Cancel its jobs, if squeue shows any, and remove the file."


@dataclass(frozen=True)
class Element:
    """A task as an element of a job array."""

    task: str  # its full name
    place: str  # of its output, from the store's root


@dataclass(frozen=True)
class Submission:
    """One call of sbatch: which script with which elements."""

    script: str  # its name in the run's folder
    stage: str
    elements: Mapping[int, Element]
    frozen: str  # hash of the config that its tasks run with
    dependency: str
    job: str | None = None  # the id that Slurm gave; None as long as that is not known
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    written: float = field(default_factory=time.time)
    user: int = field(default_factory=os.getuid)

    @property
    def comment(self) -> str:
        """What its jobs are known by."""
        return COMMENT + self.id

    def has(self, row: Row) -> bool:
        """Whether a job is of this submission: by its comment, or where a site overwrites comments by its id."""
        return row.comment == self.comment or (row.array == self.job and not row.comment.startswith(COMMENT))


class Records:
    """The submissions of a run."""

    def __init__(self, run: Run) -> None:
        self.folder = run.folder / SLURM

    @property
    def lease(self) -> Path:
        """Who submits at this moment."""
        return self.folder / "submitting.lease"

    def hold(self, say: Callable[[str], None]) -> Lease:
        """Takes that lease, waiting for whoever holds it."""
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
        """Keeps a submission, or what is now known of it."""
        write_json(self._path(submission), asdict(submission))

    def remove(self, submission: Submission) -> None:
        """Forgets one that never reached Slurm."""
        self._path(submission).unlink(missing_ok=True)

    def read(self) -> list[Submission]:
        """All of them, oldest first."""
        found = []
        for path in (self.folder / "submissions").glob("*.json"):
            try:
                found.append(_submission(path))
            except FileNotFoundError:  # removed this moment
                continue
        return sorted(found, key=lambda submission: submission.written)

    def exist(self) -> bool:
        """Whether anything was ever submitted."""
        return any((self.folder / "submissions").glob("*.json"))

    def resolve(self, rows: list[Row]) -> list[Submission]:
        """All of them, each whose job's id was not yet known with what the queue says; returns them, oldest first."""
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
    """Reads the record of a submission; raises DamagedFile if the disk has damaged it."""
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
    """Whether all values have the right type; a file that a disk damaged may be JSON of another form."""
    texts = [found.script, found.stage, found.frozen, found.dependency, found.id, found.job or ""]
    texts += [text for element in found.elements.values() for text in (element.task, element.place)]
    numbers = (found.written, found.user)
    return all(isinstance(text, str) for text in texts) and all(isinstance(number, int | float) for number in numbers)
