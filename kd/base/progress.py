"""Report the progress of a task in a small file that launchers and `kd status` read, on any machine.

The file holds the phase, the progress, the rate and the time left. Once a minute the same line goes to the task's log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from kd.base.files import DamagedFile, read_object, write_text
from kd.base.text import duration
from kd.base.urls import mask_output

MIN_SECONDS = 0.5  # between two writes
LOG_SECONDS = 60.0  # between two lines of the task's log
FOLLOW_EVERY = 1000  # items between two reports of `Progress.follow`

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """The progress of a task at one moment."""

    what: str  # the phase: training, decoding …
    done: float = 0
    total: float | None = None
    unit: str = ""
    per_second: float | None = None
    seconds_left: float | None = None
    notes: dict[str, str] = field(default_factory=dict)  # loss, BLEU …: shown unchanged
    said: list[str] = field(default_factory=list)  # messages of the task since it started

    def is_valid(self) -> bool:
        """Return whether all values have the right type; a damaged file may still be valid JSON."""
        numbers = (self.done, self.total, self.per_second, self.seconds_left)
        return (
            isinstance(self.what, str)
            and isinstance(self.unit, str)
            and all(value is None or isinstance(value, int | float) for value in numbers)
            and self.done is not None
            and isinstance(self.notes, dict)
            and isinstance(self.said, list)
            and all(isinstance(line, str) for line in self.said)
        )

    def line(self) -> str:
        """Return one line for display."""
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
    """Write the progress of a running task."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written = 0.0
        self._logged = time.monotonic()
        self._began: tuple[str, float, float] | None = None  # phase, its start, how far it was then
        self._said: list[str] = []

    def say(self, line: str) -> None:
        """Write a message to the task's log, and pass it on to the launcher, which prints it as well."""
        _LOG.info("%s", line)
        self._said.append(mask_output(line))
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
        """Report the progress. Rate and time left are derived from earlier calls unless given. Cheap to call."""
        now = time.monotonic()
        if self._began is None or self._began[0] != what:
            self._began = (what, now, done)
            self._written = 0.0  # a new phase is reported at once
        if self._path is None or (now - self._written < MIN_SECONDS and done != total):
            return
        self._written = now
        _, since, first = self._began
        if per_second is None and now - since > 1 and done > first:
            per_second = (done - first) / (now - since)
        if seconds_left is None and per_second and total is not None:
            seconds_left = max(0.0, (total - done) / per_second)
        snapshot = Snapshot(what, done, total, unit, per_second, seconds_left, dict(notes or {}), self._said)
        with contextlib.suppress(OSError):  # a task does not fail because its progress cannot be written
            write_text(self._path, json.dumps(asdict(snapshot)), durable=False)
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            _LOG.info("%s %s", f"{datetime.now():%Y-%m-%d %H:%M:%S}", snapshot.line())

    def follow(self, items: Iterable[T], what: str, total: float | None = None, unit: str = "") -> Iterator[T]:
        """Yield the items, and report from time to time how many were yielded."""
        for number, item in enumerate(items, 1):
            yield item
            if number % FOLLOW_EVERY == 0:
                self.update(what, number, total, unit)


def read(path: Path) -> Snapshot | None:
    """Return the last snapshot at `path`; None if the file is missing or damaged."""
    try:
        snapshot = Snapshot(**read_object(path))
    except (OSError, DamagedFile, TypeError):
        return None
    return snapshot if snapshot.is_valid() else None
