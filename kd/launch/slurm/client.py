"""Wrap Slurm's commands as functions: sbatch, squeue, sacct, scancel.

Only this module calls Slurm on the computer where `kd` is typed; on the nodes, the job scripts do. Sites may wrap these
commands in scripts that print a banner, so only lines of the expected form are read.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from kd.base.errors import TransientError, UserError
from kd.base.processes import die_with_parent

SECONDS = 300.0  # limit for an answer; a busy controller is slow, and Slurm's commands give up after about 100 s
OVER = frozenset({"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"})
OVER |= {"OUT_OF_MEMORY", "REVOKED"}  # states of finished jobs; jobs in any other state wait, run or are ending
# Fields of squeue; the comment is last, since it alone may contain the separator.
_FIELDS = "%F|%K|%T|%r|%S|%N|%M|%l|%E|%k"
_FOREIGN = ("SLURM", "SBATCH_", "SQUEUE_", "SACCT_", "SRUN_")  # prefixes of variables that are removed …
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")  # … except those that say which Slurm to use
# Signs that the controller did not answer; whether it has accepted a job is then unknown.
_PASSING = ("timed out", "unable to contact", "connection refused", "communication", "zero bytes", "try again")
# Slurm's reasons for refusing a job because too many are queued: AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit …
_SUBMIT_LIMIT = re.compile(r"\w*Submit\w*Limit\w*")
_JOB_ID = re.compile(r"^(\d+)(;\S+)?$", re.MULTILINE)  # a line of sbatch --parsable: job id, or job id;cluster

_WHERE = "Type this on the cluster's login node, or set launcher=local."


class SubmitLimit(TransientError):
    """The site currently accepts no more jobs of this user."""


class NoJobId(UserError):
    """sbatch succeeded but printed no job id."""


@dataclass(frozen=True)
class Row:
    """A job as shown in the queue: an element of an array, or a job without an array."""

    array: str  # the job id that sbatch printed
    element: int  # -1 for a job without an array
    state: str
    reason: str = ""
    start: str = ""  # actual or, for a waiting job, expected start
    nodes: str = ""
    elapsed: str = ""
    limit: str = ""
    dependency: str = ""
    comment: str = ""

    @property
    def name(self) -> str:
        """Return the job's id as used in Slurm's commands: 12, or 12_3 for an element."""
        return self.array if self.element < 0 else f"{self.array}_{self.element}"

    @property
    def active(self) -> bool:
        """Whether the job waits, runs, or is being requeued."""
        return self.state not in OVER


def submit(arguments: Sequence[str]) -> str:
    """Submit by `sbatch --parsable`; return the job id.

    sbatch ends with this process, so it cannot submit a job that is never recorded.

    Raises:
        NoJobId: The job is queued, but sbatch printed no id.
        UserError: sbatch refused the job.
        SubmitLimit: The site limits the number of jobs, and the limit is reached.
        TransientError: The controller did not answer; the job may or may not be queued.
    """
    child = partial(die_with_parent, os.getpid(), signal.SIGKILL)
    done = _run(["sbatch", "--parsable", *arguments], child)
    if done.returncode == 0:
        ids = _JOB_ID.findall(done.stdout)
        if not ids:
            said = " ".join(done.stdout.split())[:200] or "nothing"
            raise NoJobId(
                f"sbatch printed no job id. Its output: {said}.",
                "The job may be queued: `squeue --me` lists your jobs.",
            )
        return str(ids[-1][0])
    told = _told(done)
    if _SUBMIT_LIMIT.search(told):
        raise SubmitLimit(f"sbatch: {told}.")
    if any(sign in told.lower() for sign in _PASSING):
        raise TransientError(f"sbatch: {told}.")
    raise UserError(f"sbatch: {told}.", "Jobs submitted so far stay queued. Correct the setting and run kd again.")


def dropped_variables() -> list[str]:
    """Return the SBATCH_* variables of the environment, which have no effect on kd's jobs."""
    return sorted(name for name in os.environ if name.startswith("SBATCH_"))


def queue() -> list[Row]:
    """Return all jobs of this user that Slurm lists: waiting, running, and recently finished.

    Raises TransientError if the controller does not answer.
    """
    arguments = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--format={_FIELDS}"]
    done = _run(arguments)
    if done.returncode != 0:
        raise TransientError(f"squeue: {_told(done)}.")
    rows = []
    for line in done.stdout.split("\n"):
        fields = line.split("|", _FIELDS.count("|"))
        if len(fields) == _FIELDS.count("|") + 1:  # else a banner, or part of a comment with a line break
            array, element, *rest = fields
            rows.append(Row(array, int(element) if element.isdigit() else -1, *map(_value, rest)))
    return rows


def queued_in(folder: str, comment: str) -> dict[str, list[str]]:
    """Return this user's waiting and running jobs with a working folder and a comment that begins with `comment`.

    Returns:
        Job id -> a name (`JOB_NAME/ELEMENT`) for each of its elements.
    """
    arguments = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%F|%K|%T|%k|%j\x1f%Z"]
    done = _run(arguments)
    if done.returncode != 0:
        raise TransientError(f"squeue: {_told(done)}.")
    found: dict[str, list[str]] = {}
    for line in done.stdout.split("\n"):
        fields, _, place = line.partition("\x1f")
        array, element, state, said, name = fields.split("|", 4) if fields.count("|") >= 4 else [""] * 5
        if said.startswith(comment) and place == folder and state not in (*OVER, "COMPLETING"):
            found.setdefault(array, []).append(f"{name}/{element}")
    return found


def ensure_reachable() -> None:
    """Raise UserError if Slurm is not installed here, TransientError if it does not answer now."""
    try:
        queue()
    except TransientError as error:
        if any(sign in str(error).lower() for sign in _PASSING):
            raise
        last = str(error).rpartition("; ")[2].removeprefix("squeue: ").removeprefix("fatal: ").rstrip(".")
        raise UserError(f"No Slurm can be reached from here (squeue: {last}).", _WHERE) from None


def accounts(jobs: Iterable[str]) -> list[Row]:
    """Return the accounting database's entries for jobs; empty if the cluster has no accounting."""
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
    """Cancel jobs and whole arrays by their ids; raise TransientError if the controller does not answer."""
    done = _run(["scancel", *jobs])
    if done.returncode != 0 and "invalid job id" not in done.stderr.lower():  # ended this moment
        raise TransientError(f"scancel: {_told(done)}.")


def _run(arguments: list[str], child: partial[None] | None = None) -> subprocess.CompletedProcess[str]:
    # A user's variables for other jobs (SBATCH_PARTITION, SQUEUE_FORMAT …) would override the options of a script, and
    # in an interactive job, Slurm's own variables describe that job.
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
        raise UserError(f"The command {arguments[0]} does not exist here.", _WHERE) from None
    except subprocess.TimeoutExpired:
        raise TransientError(f"{arguments[0]} gave no answer for {SECONDS:.0f} s (timed out).") from None


def _elements(text: str) -> Iterator[int]:
    """Yield the numbers of an array's elements: `3`, or `[0-3,7%2]`, as sacct shows elements that never started."""
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
