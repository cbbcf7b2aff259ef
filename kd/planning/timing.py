"""Measure seconds and CPU seconds for a probe, and the time to import large packages.

CPU seconds are comparable on a busy machine; seconds are not.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from kd.base.usage import cpu_seconds


def import_times() -> dict[str, Clock]:
    """Measure the import of each large package, in an order such that no package imports a later one."""
    taken = {}
    for name in ("numba", "vl_convert", "torch", "ctranslate2", "fairseq"):
        with timed() as taken[name]:
            if name == "fairseq":
                from kd.engines.fairseq import compat

                compat.install()
            else:
                importlib.import_module(name)
    return taken


@dataclass
class Clock:
    """The time of a piece of work."""

    seconds: float = 0.0
    cpu: float = 0.0


@contextlib.contextmanager
def timed() -> Iterator[Clock]:
    """Measure the block, including the processes that it starts."""
    clock, wall, cpu = Clock(), time.perf_counter(), cpu_seconds()
    yield clock
    clock.seconds, clock.cpu = time.perf_counter() - wall, cpu_seconds() - cpu
