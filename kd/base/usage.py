"""What this process and those that it started have used of the machine so far: CPU time, and memory at the peak.

Processes count once they have ended and were waited for; what ran on other nodes does not.
"""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path


def cpu_seconds() -> float:
    """Seconds of CPU time, user and system, of all threads."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak_memory() -> int:
    """Bytes of memory that this process, or the largest one that it started and waited for, had in use at its peak."""
    return max(_own_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


def _own_peak() -> int:
    # What getrusage says of a process begins with the memory of the one that started it; Linux knows better.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").split("\n"):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
