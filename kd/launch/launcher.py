"""What every launcher is to `kd run`: it is given the tasks that are missing, and tells which of them failed.

One that only queues them returns once they are queued; what became of them is for `kd status` to find out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd.base.errors import EXIT_TRANSIENT, EXIT_USER
from kd.pipeline.model import Task

LOG_HEAD = "---"  # begins a line of a task's log that the launcher wrote


@dataclass(frozen=True)
class Failure:
    """A task that did not finish."""

    task: Task
    message: str
    log: Path
    exit_status: int  # 0: it was not begun, since one that it needs failed


class Interrupted(Exception):
    """The user (or the system) asked to stop; what is done is kept."""


class Launcher(ABC):
    """Where a run's tasks execute."""

    @abstractmethod
    def launch(self, tasks: Sequence[Task]) -> list[Failure]:
        """Runs, or queues, tasks whose outputs are missing, upstream first; returns what failed. Raises Interrupted."""


def exit_status(failures: Sequence[Failure]) -> int:
    """What `kd run` ends with: a user's mistake before a passing fault before a bug of ours."""
    return of_several(failure.exit_status for failure in failures)


def of_several(found: Iterable[int]) -> int:
    """One exit status for several; only what may pass ends as something to be tried again."""
    statuses = set(found) - {0}
    if not statuses:
        return 0
    if statuses <= {EXIT_USER, EXIT_TRANSIENT}:
        return EXIT_USER if EXIT_USER in statuses else EXIT_TRANSIENT
    return 1


def blocked(tasks: Sequence[Task], failures: Sequence[Failure]) -> list[Failure]:
    """Those of the tasks that cannot begin, since they stand on one that failed; in their order."""
    logs = {failure.task: failure.log for failure in failures}
    found = []
    for task in tasks:
        culprit = next((other for other in task.upstream() if other in logs), None)
        if culprit is not None and task not in logs:
            logs[task] = logs[culprit]
            found.append(Failure(task, f"not begun, since {culprit.full_name} failed", logs[culprit], 0))
    return found
