"""Implement a lease: a lock that works on cluster file systems, where flock is often local to the node.

It is a file that its holder creates exclusively and touches every few seconds. It is taken over if its holder is known
to be dead, or if the holder cannot be observed and has stopped touching it: sooner if Slurm has requeued the
holder's job since.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from kd.base.files import DamagedFile, read_object

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 120.0  # well above the attribute caches of network file systems (NFS: 60 s)
# Of a holder whose job was requeued. Not zero: Slurm also requeues the jobs of a node that it only cannot reach, where
# the holder still runs and touches its lease. Below the 60 s above, since `read` opens the file, which refreshes them.
REQUEUED_SECONDS = 30.0


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease; `pid_namespace` is the boot id and the namespace of its process id.

    `job` and `restarts` are the Slurm job that it belongs to and how often that job had been requeued.
    """

    token: str
    host: str
    pid: int
    process_start: str
    pid_namespace: str
    started: float  # seconds since the epoch
    job: str = ""
    restarts: int = 0

    @classmethod
    def here(cls) -> Holder:
        """Return a holder for this process."""
        pid = os.getpid()
        start = _process_start(pid) or ""
        return cls(secrets.token_hex(8), socket.gethostname(), pid, start, _pid_namespace(), time.time(), *_job())

    def alive(self) -> bool | None:
        """Return whether the holder is alive; None if unknown: it is on another host or in another pid namespace."""
        if not self.process_start or (self.host, self.pid_namespace) != (socket.gethostname(), _pid_namespace()):
            return None
        now = _process_start(self.pid)
        if now is None:  # gone, or hidden: /proc may show only one's own processes (hidepid)
            return _signal_finds(self.pid)
        return now == self.process_start

    def was_requeued(self) -> bool:
        """Return whether this process belongs to the holder's job, which has been requeued since."""
        job, restarts = _job()
        return bool(job) and job == self.job and restarts > self.restarts


class LeaseHeld(Exception):
    """Another live process holds the lease."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(f"held by {holder}")
        self.holder = holder


@dataclass(frozen=True)
class Abandoned:
    """The times of a dead holder: when it took the lease, and its last heartbeat; in seconds since the epoch."""

    started: float
    last_seen: float


class Lease:
    """A held lease: a context manager that renews it and releases it at the end.

    `on_lost` is called, in the heartbeat thread, once another process has taken the lease over.
    """

    def __init__(self, path: Path, holder: Holder, abandoned: Abandoned | None, on_lost: Callable[[], None]) -> None:
        self.path = path
        self.abandoned = abandoned  # by the previous holder, which died
        self._holder = holder
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {path.name}", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, path: Path, on_lost: Callable[[], None] = lambda: None) -> Lease:
        """Take the lease, or raise LeaseHeld."""
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Holder.here()
        if _create(path, holder):
            return cls(path, holder, None, on_lost)
        if is_free(path):
            abandoned = _take_over(path, holder)
            return cls(path, holder, abandoned, on_lost)
        raise LeaseHeld(read(path))

    def still_ours(self) -> bool:
        """Return whether this process still holds the lease; after a long suspension another may have taken over."""
        current = read(self.path)
        return current is not None and current.token == self._holder.token

    def release(self) -> None:
        """Remove the lease file. Raises nothing: an error here must not replace the error that is being reported.

        A lease that cannot be removed is taken over later, since its holder is dead.
        """
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self.still_ours():
                self.path.unlink()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            current = read(self.path)
            if current is not None and current.token != self._holder.token:
                self._on_lost()
                return
            with contextlib.suppress(OSError):
                os.utime(self.path)


def read(path: Path) -> Holder | None:
    """Return the holder of the lease at `path`; None if there is no lease or it is unreadable."""
    try:
        holder = Holder(**read_object(path))
    except (OSError, DamagedFile, TypeError):
        return None
    numbers = isinstance(holder.pid, int) and isinstance(holder.started, int | float)
    return holder if numbers and isinstance(holder.restarts, int) else None


def is_held(path: Path) -> bool:
    """Return whether a live process holds the lease at `path`."""
    return read(path) is not None and not is_free(path)


def is_free(path: Path) -> bool:
    """Return whether the lease at `path` can be taken: absent, or its holder is dead or has stopped touching it."""
    holder = read(path)
    alive = holder.alive() if holder is not None else None
    if alive is not None:
        return not alive
    return _silent(path, REQUEUED_SECONDS if holder is not None and holder.was_requeued() else STALE_SECONDS)


def silence(path: Path) -> float:
    """Return the seconds since the last heartbeat of a holder that cannot be observed; 0 for a live holder."""
    holder = read(path)
    if holder is None or holder.alive() is not None:
        return 0.0
    try:
        return max(0.0, _now(path) - path.stat().st_mtime)
    except OSError:
        return 0.0


def _create(path: Path, holder: Holder) -> bool:
    # Written aside and linked: a visible lease has its whole content, and link() refuses an existing name.
    aside = _write_aside(path, holder)
    try:
        os.link(aside, path)
    except FileExistsError:
        # A network file system may repeat a request whose answer was lost, and then refuse its own link.
        current = read(path)
        return current is not None and current.token == holder.token
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
    return True


def _take_over(path: Path, holder: Holder) -> Abandoned | None:
    """Replace a dead holder by a new one; raises LeaseHeld if another process was faster."""
    # One taker at a time, and the file is replaced, never absent: otherwise two processes could both believe that they
    # hold it.
    gate = path.with_name(f"{path.name}.taking")
    if not _create(gate, holder):
        if is_free(gate):  # a process died while it was taking the lease over
            gate.unlink(missing_ok=True)
        raise LeaseHeld(read(path))
    try:
        if not is_free(path):
            raise LeaseHeld(read(path))
        gone = read(path)
        if gone is None and not path.exists():  # released meanwhile; another process may be creating it now
            if not _create(path, holder):
                raise LeaseHeld(read(path))
            return None
        abandoned = Abandoned(gone.started, path.stat().st_mtime) if gone is not None else None
        aside = _write_aside(path, holder)
        try:
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    finally:
        gate.unlink(missing_ok=True)
    return abandoned


def _write_aside(path: Path, holder: Holder) -> Path:
    aside = path.with_name(f".{path.name}.{holder.token}")
    try:
        aside.write_text(json.dumps(asdict(holder)), "utf-8")
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    return aside


def _silent(path: Path, seconds: float) -> bool:
    try:
        touched = path.stat().st_mtime
    except OSError:
        return True
    return _now(path) - touched > seconds


def _now(path: Path) -> float:
    # By the file system's own clock, if the folder is writable: the clocks of two nodes may differ.
    probe = path.with_name(f".{path.name}.clock-{secrets.token_hex(4)}")
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _job() -> tuple[str, int]:
    """Return this process's Slurm job, "" outside of jobs, and how often the job was requeued."""
    job, restarts = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_RESTART_COUNT", "0")
    if not job:
        return "", 0
    return f"{os.environ.get('SLURM_CLUSTER_NAME', '')}/{job}", int(restarts) if restarts.isdecimal() else 0


def _process_start(pid: int) -> str | None:
    """Return the start of a process in clock ticks since boot, which identifies it even if its pid is reused.

    Returns an empty string for a process that has ended, and None for one that is not visible.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in ("Z", "X") else fields[19]  # state: a zombie is dead


def _signal_finds(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _pid_namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
