"""Define the interface of launchers: a launcher gets the missing tasks and returns those that failed.

A launcher that only queues tasks returns once they are queued; `kd status` shows their state afterwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd.base.errors import EXIT_TRANSIENT, EXIT_USER
from kd.pipeline.model import Task

LOG_HEAD = "---"  # starts the lines of a task's log that the launcher wrote


@dataclass(frozen=True)
class Failure:
    """The failure of a task."""

    task: Task
    message: str
    log: Path
    exit_status: int  # 0: it was not started, since an input failed


class Interrupted(Exception):
    """The user or the system asked to stop; finished work is kept."""


class Launcher(ABC):
    """Execute the tasks of a run."""

    @abstractmethod
    def launch(self, tasks: Sequence[Task]) -> list[Failure]:
        """Run or queue tasks whose outputs are missing, upstream first; return the failures.

        Raises:
            Interrupted: The user or the system ended the run early.
        """


def exit_status(failures: Sequence[Failure]) -> int:
    """Return the exit status of `kd run`: a bug outranks a user's mistake, which outranks a temporary fault."""
    return of_several(failure.exit_status for failure in failures)


def of_several(found: Iterable[int]) -> int:
    """Combine exit statuses; the result asks for a retry only if all faults are temporary."""
    statuses = set(found) - {0}
    if not statuses:
        return 0
    if statuses <= {EXIT_USER, EXIT_TRANSIENT}:
        return EXIT_USER if EXIT_USER in statuses else EXIT_TRANSIENT
    return 1


def blocked(tasks: Sequence[Task], failures: Sequence[Failure]) -> list[Failure]:
    """Return the tasks that cannot start because an input failed, in their order."""
    logs = {failure.task: failure.log for failure in failures}
    found = []
    for task in tasks:
        culprit = next((other for other in task.upstream() if other in logs), None)
        if culprit is not None and task not in logs:
            logs[task] = logs[culprit]
            found.append(Failure(task, f"not started, because {culprit.full_name} failed", logs[culprit], 0))
    return found
