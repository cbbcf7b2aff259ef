"""Define the kinds of failure that `kd` distinguishes, each with its exit status.

Every other exception is a bug and shows its traceback.
"""

from __future__ import annotations

import signal

from kd.base.escapes import visible_lines
from kd.base.urls import mask_output

EXIT_USER = 2
EXIT_TRANSIENT = 75  # EX_TEMPFAIL of sysexits.h: "try me again"


class UserError(Exception):
    """A mistake that the user can correct: one sentence for the problem, one for what to type. Exit status 2."""

    def __init__(self, problem: str, hint: str = "") -> None:
        problem, hint = _shown(problem), _shown(hint)
        super().__init__(f"{problem} {hint}".strip())
        self.problem = problem
        self.hint = hint

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        """Make the error picklable, so that it passes between processes unchanged."""
        return type(self), (self.problem, self.hint)


class TransientError(Exception):
    """A temporary fault (a signal before a time limit, a failed node). Exit status 75: retry."""

    def __init__(self, problem: str = "") -> None:
        super().__init__(_shown(problem))


class StopRequested(TransientError):
    """A signal asked this process to end: SIGTERM at once, SIGUSR1 some minutes before a time limit."""

    def __init__(self, number: int) -> None:
        super().__init__("The task was asked to stop; its finished work is kept.")
        self.number = signal.Signals(number)


class IncompleteArtifact(Exception):
    """Raised by `check` if a task's output is not complete; nothing is published, and the task runs again."""


def _shown(message: str) -> str:
    """Make a message safe for terminals and logs, since it may contain file names, server replies and typed URLs."""
    return visible_lines(mask_output(message))


def exit_of(error: UserError | TransientError) -> int:
    """Return the exit status of a known failure."""
    return EXIT_USER if isinstance(error, UserError) else EXIT_TRANSIENT
