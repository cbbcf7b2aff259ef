"""Slurm's own commands, as functions: sbatch, squeue, sacct, scancel.

Nothing else talks to Slurm from the computer where `kd` is typed; the job scripts do on the nodes.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from kd.base.errors import TransientError, UserError
from kd.base.processes import die_with_parent

SECONDS = 300.0  # for an answer: a busy controller takes its time, and its own commands give up after about 100
# What a job's state is called once it is over; every other name is one of a job that waits, runs or is being ended.
OVER = frozenset({"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"})
OVER |= {"OUT_OF_MEMORY", "REVOKED"}
# Of squeue; the comment stands last, since only it may hold the separator.
_FIELDS = "%F|%K|%T|%r|%S|%N|%M|%l|%E|%k"
_FOREIGN = ("SLURM", "SBATCH_", "SQUEUE_", "SACCT_", "SRUN_")  # begin variables that are not handed on …
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")  # … but for those that say which Slurm it is
# What Slurm says where the controller did not answer; whether it has taken a job is then unknown.
_PASSING = ("timed out", "unable to contact", "connection refused", "communication", "zero bytes", "try again")

_WHERE = "Type this on the cluster's login node, or set launcher=local."


@dataclass(frozen=True)
class Row:
    """An element of an array, or a job of its own, as the queue shows it."""

    array: str  # the job id that sbatch printed
    element: int  # -1 for a job that is no array
    state: str
    reason: str = ""
    start: str = ""  # begun or, of one that waits, expected to
    nodes: str = ""
    elapsed: str = ""
    limit: str = ""
    dependency: str = ""
    comment: str = ""

    @property
    def name(self) -> str:
        """What Slurm's commands call it."""
        return self.array if self.element < 0 else f"{self.array}_{self.element}"

    @property
    def active(self) -> bool:
        """Whether it waits, runs, or is about to do so again."""
        return self.state not in OVER


def submit(arguments: Sequence[str]) -> str:
    """Submits by `sbatch --parsable`; returns the job id.

    Raises UserError with what sbatch objects to, and TransientError where the controller gave no answer: the job may
    be queued or not. sbatch ends with this process, so that it submits nothing once nobody would take it down.
    """
    child = partial(die_with_parent, os.getpid(), signal.SIGKILL)
    done = _run(["sbatch", "--parsable", *arguments], child)
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]  # job id;cluster
    told = _told(done)
    if any(sign in told.lower() for sign in _PASSING):
        raise TransientError(f"sbatch: {told}.")
    raise UserError(f"sbatch: {told}.", "What is queued stays; mend it and type the same command again.")


def queue() -> list[Row]:
    """All of this user's jobs that Slurm remembers: those that wait and run, and for some minutes those that ended.

    Raises TransientError when the controller does not answer.
    """
    arguments = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--format={_FIELDS}"]
    done = _run(arguments)
    if done.returncode != 0:
        raise TransientError(f"squeue: {_told(done)}.")
    rows = []
    for line in done.stdout.split("\n"):
        fields = line.split("|", _FIELDS.count("|"))
        if len(fields) == _FIELDS.count("|") + 1:  # else the rest of a comment of somebody's with a line break
            array, element, *rest = fields
            rows.append(Row(array, int(element) if element.isdigit() else -1, *map(_value, rest)))
    return rows


def ensure_reachable() -> None:
    """Raises UserError where there is no Slurm, TransientError where one is that does not answer now."""
    try:
        queue()
    except TransientError as error:
        if any(sign in str(error).lower() for sign in _PASSING):
            raise
        last = str(error).rpartition("; ")[2].removeprefix("squeue: ").removeprefix("fatal: ").rstrip(".")
        raise UserError(f"No Slurm can be reached from here (squeue: {last}).", _WHERE) from None


def accounts(jobs: Iterable[str]) -> list[Row]:
    """What the accounting database knows of jobs; empty where a cluster keeps none."""
    wanted = ",".join(jobs)
    if not wanted:
        return []
    fields = "JobID,State,Start,NodeList,Elapsed,Timelimit"
    try:
        done = _run(["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={wanted}", f"--format={fields}"])
    except UserError:  # a cluster without sacct
        return []
    rows = []
    for line in done.stdout.split("\n") if done.returncode == 0 else []:
        name, state, start, nodes, elapsed, limit = line.split("|") if line.count("|") == 5 else [""] * 6
        array, _, element = name.partition("_")
        state = state.partition(" ")[0]  # CANCELLED by 1000
        numbers = _elements(element) if element else [-1] if array else []
        rows += [Row(array, number, state, "", start, nodes, elapsed, limit) for number in numbers]
    return rows


def cancel(jobs: Sequence[str]) -> None:
    """Cancels jobs, whole arrays by their ids; raises TransientError when the controller does not answer."""
    done = _run(["scancel", *jobs])
    if done.returncode != 0 and "invalid job id" not in done.stderr.lower():  # ended this moment
        raise TransientError(f"scancel: {_told(done)}.")


def _run(arguments: list[str], child: partial[None] | None = None) -> subprocess.CompletedProcess[str]:
    # What a user has set for other jobs (SBATCH_PARTITION, SQUEUE_FORMAT …) would override what stands in a script, and
    # what Slurm has set in a job, where this may be typed, is about that job.
    ours = {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith(_FOREIGN)}
    try:
        return subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            env=ours,
            stdin=subprocess.DEVNULL,
            preexec_fn=child,
        )
    except FileNotFoundError:
        raise UserError(f"There is no {arguments[0]} here.", _WHERE) from None
    except subprocess.TimeoutExpired:
        raise TransientError(f"{arguments[0]} gave no answer for {SECONDS:.0f} s (timed out).") from None


def _elements(text: str) -> Iterator[int]:
    """The numbers of an array's elements: of `3`, or of `[0-3,7%2]`, as sacct tells of all that were never begun."""
    for span in text.strip("[]").partition("%")[0].split(","):
        first, _, last = span.partition("-")
        if first.isdigit() and (last or first).isdigit():
            yield from range(int(first), int(last or first) + 1)


def _told(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stderr.split("\n") if line.strip()]
    return "; ".join(line.removeprefix("sbatch: error: ") for line in lines).rstrip(".") or (
        f"it ended with status {done.returncode}"
    )


def _value(text: str) -> str:
    return "" if text in ("(null)", "N/A", "None") else text
