"""Ours against the stock tool: two pieces of work timed in turn within one run, and the ratio pair by pair.

Machines drift by a tenth and more between runs, so single times say little; ratios of neighbours do.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True)
class Comparison:
    """Times of both in seconds, one entry a round."""

    ours: list[float]
    stock: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast ours was, by round."""
        return [stock / ours for ours, stock in zip(self.ours, self.stock, strict=True)]

    def speedup(self) -> str:
        """Median ratio with its range: `12.3 times (11.8 to 12.9, 5 rounds)`."""
        low, middle, high = min(self.ratios), statistics.median(self.ratios), max(self.ratios)
        return f"{middle:.2f} times ({low:.2f} to {high:.2f}, {len(self.ratios)} rounds)"

    def rates(self, items: int, unit: str) -> str:
        """Median items a second of both."""
        ours, stock = (items / statistics.median(times) for times in (self.ours, self.stock))
        return f"ours {ours:,.0f} {unit}/s, stock {stock:,.0f} {unit}/s"


def alternate(ours: Callable[[], object], stock: Callable[[], object], rounds: int = 5) -> Comparison:
    """Time ours, stock, ours, stock …; the first call of each (imports, caches, compilation) is not counted."""
    ours()
    stock()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, measured in zip((ours, stock), times, strict=True):
            start = time.perf_counter()
            work()
            measured.append(time.perf_counter() - start)
    return Comparison(*times)


def heading(title: str) -> str:
    """A line that says what was measured, where and when."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text("utf-8").split("\n") if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return f"{title} ({processor}, Python {platform.python_version()}, {date.today().isoformat()})"
