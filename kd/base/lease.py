"""A lease: a lock that works on cluster file systems, where flock is often local to the node.

It is a file created exclusively by its holder, who touches it every few seconds; one whose holder is known to be
dead, or of whom nothing can be known and who no longer touches it, is taken over.
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

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 120.0  # well above the attribute caches of network file systems (NFS: 60 s)


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. `world` tells process-id spaces apart: boot and pid namespace."""

    token: str
    host: str
    pid: int
    process_start: str
    world: str
    started: float  # seconds since the epoch

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        pid = os.getpid()
        return cls(secrets.token_hex(8), socket.gethostname(), pid, _process_start(pid) or "", _world(), time.time())

    def alive(self) -> bool | None:
        """Whether the holder lives; None where that cannot be seen: on another host, in another process-id space."""
        if not self.process_start or (self.host, self.world) != (socket.gethostname(), _world()):
            return None
        now = _process_start(self.pid)
        if now is None:  # gone, or of another user where /proc shows one's own processes only (hidepid)
            return _signal_finds(self.pid)
        return now == self.process_start


class LeaseHeld(Exception):
    """The lease is held by a living other."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(f"held by {holder}")
        self.holder = holder


@dataclass(frozen=True)
class Abandoned:
    """What a dead holder left: when it began and when it last gave a sign."""

    started: float
    last_seen: float


class Lease:
    """A held lease; a context manager that keeps it alive and lets go of it at the end.

    `on_lost` is called, in a thread of the lease's own, once another is seen to have taken over.
    """

    def __init__(self, path: Path, holder: Holder, abandoned: Abandoned | None, on_lost: Callable[[], None]) -> None:
        self.path = path
        self.abandoned = abandoned  # by whoever held it before and died
        self._holder = holder
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {path.name}", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, path: Path, on_lost: Callable[[], None] = lambda: None) -> Lease:
        """Takes the lease, or raises Held."""
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Holder.here()
        if _create(path, holder):
            return cls(path, holder, None, on_lost)
        if is_free(path):
            abandoned = _take_over(path, holder)
            return cls(path, holder, abandoned, on_lost)
        raise LeaseHeld(read(path))

    def still_ours(self) -> bool:
        """False when another took over, for instance because this machine slept for long."""
        current = read(self.path)
        return current is not None and current.token == self._holder.token

    def release(self) -> None:
        """Lets go."""
        self._stop.set()
        self._thread.join()
        if self.still_ours():
            with contextlib.suppress(FileNotFoundError):
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
    """Who holds the lease at `path`; None where there is none or it is unreadable."""
    try:
        return Holder(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_held(path: Path) -> bool:
    """Whether somebody alive holds the lease at `path`."""
    return read(path) is not None and not is_free(path)


def is_free(path: Path) -> bool:
    """Whether nobody stands behind the lease at `path`: there is none, or its holder is dead or has fallen silent."""
    holder = read(path)
    alive = holder.alive() if holder is not None else None
    return _silent(path) if alive is None else not alive


def silence(path: Path) -> float:
    """Seconds since a holder of whom nothing else can be known gave a sign; 0 where it is seen to live."""
    holder = read(path)
    if holder is None or holder.alive() is not None:
        return 0.0
    try:
        return max(0.0, _now(path) - path.stat().st_mtime)
    except OSError:
        return 0.0


def _create(path: Path, holder: Holder) -> bool:
    # Written aside and linked: whoever sees the lease sees its whole content, and link() refuses an existing name.
    aside = _write_aside(path, holder)
    try:
        os.link(aside, path)
    except FileExistsError:
        # A network file system may repeat a request whose answer was lost, and then refuse what it did itself.
        current = read(path)
        return current is not None and current.token == holder.token
    finally:
        aside.unlink(missing_ok=True)
    return True


def _take_over(path: Path, holder: Holder) -> Abandoned | None:
    """Puts the new holder in the place of one that is gone; raises Held when another was faster."""
    # One taker at a time, and the file is replaced, never absent: else two takers, or a taker and a newcomer, could
    # both come to think that they hold it.
    gate = path.with_name(f"{path.name}.taking")
    if not _create(gate, holder):
        if is_free(gate):  # a taker died in these few microseconds
            gate.unlink(missing_ok=True)
        raise LeaseHeld(read(path))
    try:
        if not is_free(path):
            raise LeaseHeld(read(path))
        gone = read(path)
        if gone is None and not path.exists():  # let go of meanwhile; a newcomer may be creating it now
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


def _silent(path: Path) -> bool:
    try:
        touched = path.stat().st_mtime
    except OSError:
        return True
    return _now(path) - touched > STALE_SECONDS


def _now(path: Path) -> float:
    # By the file system's own clock, where one may write: those of two nodes may differ.
    probe = path.with_name(f".{path.name}.clock-{secrets.token_hex(4)}")
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _process_start(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot, so that a recycled pid is told apart.

    Empty for a process that has ended, None where nothing is to be seen of it.
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


def _world() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
