"""Replays a growing `metrics.jsonl` to trackers, from its first line whenever a training is begun or gone on with.

So what a tracker shows is a function of that file: a resumed or killed training neither loses nor doubles a point.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from kd.base.errors import TransientError

# Keys of a line that say where on an axis it is, or belong to no curve.
_AXES = ("split", "update", "epoch", "target_tokens", "seconds", "devices")


@dataclass(frozen=True)
class Subject:
    """A training, as trackers name it."""

    name: str  # stage/task
    project: str  # the recipe
    id: str  # the same however often the training is begun
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """A line of metrics.jsonl."""

    update: int
    values: dict[str, float]  # curve (`train/loss`, `dev/bleu`) -> value
    axes: dict[str, float]  # target_tokens, gpu_hours (of processes, on a CPU), epoch
    time: float  # seconds since 1970


class Tracker(Protocol):
    """What shows a training. It starts empty: whatever an earlier attempt showed of the subject is replaced."""

    def write(self, point: Point) -> None:
        """Shows a point; points come in the order of their updates."""

    def flush(self) -> None:
        """Makes what was written visible."""

    def close(self) -> None:
        """Ends it."""


class Follower:
    """Hands the lines of a file to trackers as they come.

    A tracker that fails, on a full disk for instance, is told of and left alone: no training dies of how it is watched.
    """

    def __init__(self, metrics: Path, opening: Mapping[str, Callable[[], Tracker]]) -> None:
        self._metrics = metrics
        self._opening = dict(opening)
        self._trackers: dict[str, Tracker] = {}
        self._read = 0  # bytes
        self._began: float | None = None  # when it would have begun, had it never been interrupted

    def look(self) -> None:
        """Shows what has come since the last look. The first one starts from the file's beginning."""
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
        except TransientError:  # a signal, which may come at any moment: no fault of the tracker's
            raise
        except Exception as error:
            self._trackers.pop(kind, None)
            why = " ".join(str(error).split()) or type(error).__name__
            print(f"Tracking by {kind} ends here, the training goes on: {why}", flush=True)


def point(entry: Mapping[str, Any], began: float) -> Point:
    """A line of metrics.jsonl as trackers show it; what is not finite there is null, and not shown."""
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
