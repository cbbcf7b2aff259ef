"""The few kinds of failure that `kd` tells apart, each with the exit status it ends with.

What is not one of these is a bug of ours and shows its traceback.
"""

from __future__ import annotations

import signal

from kd.base.escapes import visible_lines

EXIT_USER = 2
EXIT_TRANSIENT = 75  # EX_TEMPFAIL of sysexits.h: "try me again"


class UserError(Exception):
    """A mistake that the user can correct: one sentence for the problem, one for what to type. Exit status 2."""

    def __init__(self, problem: str, hint: str = "") -> None:
        # Names of files, replies of servers and texts of corpora stand in messages, and messages on terminals.
        problem, hint = visible_lines(problem), visible_lines(hint)
        super().__init__(f"{problem} {hint}".strip())
        self.problem = problem
        self.hint = hint

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        """Make the error picklable, so that it passes between processes unchanged."""
        return type(self), (self.problem, self.hint)


class TransientError(Exception):
    """A fault that may pass (a signal before a time limit, a node that went away): exit status 75, try again."""

    def __init__(self, problem: str = "") -> None:
        super().__init__(visible_lines(problem))


class StopRequested(TransientError):
    """Somebody asked this process to end by a signal: SIGTERM at once, SIGUSR1 some minutes before a time limit."""

    def __init__(self, number: int) -> None:
        super().__init__("The task was asked to end; what it has done is kept.")
        self.number = signal.Signals(number)


class IncompleteArtifact(Exception):
    """What `check` raises when a task's output is not whole; the task is then run again, nothing is published."""
