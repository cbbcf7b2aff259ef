"""Record the attempts at a task, beside its output: start, duration and progress of each.

Add up the time of all attempts, and detect a task that makes no progress across retries.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any

from kd.base import progress, usage
from kd.base.files import DamagedFile, read_json, write_json
from kd.base.lease import Lease
from kd.pipeline.store import ArtifactPaths

SUBMISSION = "KD_SUBMISSION"  # variable: the submission whose jobs retry a task
STUCK_AFTER = 2  # attempts in a row without progress

Attempt = dict[str, Any]


def note(paths: ArtifactPaths, held: Lease, started: float) -> list[Attempt]:
    """Record a new attempt; returns all attempts, this one last.

    An attempt that was killed lasted until the last heartbeat of its lease.
    """
    attempts = _read(paths)
    if held.abandoned and attempts and "seconds" not in attempts[-1]:
        attempts[-1]["seconds"] = max(0.0, held.abandoned.last_seen - attempts[-1]["started"])
    attempts.append({"started": started, "cpu_before": usage.cpu_seconds()})
    if os.environ.get(SUBMISSION):
        attempts[-1]["submission"] = os.environ[SUBMISSION]
    write_json(paths.attempts, attempts)
    return attempts


def end(paths: ArtifactPaths, *, counts: bool) -> None:
    """Record that the last attempt ended without a result and, if it `counts`, its progress."""
    with contextlib.suppress(OSError, LookupError):
        attempts = _read(paths)
        set_times(attempts[-1])
        snapshot = progress.read(paths.progress)
        if counts and snapshot is not None:
            attempts[-1]["reached"] = [snapshot.what, snapshot.done]
        write_json(paths.attempts, attempts)


def set_times(attempt: Attempt) -> None:
    """Set the times of an attempt that ends now."""
    attempt["seconds"] = time.time() - attempt["started"]
    attempt["cpu_seconds"] = usage.cpu_seconds() - attempt["cpu_before"]


def cpu_seconds(attempts: Sequence[Attempt]) -> float | None:
    """Return the CPU seconds of all attempts; None if one was killed, since its usage is unknown."""
    if any("cpu_seconds" not in attempt for attempt in attempts):
        return None
    return round(sum(attempt["cpu_seconds"] for attempt in attempts), 3)


def is_stuck(paths: ArtifactPaths, *, resumable: bool) -> bool:
    """Return whether none of the last attempts of this submission got further than an earlier one.

    Attempts ended by a node failure or preemption do not count. A task that is not resumable starts from the beginning
    each time, so further attempts make no progress.
    """
    mine = os.environ.get(SUBMISSION)
    if not mine:
        return False
    best: dict[str, float] = {}
    fruitless = 0
    for attempt in _read(paths):
        if attempt.get("submission") != mine or "reached" not in attempt:
            continue
        what, done = attempt["reached"]
        further = resumable and done > best.get(what, 0)
        fruitless = 0 if further else fruitless + 1
        best[what] = max(done, best.get(what, 0))
    return fruitless >= STUCK_AFTER


def _read(paths: ArtifactPaths) -> list[Attempt]:
    try:
        found = read_json(paths.attempts)
    except (FileNotFoundError, DamagedFile):
        return []
    return found if isinstance(found, list) and all(_is_attempt(each) for each in found) else []


def _is_attempt(value: Any) -> bool:
    """Return whether a value has the form of an attempt; the file may be damaged."""
    if not isinstance(value, dict) or not isinstance(value.get("started"), int | float):
        return False
    reached = value.get("reached", ["", 0])
    times = (value.get(key, 0.0) for key in ("seconds", "cpu_seconds", "cpu_before"))
    if not isinstance(value.get("cpu_before"), int | float) or not all(isinstance(each, int | float) for each in times):
        return False
    return (
        isinstance(reached, list)
        and len(reached) == 2
        and isinstance(reached[0], str)
        and isinstance(reached[1], int | float)
    )
