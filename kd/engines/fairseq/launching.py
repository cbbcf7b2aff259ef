"""Run the processes of a training: start them, read their output, stop them, and explain failures.

A single process is started directly, several by torchrun. Signals are sent to the workers by their process ids, never
to torchrun's agent, which SIGUSR1 would kill, leaving the workers running.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kd.base.errors import EXIT_TRANSIENT, StopRequested, TransientError, UserError
from kd.base.processes import die_with_parent
from kd.base.world import World
from kd.engines.fairseq.environment import process_environment
from kd.engines.fairseq.train import DISK_ERROR, RANK_LOG, STOPPED, USER_ERROR

GRACE = 45.0  # seconds that a training has to save and exit after SIGTERM
GRACE_WARNED = 600.0  # the same after SIGUSR1, which arrives minutes before a time limit
GRACE_ALONE = 20.0  # seconds in which a node may itself notice that another has failed, since its message may say more
TELL_SECONDS = 1.0
_LAST_LINES = 20
_KEPT_LINES = 400  # torchrun's report of a failure is long
_TAIL_BYTES = 64 * 1024
_STALLED = re.compile(r"^Timeout \(\d+:\d\d:\d\d", re.MULTILINE)  # faulthandler's first line
_FIRST_DEAD = re.compile(r"Root Cause.*?rank\s*: (\d+) .*?exitcode\s*: (-?\d+)", re.DOTALL)  # torchrun's report


class TrainingFailed(Exception):
    """A training failed for a reason beyond the user's control; the message has its last lines and the log's path."""


@dataclass(frozen=True)
class Launch:
    """One node's part of a training. `workers`: processes on this node; `threads`: their CPU threads in total."""

    description: Path  # the specification that train.py reads
    log: Path
    world: World
    workers: int
    threads: int
    max_tokens: int  # of a pass, for the message about memory
    stall_minutes: float = 0.0
    _began: dict[Path, int] = field(default_factory=dict)  # rank's log -> its length before this attempt

    @property
    def alone(self) -> bool:
        """Return whether the training is a single process, which needs no torchrun."""
        return self.world.nodes * self.workers == 1

    @property
    def command(self) -> list[str]:
        """Return the command line of this node."""
        task = ["-m", "kd.engines.fairseq", "train", "--spec", str(self.description)]
        if self.alone:
            return [sys.executable, "-P", *task]
        run = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc-per-node", str(self.workers)]
        if self.world.nodes == 1:
            return [*run, "--standalone", *task]
        host, port = self.world.address
        # Static: the process of rank 0 is on the node of rank 0, and logs and saves where `kd task` reads.
        run += ["--nnodes", str(self.world.nodes), "--node-rank", str(self.world.node_rank)]
        return [*run, "--rdzv-backend", "static", "--master-addr", host, "--master-port", port, *task]

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of each process."""
        return {**process_environment(max(1, self.threads // self.workers)), "PYTHONUNBUFFERED": "1"}

    def rank_logs(self) -> list[Path]:
        """Return the logs of all processes except the first, whose output is in the training's log."""
        return sorted(self.log.parent.glob(RANK_LOG.format(rank="*")))

    def words(self) -> str:
        """Return the last output of these processes in the current attempt."""
        return "\n".join(_tail(path, self._began.get(path, 0)) for path in self.rank_logs())


def run(
    launch: Launch,
    readers: Sequence[Callable[[str], None]] = (),
    elsewhere: Callable[[], Exception | None] = lambda: None,
) -> None:
    """Run this node's part to its end.

    Args:
        launch: The processes.
        readers: Callbacks for each line of the output, which is also appended to the log.
        elsewhere: Returns the error of another node that has failed, else None. On an error this node is ended, since
            it may not notice.

    Raises:
        UserError: The user can correct the failure.
        OSError: The disk is full.
        TransientError: A signal stopped the training, or it stalled.
        TrainingFailed: The training failed for another reason.
    """
    launch._began.update({path: path.stat().st_size for path in launch.rank_logs()})
    last: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
    with (
        launch.log.open("a", encoding="utf-8", newline="\n") as file,
        _started(launch) as process,
        _ended_with_others(process, elsewhere) as died,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            last.append(line.rstrip("\n"))
            for read in readers:
                read(line.rstrip("\n"))
        status = process.wait()
    if died:
        raise died[0]
    if status != 0:
        raise _failure(launch, status, list(last))


# --- a process and its end -------------------------------------------------------------------------------------------


@contextmanager
def _started(launch: Launch) -> Iterator[subprocess.Popen[str]]:
    """Start a subprocess that ends with this block or with this process."""
    ctypes.CDLL(None)  # loaded before the fork: nothing is imported between fork and exec
    process = subprocess.Popen(
        launch.command,
        env=launch.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        bufsize=1,
        preexec_fn=partial(_in_child, os.getpid(), launch.alone),  # noqa: PLW1509 - system calls, nothing that waits for a lock
    )
    try:
        yield process
    except BaseException as error:
        asked = error.number if isinstance(error, StopRequested) else signal.SIGTERM
        _stop(process, launch, asked)
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def _ended_with_others(
    process: subprocess.Popen[str], elsewhere: Callable[[], Exception | None]
) -> Iterator[list[Exception]]:
    """Watch for a failure of another node during this block; on failure end this node's process. Yields the error.

    Without this, NCCL would wait forever for the processes of that node.
    """
    died: list[Exception] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(TELL_SECONDS):
            error = elsewhere()
            if error is not None and not over.wait(GRACE_ALONE) and process.poll() is None:
                died.append(error)
                for worker in [*children(process.pid), process.pid]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
                return

    thread = threading.Thread(target=look, name="other nodes", daemon=True)
    thread.start()
    try:
        yield died
    finally:
        over.set()
        thread.join()


def _in_child(parent: int, alone: bool) -> None:
    die_with_parent(parent)
    if not alone:  # a scheduler may send it to every process of a job, and it would kill torchrun's agent
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _stop(process: subprocess.Popen[str], launch: Launch, number: signal.Signals) -> None:
    """Signal the workers to save and exit, and wait for them for at most the grace period.

    Their output is still read into the log, since a full pipe would block them.
    """
    deadline = time.monotonic() + (GRACE_WARNED if number == signal.SIGUSR1 else GRACE)
    told = 0.0
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    with launch.log.open("ab") as log:
        while process.poll() is None and time.monotonic() < deadline:
            if time.monotonic() - told > TELL_SECONDS:  # repeated, since a process that has just started may miss it
                told = time.monotonic()
                for worker in [process.pid] if launch.alone else children(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, number)
            with contextlib.suppress(BlockingIOError):
                while chunk := os.read(process.stdout.fileno(), 1 << 16):
                    log.write(chunk)
            time.sleep(0.05)


def children(parent: int) -> list[int]:
    """Return the ids of the running children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, ppid = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
                if int(ppid) == parent and state not in "ZX":
                    found.append(int(entry.name))
    return found


# --- explaining failures ---------------------------------------------------------------------------------------------


def _failure(launch: Launch, status: int, last: list[str]) -> Exception:
    """Return the error for a training that failed, with a remedy if one is known."""
    said = "\n".join([*last, launch.words()])
    if status == EXIT_TRANSIENT or STOPPED.removesuffix("%d") in said:  # torchrun passes on no status of its workers
        return TransientError("A signal stopped the training; it saved a checkpoint first and resumes from there.")
    for line in said.split("\n"):
        if line.startswith(USER_ERROR):
            return UserError(*json.loads(line.removeprefix(USER_ERROR)))
        if line.startswith(DISK_ERROR):
            number, path = json.loads(line.removeprefix(DISK_ERROR))
            return OSError(number, os.strerror(number), path)
    if "No space left on device" in said:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(launch.log.parent))
    if "out of memory" in said.lower():
        return UserError(
            "The GPU ran out of memory.",
            f"Set batch.max_tokens lower (a micro-batch now has up to {launch.max_tokens} tokens).",
        )
    logs = ", ".join(str(path) for path in [launch.log, *launch.rank_logs()])
    if _STALLED.search(said):
        return TransientError(
            f"A process of the training made no progress for {launch.stall_minutes:g} minutes (stall_minutes), so it "
            f"was ended; tracebacks of all processes are in {logs}."
        )
    shown = "\n".join(last[-_LAST_LINES:])
    if dead := _FIRST_DEAD.search("\n".join(last)):
        rank, code = int(dead[1]), int(dead[2])
        log = launch.log if rank == 0 else launch.log.with_name(RANK_LOG.format(rank=rank))
        shown = "\n".join(_tail(log, launch._began.get(log, 0)).split("\n")[-_LAST_LINES:])
        return TrainingFailed(
            f"The training failed: of its {launch.world.nodes * launch.workers} processes, rank {rank} {_died(code)}. "
            f"Its log is {log}; the last lines are:\n{shown}"
        )
    return TrainingFailed(f"The training {_died(status)}. Its log is {launch.log}; the last lines are:\n{shown}")


def _died(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), often by the kernel because memory ran out"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _tail(path: Path, start: int) -> str:
    """Return the last part of a file's text after `start`."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace").rstrip("\n")
    except OSError:
        return ""
