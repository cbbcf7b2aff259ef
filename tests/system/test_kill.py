"""A run killed at random moments, by SIGKILL to all its processes, ends as one that was never interrupted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from runs_of_tiny import Workplace, new_workplace

from kd.pipeline.hashing import sha256

# One worker for all that look at the finished run, so that it is made once.
pytestmark = [pytest.mark.system, pytest.mark.xdist_group("tiny")]
KILLS = 6


def hashes(place: Workplace, stage: str, pattern: str) -> dict[str, str]:
    """Content hashes of the files of a stage's tasks."""
    return {
        str(path.relative_to(place.run)): sha256(path)
        for path in sorted((place.run / stage).glob(f"*/{pattern}"))
        if path.is_file()
    }


def test_killed_runs_end_the_same(finished: Workplace, tmp_path: Path) -> None:
    place = new_workplace(tmp_path)
    moments = random.Random(time.time_ns())
    waits = []
    for _ in range(KILLS):
        waits.append(moments.uniform(2, 20))
        process = subprocess.Popen(
            place.arguments("run"), env=place.environment, start_new_session=True, stdout=subprocess.DEVNULL
        )
        time.sleep(waits[-1])
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    place.kd("run")
    told = f"killed after {waits} s"
    selected = hashes(place, "select.en-xx", "*.target.zst")
    assert selected, told
    assert selected == hashes(finished, "select.en-xx", "*.target.zst"), told
    weights = hashes(place, "student.en-xx", "model.pt")
    assert weights, told
    assert weights == hashes(finished, "student.en-xx", "model.pt"), told


def test_finished_tasks_are_not_run_again(finished: Workplace) -> None:
    # An uninterrupted run begins each task once.
    attempts = {
        path: json.loads(path.read_text("utf-8"))["attempts"] for path in finished.run.glob("*/*/manifest.json")
    }
    assert attempts
    assert set(attempts.values()) == {1}
