"""The jobs of a run and their states: the run's records, joined with Slurm's queue.

A task is identified by the path of its output. So jobs of an earlier version of a recipe are not mistaken for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kd.base.errors import TransientError, UserError
from kd.launch.slurm import client
from kd.launch.slurm.client import Row
from kd.launch.slurm.records import COMMENT, Element, Records, Submission
from kd.pipeline.model import Task
from kd.pipeline.run import Run
from kd.pipeline.store import Store

SUCCESSOR_SECONDS = 1.0  # within which a job that is being cancelled may have submitted its successor
REASONS = {  # Slurm's word -> a phrase
    "Dependency": "waits for its inputs",
    "DependencyNeverSatisfied": "an input has failed",
    "Priority": "jobs of higher priority come first",
    "Resources": "waits for nodes",
    "JobArrayTaskLimit": "side_by_side tasks of its stage are running",
    "BeginTime": "was requeued, starts soon",
}


@dataclass(frozen=True)
class QueuedJob:
    """One element of a submission, with its row of Slurm's queue."""

    submission: Submission
    number: int
    element: Element
    row: Row


class Queue:
    """All jobs of a run that Slurm lists, including those of earlier settings."""

    def __init__(self, submissions: Sequence[Submission], rows: Sequence[Row]) -> None:
        self.submissions = submissions
        self.entries = list(_joined(submissions, rows))

    def active(self) -> dict[str, QueuedJob]:
        """Return path of a task's output -> its waiting or running job; the newest job if one hands over to another."""
        # Slurm's ids ascend, but it lists running jobs after waiting ones.
        ordered = sorted(self.entries, key=lambda entry: int(entry.row.array))
        return {entry.element.place: entry for entry in ordered if entry.row.active}

    def latest(self) -> dict[str, QueuedJob]:
        """Return path -> its last job; a waiting or running job takes precedence over a finished one."""
        found: dict[str, QueuedJob] = {}
        for entry in sorted(self.entries, key=lambda entry: (entry.row.active, int(entry.row.array))):
            found[entry.element.place] = entry
        return found

    def submitted(self) -> dict[str, Submission]:
        """Return path -> the last submission of its task, whether or not Slurm still lists it."""
        return {element.place: item for item in self.submissions for element in item.elements.values()}


def read(run: Run) -> Queue:
    """Read the states of a run's jobs from Slurm; raise TransientError if it does not answer."""
    records = Records(run)
    if not records.exist():
        return Queue([], [])
    rows = client.queue()
    return Queue(records.resolve(rows), rows)


def with_accounts(queue: Queue, tasks: Sequence[Task]) -> Queue:
    """Return the queue plus the jobs of `tasks` that Slurm no longer lists, taken from the accounting database."""
    known, submitted = queue.latest(), queue.submitted()
    places = [str(task.relative) for task in tasks]
    jobs = {submitted[place].job for place in places if place in submitted and place not in known}
    rows = [entry.row for entry in queue.entries]
    return Queue(queue.submissions, [*client.accounts(sorted(job for job in jobs if job)), *rows])


def cancel(run: Run, say: Callable[[str], None]) -> dict[str, list[str]]:
    """Cancel all jobs of a run, also those submitted with other settings; return job -> its tasks.

    A lock keeps other processes from submitting jobs meanwhile. If the run's folder was removed, there is no lock, and
    the jobs are recognised by their comment and working folder.
    """
    records = Records(run)
    if not records.exist():
        return _cancel_all(lambda: client.queued_in(str(run.folder), COMMENT))
    with records.hold(say):
        return _cancel_all(lambda: _queued(run))


def _queued(run: Run) -> dict[str, list[str]]:
    """Return the jobs in a run's records, and jobs from before its folder was removed and made again."""
    found: dict[str, list[str]] = {}
    for entry in read(run).entries:  # if a job hands over to a successor: both
        if entry.row.active and entry.row.state != "COMPLETING":
            found.setdefault(entry.row.array, []).append(entry.element.task)
    return {**client.queued_in(str(run.folder), COMMENT), **found}


def _cancel_all(queued: Callable[[], dict[str, list[str]]]) -> dict[str, list[str]]:
    """Cancel jobs until none is left: a job that is being cancelled may just have submitted its successor."""
    found: dict[str, list[str]] = {}
    while True:
        new = {job: tasks for job, tasks in queued().items() if job not in found}
        if not new:
            return found
        client.cancel(list(new))
        found |= new
        time.sleep(SUCCESSOR_SECONDS)


def reached(run: Run, store: Store) -> set[str]:
    """Return the paths in the store that a run's queued jobs read or write, by the configs they were queued with.

    If Slurm does not answer, or the jobs belong to another user, everything that was ever submitted counts.
    """
    submissions = Records(run).read()
    if not submissions:
        return set()
    try:
        queued = {entry.submission.id for entry in read(run).active().values()}
    except (TransientError, UserError):
        queued = {item.id for item in submissions}
    alive = {item.frozen for item in submissions if item.id in queued or item.user != os.getuid()}
    found = set()
    for frozen in alive:
        for name, fingerprint in run.frozen(frozen)["fingerprints"].items():
            stage, _, task = name.partition("/")
            found.add(str(store.root / stage / fingerprint / task))
    return found


def describe(row: Row) -> str:
    """Describe a job in a phrase, for `kd status`."""
    about = f"job {row.name}"
    if row.state == "PENDING":
        reason = REASONS.get(row.reason, row.reason)
        start = f"expected to start {row.start.replace('T', ' ')[:16]}" if row.start else ""
        return ", ".join(filter(None, [about, reason, start]))
    if row.active:
        return f"{about} on {row.nodes}, {row.elapsed} of {row.limit}"
    return f"{about}: {row.state.lower().replace('_', ' ')}"


def _joined(submissions: Sequence[Submission], rows: Sequence[Row]) -> Iterator[QueuedJob]:
    by_comment: Mapping[str, Submission] = {item.comment: item for item in submissions}
    by_job = {item.job: item for item in submissions if item.job is not None}
    for row in rows:
        submission = by_comment.get(row.comment) or by_job.get(row.array)
        if submission is None or not submission.has(row):
            continue
        number = row.element
        if (
            number < 0 and len(submission.elements) == 1
        ):  # an array of one, cancelled before it began, is no longer an array
            (number,) = submission.elements
        if number in submission.elements:
            yield QueuedJob(submission, number, submission.elements[number], row)
