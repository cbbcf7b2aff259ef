"""How a task tells how far it is: a small file that launchers and `kd status` read, on this machine or another.

What, how far, how fast, how long still; and once a minute in its own log, for whoever reads that later.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from kd.base.files import write_text

MIN_SECONDS = 0.5  # between two writes
LOG_SECONDS = 60.0  # between two lines of the task's log
FOLLOW_EVERY = 1000  # items between two looks at the clock

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """One moment of a task."""

    what: str
    done: float = 0
    total: float | None = None
    unit: str = ""
    per_second: float | None = None
    seconds_left: float | None = None
    notes: dict[str, str] = field(default_factory=dict)  # loss, BLEU …: shown as they are
    said: list[str] = field(default_factory=list)  # what the task told once, since it began

    def line(self) -> str:
        """For people."""
        parts = [self.what]
        if self.total:
            parts.append(f"{self.done:,.0f}/{self.total:,.0f} {self.unit}".rstrip())
        elif self.done:
            parts.append(f"{self.done:,.0f} {self.unit}".rstrip())
        parts += [f"{name} {value}" for name, value in self.notes.items()]
        if self.per_second:
            rate = f"{self.per_second:,.0f}" if self.per_second >= 10 else f"{self.per_second:.2g}"
            parts.append(f"{rate} {self.unit or 'steps'}/s")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join(parts)


class Progress:
    """Where a running task reports to."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written = 0.0
        self._logged = time.monotonic()
        self._began: tuple[str, float, float] | None = None  # what, when, how far it was then
        self._said: list[str] = []

    def say(self, line: str) -> None:
        """Tells something once: in the task's log, and by the launcher to whoever watches the run."""
        print(line, flush=True)
        self._said.append(line)
        self._written = 0.0

    def update(
        self,
        what: str,
        done: float = 0,
        total: float | None = None,
        unit: str = "",
        *,
        per_second: float | None = None,
        seconds_left: float | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Says how far the task is; rate and time left are derived from earlier calls unless given. Cheap to call."""
        now = time.monotonic()
        if self._began is None or self._began[0] != what:
            self._began = (what, now, done)
            self._written = 0.0  # a new phase is told at once
        if self._path is None or (now - self._written < MIN_SECONDS and done != total):
            return
        self._written = now
        _, since, first = self._began
        if per_second is None and now - since > 1 and done > first:
            per_second = (done - first) / (now - since)
        if seconds_left is None and per_second and total is not None:
            seconds_left = max(0.0, (total - done) / per_second)
        snapshot = Snapshot(what, done, total, unit, per_second, seconds_left, dict(notes or {}), self._said)
        with contextlib.suppress(OSError):  # work does not fail because it cannot tell how far it is
            write_text(self._path, json.dumps(asdict(snapshot)), durable=False)
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {snapshot.line()}", flush=True)

    def follow(self, items: Iterable[T], what: str, total: float | None = None, unit: str = "") -> Iterator[T]:
        """Passes items on and says, every now and then, how many have passed."""
        for number, item in enumerate(items, 1):
            yield item
            if number % FOLLOW_EVERY == 0:
                self.update(what, number, total, unit)


def read(path: Path) -> Snapshot | None:
    """The last snapshot at `path`, if there is one."""
    try:
        return Snapshot(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = int(seconds + 0.5)
    for unit, size, next_unit, next_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {unit}" + (f" {rest} {next_unit}" if rest else "")
    return f"{whole} s"
