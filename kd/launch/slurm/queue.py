"""What is queued of a run, and what became of it: the run's records joined with what Slurm says.

A task is known by the place of its output. So jobs of an earlier version of a recipe are told from those of this one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kd.base.errors import TransientError, UserError
from kd.launch.slurm import client
from kd.launch.slurm.client import Row
from kd.launch.slurm.records import Element, Records, Submission
from kd.pipeline.model import Task
from kd.pipeline.run import Run
from kd.pipeline.store import Store

SUCCESSOR_SECONDS = 1.0  # within which a job that is cancelled may just have submitted another in its place
REASONS = {  # Slurm's word -> ours, where its own says little
    "Dependency": "waits for what it reads from",
    "DependencyNeverSatisfied": "what it reads from has failed",
    "Priority": "others come first",
    "Resources": "waits for nodes",
    "JobArrayTaskLimit": "as many as may run at once do",
    "BeginTime": "was requeued, begins in a moment",
}


@dataclass(frozen=True)
class QueuedJob:
    """One element of a submission, with what Slurm says of it."""

    submission: Submission
    number: int
    element: Element
    row: Row


class Queue:
    """All jobs of a run that Slurm remembers, those of earlier settings included."""

    def __init__(self, submissions: Sequence[Submission], rows: Sequence[Row]) -> None:
        self.submissions = submissions
        self.entries = list(_joined(submissions, rows))

    def active(self) -> dict[str, QueuedJob]:
        """Place of a task's output -> its job, of those that wait and run; of two, one hands over: to the newest."""
        # Slurm gives ids in ascending order, and lists what runs behind what waits.
        ordered = sorted(self.entries, key=lambda entry: int(entry.row.array))
        return {entry.element.place: entry for entry in ordered if entry.row.active}

    def latest(self) -> dict[str, QueuedJob]:
        """Place -> its job; the last one, where there were several."""
        # Slurm gives ids in ascending order; a job that waits or runs is more telling than one that is over.
        found: dict[str, QueuedJob] = {}
        for entry in sorted(self.entries, key=lambda entry: (entry.row.active, int(entry.row.array))):
            found[entry.element.place] = entry
        return found

    def submitted(self) -> dict[str, Submission]:
        """Place -> the last submission of its task, remembered by Slurm or not."""
        return {element.place: item for item in self.submissions for element in item.elements.values()}


def read(run: Run) -> Queue:
    """Asks Slurm what became of a run's jobs; raises TransientError when it does not answer."""
    records = Records(run)
    if not records.exist():
        return Queue([], [])
    rows = client.queue()
    return Queue(records.resolve(rows), rows)


def with_accounts(queue: Queue, tasks: Sequence[Task]) -> Queue:
    """The same, where the queue has forgotten the jobs of tasks, with what the accounting database knows of them."""
    known, submitted = queue.latest(), queue.submitted()
    places = [str(task.relative) for task in tasks]
    jobs = {submitted[place].job for place in places if place in submitted and place not in known}
    rows = [entry.row for entry in queue.entries]
    return Queue(queue.submissions, [*client.accounts(sorted(job for job in jobs if job)), *rows])


def cancel(run: Run, say: Callable[[str], None]) -> dict[str, list[str]]:
    """Cancels all jobs of a run, of whatever settings; returns job -> its tasks. Nobody submits meanwhile."""
    records = Records(run)
    if not records.exist():
        return {}
    found: dict[str, list[str]] = {}
    with records.hold(say):
        while True:
            new: dict[str, list[str]] = {}
            for entry in read(run).entries:  # of a task that is handed over: the old job and the new one
                if entry.row.active and entry.row.array not in found and entry.row.state != "COMPLETING":
                    new.setdefault(entry.row.array, []).append(entry.element.task)
            if not new:
                return found
            client.cancel(list(new))
            found |= new
            time.sleep(SUCCESSOR_SECONDS)


def reached(run: Run, store: Store) -> set[str]:
    """Places in the store that what is queued of a run reads or makes, by the configs that it was queued with.

    Where Slurm cannot be asked, or the jobs are another user's, everything that was ever submitted counts.
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
    """A job in a phrase, for `kd status`."""
    about = f"job {row.name}"
    if row.state == "PENDING":
        reason = REASONS.get(row.reason, row.reason)
        start = f"expected to begin {row.start.replace('T', ' ')[:16]}" if row.start else ""
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
        if number < 0 and len(submission.elements) == 1:  # cancelled alone before it began, it is no array any more
            (number,) = submission.elements
        if number in submission.elements:
            yield QueuedJob(submission, number, submission.elements[number], row)
