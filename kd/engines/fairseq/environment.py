"""The environment of processes that run fairseq: threads, import path and memory allocation."""

from __future__ import annotations

import os
from pathlib import Path

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_TUNABLES = "GLIBC_TUNABLES"
# By default, glibc takes large blocks from the kernel and returns them: every update of a training then faults in the
# pages of its activations again. Kept in the heap, on huge pages where the kernel offers them, an update of the demo's
# student took 0.135 s instead of 0.153 (one core of an Intel Xeon, 2026-12-01). Other C libraries ignore the variable.
_KEEP_MEMORY = "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=1073741824:glibc.malloc.hugetlb=1"


def process_environment(threads: int) -> dict[str, str]:
    """Return this process's environment with changes for a process of `threads` CPU threads that imports kd.

    A value of GLIBC_TUNABLES that is already set is kept.
    """
    project = str(Path(__file__).resolve().parents[3])  # the kd that is running
    path = os.pathsep.join(part for part in (project, os.environ.get("PYTHONPATH", "")) if part)
    return {
        _TUNABLES: _KEEP_MEMORY,
        **os.environ,
        **dict.fromkeys(_THREADS, str(threads)),
        "PYTHONPATH": path,
    }
