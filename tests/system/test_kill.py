"""Runs up to select, killed at random moments by SIGKILL to all processes, end with the result of an uninterrupted run.

The teachers' training is in test_training_killed.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from runs_of_tiny import Workplace, new_workplace

from kd.base.hashing import sha256
from tests.moments import random_moments

pytestmark = pytest.mark.system
KILLS = 3


def hashes(place: Workplace, stage: str, pattern: str) -> dict[str, str]:
    """Return the content hashes of the files of a stage's tasks."""
    return {
        str(path.relative_to(place.run)): sha256(path)
        for path in sorted((place.run / stage).glob(f"*/{pattern}"))
        if path.is_file()
    }


def test_killed_runs_end_the_same(finished: Workplace, tmp_path: Path) -> None:
    place = new_workplace(tmp_path)
    for teachers in finished.store.glob("teacher.*"):  # trained already: all around them is to be killed
        shutil.copytree(teachers, place.store / teachers.name)
    moments = random_moments()
    waits = []
    for _ in range(KILLS):
        waits.append(moments.uniform(1.5, 8))
        process = subprocess.Popen(
            place.arguments("run", "upto=select"),
            env=place.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        time.sleep(waits[-1])
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    place.kd("run", "upto=select")
    told = f"killed after {waits} s"
    selected = hashes(place, "select.en-xx", "*.tsv.zst")
    assert selected, told
    assert selected == hashes(finished, "select.en-xx", "*.tsv.zst"), told


def test_finished_tasks_are_not_run_again(finished: Workplace) -> None:
    # An uninterrupted run begins each task once.
    attempts = {
        path: json.loads(path.read_text("utf-8"))["attempts"] for path in finished.run.glob("*/*/manifest.json")
    }
    assert attempts
    assert set(attempts.values()) == {1}
