"""Show the progress of a command that works on files: a bar in a terminal, an occasional line elsewhere."""

from __future__ import annotations

import logging
import threading
import time

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kd.base.text import duration, size

LOG_SECONDS = 30.0  # between two lines where standard error is no terminal
_LOG = logging.getLogger(__name__)


class Bar:
    """A context manager that prints progress and the time left to standard error. Threads may share it.

    Args:
        what: The activity, such as "selecting".
        total: The total number of units.
        unit: Name of a unit; bytes are printed in a suitable unit, such as MB.
    """

    def __init__(self, what: str, total: int, unit: str) -> None:
        console = Console(stderr=True, highlight=False)
        counts = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
        columns = (TextColumn(what), BarColumn(), counts, TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=total)
        self._what, self._total, self._unit, self._done = what, total, unit, 0
        self._began = self._logged = time.monotonic()
        self._lines = not console.is_terminal
        self._lock = threading.Lock()

    def advance(self, units: int) -> None:
        """Add to the number of finished units."""
        with self._lock:
            self._done += units
            self._bar.advance(self._task, units)
            now = time.monotonic()
            if self._lines and now - self._logged > LOG_SECONDS and self._done:
                self._logged = now
                left = duration((self._total - self._done) * (now - self._began) / self._done)
                done, total = map(size if self._unit == "bytes" else "{:,}".format, (self._done, self._total))
                _LOG.info("%s: %s of %s %s, %s left", self._what, done, total, self._unit, left)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
