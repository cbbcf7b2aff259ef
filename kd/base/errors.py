"""The few kinds of failure that `kd` tells apart, each with the exit status it ends with.

What is not one of these is a bug of ours and shows its traceback.
"""

from __future__ import annotations

import signal

EXIT_USER = 2
EXIT_TRANSIENT = 75  # EX_TEMPFAIL of sysexits.h: "try me again"


class UserError(Exception):
    """Something the user can mend: one sentence says what is wrong, one how to mend it. Exit status 2, no traceback."""

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(f"{what} {mend}".strip())
        self.what = what
        self.mend = mend

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        """So that it passes from one process to another as it is."""
        return type(self), (self.what, self.mend)


class TransientError(Exception):
    """A fault that may pass (a signal before a time limit, a node that went away): exit status 75, try again."""


class StopRequested(TransientError):
    """Somebody asked this process to end by a signal: SIGTERM at once, SIGUSR1 some minutes before a time limit."""

    def __init__(self, number: int) -> None:
        super().__init__("The task was asked to end; what it has done is kept.")
        self.number = signal.Signals(number)


class IncompleteArtifact(Exception):
    """What `check` raises when a task's output is not whole; the task is then run again, nothing is published."""
