"""The attempts at a task: when each began, how long it lived and how far it came, beside the task's place in the store.

So the time that a task took is all of them together, and one that comes no further however often it is begun is known.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from typing import Any

from kd.base import progress, usage
from kd.base.files import write_json
from kd.base.lease import Lease
from kd.pipeline.store import ArtifactPaths

SUBMISSION = "KD_SUBMISSION"  # variable: the submission whose jobs begin a task again and again
IN_VAIN = 2  # attempts in a row that came no further, after which another is of no use

Attempt = dict[str, Any]


def note(paths: ArtifactPaths, held: Lease, started: float) -> list[Attempt]:
    """All attempts so far, this one last; one that was killed lived until its lease's last sign of life."""
    attempts = _read(paths)
    if held.abandoned and attempts and "seconds" not in attempts[-1]:
        attempts[-1]["seconds"] = max(0.0, held.abandoned.last_seen - attempts[-1]["started"])
    attempts.append({"started": started, "cpu_before": usage.cpu_seconds()})
    if os.environ.get(SUBMISSION):
        attempts[-1]["submission"] = os.environ[SUBMISSION]
    write_json(paths.attempts, attempts)
    return attempts


def end(paths: ArtifactPaths, *, telling: bool) -> None:
    """Takes down that the last attempt ended without a result, when and, if that tells something, how far it came."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        attempts = _read(paths)
        take_down(attempts[-1])
        snapshot = progress.read(paths.progress)
        if telling and snapshot is not None:
            attempts[-1]["reached"] = [snapshot.what, snapshot.done]
        write_json(paths.attempts, attempts)


def take_down(attempt: Attempt) -> None:
    """Notes what an attempt that ends here and now has taken."""
    attempt["seconds"] = time.time() - attempt["started"]
    attempt["cpu_seconds"] = usage.cpu_seconds() - attempt["cpu_before"]


def cpu_seconds(attempts: Sequence[Attempt]) -> float | None:
    """CPU seconds of all attempts together; None where one was killed, as nobody knows what that one used."""
    if any("cpu_seconds" not in attempt for attempt in attempts):
        return None
    return round(sum(attempt["cpu_seconds"] for attempt in attempts), 3)


def in_vain(paths: ArtifactPaths, *, resumable: bool) -> bool:
    """Whether the last attempts of this submission each ended no further than one before them.

    Those that were killed, by a node that failed, or had to give way to more urgent work tell nothing of it. What is
    not resumable begins anew each time and so comes no further by being begun again.
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
    return fruitless >= IN_VAIN


def _read(paths: ArtifactPaths) -> list[Attempt]:
    try:
        found = json.loads(paths.attempts.read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # what a disk has spoilt may be no text at all
        return []
    return found if isinstance(found, list) and all(isinstance(each, dict) for each in found) else []
