"""Clocks for a probe: seconds and CPU seconds of a piece of work, and what importing heavy packages takes.

CPU seconds hold where other work shares the machine; seconds do not.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from kd.base.usage import cpu_seconds

# What a task of a kind imports when it begins: in its own process that is time, in this one it is done before.
IMPORTS = {
    "train": ("torch", "fairseq"),
    "search": ("torch", "fairseq"),
    "decode": ("torch", "fairseq"),
    "translate": ("torch", "fairseq"),
    "speed": ("torch", "fairseq", "ctranslate2"),
    "export": ("torch", "fairseq", "ctranslate2"),
    "given_models": ("torch", "fairseq"),
    "select": ("numba",),
    "report": ("vl_convert",),
}


def import_times() -> dict[str, Clock]:
    """Seconds that each heavy package takes to import, in an order in which none brings another along unseen."""
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
    """What something took."""

    seconds: float = 0.0
    cpu: float = 0.0


@contextlib.contextmanager
def timed() -> Iterator[Clock]:
    """Seconds and CPU seconds of what runs inside, its processes included."""
    clock, wall, cpu = Clock(), time.perf_counter(), cpu_seconds()
    yield clock
    clock.seconds, clock.cpu = time.perf_counter() - wall, cpu_seconds() - cpu
