"""Read the CPU time and the peak memory of this process and of the processes that it started.

A started process counts once it has ended and was waited for. Processes on other nodes do not count.
"""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path


def cpu_seconds() -> float:
    """Return the seconds of CPU time, user and system, of all threads."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak_memory() -> int:
    """Return the peak memory in bytes of this process, or of the largest one that it started and waited for."""
    return max(_own_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


def _own_peak() -> int:
    # getrusage includes the memory of the process that started this one; /proc does not.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").split("\n"):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
