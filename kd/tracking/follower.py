"""Replay a growing `metrics.jsonl` to trackers, from the first line each time a training starts or resumes.

The curves are a function of that file alone, so a training that was killed neither loses nor repeats a point.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from kd.base.errors import TransientError

_LOG = logging.getLogger(__name__)
# Keys of a line that are positions on an axis, or belong to no curve.
_AXES = ("split", "update", "epoch", "target_tokens", "seconds", "devices")


@dataclass(frozen=True)
class Subject:
    """A training's identity in trackers."""

    name: str  # stage/task
    project: str  # the recipe
    id: str  # the same for all attempts at the training
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """A line of metrics.jsonl."""

    update: int
    values: dict[str, float]  # curve (`train/loss`, `dev/bleu`) -> value
    axes: dict[str, float]  # target_tokens, gpu_hours (of processes, on a CPU), epoch
    time: float  # seconds since 1970


class Tracker(Protocol):
    """The interface of a tracker of one training. It starts empty: curves of earlier attempts are replaced."""

    def write(self, point: Point) -> None:
        """Add a point; points come in the order of their updates."""

    def flush(self) -> None:
        """Make all points visible."""

    def close(self) -> None:
        """Close the tracker."""


class Follower:
    """Pass the lines of a file to trackers as they are written.

    A tracker that fails, on a full disk for instance, is reported once and dropped: the training continues.
    """

    def __init__(self, metrics: Path, opening: Mapping[str, Callable[[], Tracker]]) -> None:
        self._metrics = metrics
        self._opening = dict(opening)
        self._trackers: dict[str, Tracker] = {}
        self._read = 0  # bytes
        self._began: float | None = None  # when the training would have started, had it never been interrupted

    def look(self) -> None:
        """Pass on the lines that were added since the last call. The first call starts at the beginning of the file."""
        for kind, open_tracker in self._opening.items():
            self._safely(kind, partial(self._open, kind, open_tracker))
        self._opening = {}
        if not self._trackers:
            return
        points = list(self._points())
        for kind, tracker in list(self._trackers.items()):
            self._safely(kind, partial(_write, tracker, points))

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, tracker in list(self._trackers.items()):
            self._safely(name, tracker.close)

    def _open(self, kind: str, open_tracker: Callable[[], Tracker]) -> None:
        self._trackers[kind] = open_tracker()

    def _points(self) -> Iterator[Point]:
        if not self._metrics.is_file():
            return
        with self._metrics.open("rb") as file:
            file.seek(self._read)
            lines = [line for line in file if line.endswith(b"\n")]
        self._read += sum(map(len, lines))
        entries = [json.loads(line) for line in lines]
        if entries and self._began is None:
            self._began = time.time() - float(entries[-1]["seconds"])
        yield from (point(entry, self._began or 0.0) for entry in entries)

    def _safely(self, kind: str, action: Callable[[], object]) -> None:
        try:
            action()
        except TransientError:  # a signal, which may come at any moment; the tracker has not failed
            raise
        except Exception as error:
            self._trackers.pop(kind, None)
            why = " ".join(str(error).split()) or type(error).__name__
            _LOG.warning("Tracking by %s stops here, but the training continues: %s", kind, why)


def point(entry: Mapping[str, Any], began: float) -> Point:
    """Convert a line of metrics.jsonl to a point; values that were not finite are null there, and left out."""
    values = {
        f"{entry['split']}/{name}": float(value)
        for name, value in entry.items()
        if name not in _AXES and value is not None
    }
    axes = {
        "target_tokens": float(entry["target_tokens"]),
        "gpu_hours": entry["seconds"] * entry["devices"] / 3600,
        "epoch": float(entry["epoch"]),
    }
    return Point(int(entry["update"]), values, axes, began + entry["seconds"])


def _write(tracker: Tracker, points: list[Point]) -> None:
    for each in points:
        tracker.write(each)
    if points:
        tracker.flush()
