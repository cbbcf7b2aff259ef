"""Check the file system of a run's folder: free space, quota, speed of writing, and locks.

kd's locks are exclusively created files; if two nodes both get a lock, both do the same work.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kd.base.lease import Lease, LeaseHeld
from kd.doctor.findings import Finding, error, ok, warning

ENOUGH = 20e9  # bytes that a small run may need; n-best lists of large corpora take hundreds of GB (kd plan)
TOO_LITTLE = 1e9
FILES = 10_000  # inodes that a run of some hundred shards may need
BYTES = 64 << 20  # written for the measurement
SLOW = 50e6  # bytes per second: a checkpoint of a big Transformer, 2.5 GB with its optimiser, takes a minute
FULL = 0.9  # share of a quota
LOCKS = 20  # files that two nodes race for


def room(folder: Path) -> list[Finding]:
    """Check free space and inodes, and on Lustre the user's quota."""
    there = os.statvfs(folder)
    free, files = there.f_bavail * there.f_frsize, there.f_favail
    message = f"{free / 1e9:,.0f} GB free in {folder}"
    hint = "Set store.dir and run.dir to a folder elsewhere, or free some space; `kd plan` forecasts what a run needs."
    found = [(error if free < TOO_LITTLE else warning)("disk", message, hint) if free < ENOUGH else ok("disk", message)]
    if there.f_files and files < FILES:
        found.append(warning("files", f"{files:,} more files can be made in {folder}", hint))
    return [*found, *_quota(folder)]


def _quota(folder: Path) -> list[Finding]:
    if shutil.which("lfs") is None:
        return []
    command = ["lfs", "quota", "-q", "-u", str(os.getuid()), str(folder)]
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        # path, kbytes, quota, limit, grace, files, quota, limit, grace; a star marks what is over its quota
        words = done.stdout.replace("*", "").split()
        if done.returncode == 0 and len(words) >= 8:
            sizes = [float(words[number]) for number in (1, 2, 3, 5, 6, 7)]
            used = [("GB", sizes[0] / 1e6, (sizes[1] or sizes[2]) / 1e6), ("files", sizes[3], sizes[4] or sizes[5])]
            return [_share(unit, value, limit) for unit, value, limit in used if limit]
    return []


def _share(unit: str, used: float, limit: float) -> Finding:
    message = f"{used:,.0f} of {limit:,.0f} {unit} are used"
    if used < FULL * limit:
        return ok("quota", message)
    return warning("quota", message, "Free some space, or set store.dir and run.dir to a folder with another quota.")


def speed(folder: Path) -> list[Finding]:
    """Measure the speed at which one process writes to a folder."""
    path = folder / f".kd-doctor-{os.getpid()}"
    block = os.urandom(1 << 20)
    try:
        began = time.perf_counter()
        with path.open("wb") as handle:
            for _ in range(BYTES >> 20):
                handle.write(block)
            handle.flush()
            os.fsync(handle.fileno())
        rate = BYTES / (time.perf_counter() - began)
    except OSError as problem:
        return [
            error(
                "writing",
                f"to {folder} failed: {problem.strerror}",
                "Set run.dir and store.dir to folders that can be written to.",
            )
        ]
    finally:
        path.unlink(missing_ok=True)
    message = f"{rate / 1e6:,.0f} MB/s to {folder}"
    if rate < SLOW:
        return [warning("writing", message, "Set run.dir and store.dir to the file system for large files (scratch).")]
    return [ok("writing", message)]


def locks(folder: Path) -> list[Finding]:
    """Check that the file system supports locks: a lock that is held cannot be acquired again."""
    path = folder / f".kd-doctor-{os.getpid()}.lease"
    hint = "Set run.dir and store.dir to another file system; this one does not support locks."
    try:
        with Lease.acquire(path):
            try:
                Lease.acquire(path).release()
            except LeaseHeld:
                return [ok("locks", f"exclusive creation works in {folder}")]
        return [error("locks", f"the same lock was granted twice in {folder}", hint)]
    except OSError as problem:
        return [error("locks", f"no lock can be created in {folder}: {problem.strerror}", hint)]


def race(folder: Path) -> list[int]:
    """Create locks in a race with another node; return the numbers of the locks that this node got."""
    won = []
    for number in range(LOCKS):
        with suppress(FileExistsError):
            os.close(os.open(folder / f"lock-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            won.append(number)
        time.sleep(0.02)
    return won


def judge(won: Iterable[Iterable[int]]) -> Finding:
    """Return the finding on a race between nodes, from the numbers of the locks that each node got."""
    every = [number for one in won for number in one]
    if sorted(every) == list(range(LOCKS)):
        return ok("locks between nodes", f"each of {LOCKS} locks was granted once")
    hint = "Set run.dir and store.dir to a file system that all nodes share and that supports exclusive creation."
    what = "a lock was granted twice" if len(every) > len(set(every)) else "a lock was granted to neither node"
    return error("locks between nodes", what, hint)
