"""Released models of a finished run: folders for `kd translate`, each with a card of its measured results."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from runs_of_tiny import Workplace

pytestmark = pytest.mark.system

RELEASED = ["student-float32", "student-int8", "teacher-ensemble"]


def test_released_folders_translate_as_the_run_did(finished: Workplace, tmp_path: Path) -> None:
    released = finished.run / "release.en-xx"
    assert sorted(path.name for path in released.iterdir()) == RELEASED
    source = (finished.run / "split" / "all" / "en-xx" / "test.source").read_bytes()
    for name in RELEASED:
        shutil.copytree(released / name, tmp_path / name)  # away from the store
        options = ["--model", str(tmp_path / name), "--max-pieces", "64", "--threads", "1"]
        command = [sys.executable, "-m", "kd", "translate", *options]
        done = subprocess.run(command, input=source, capture_output=True, check=True)
        expected = (finished.run / "translate.en-xx" / name / "test.hypothesis").read_bytes()
        assert done.stdout == expected


def test_cards_state_the_results_that_the_run_measured(finished: Workplace) -> None:
    scores = json.loads((finished.run / "evaluate.en-xx" / "all" / "scores.json").read_text("utf-8"))
    speed = json.loads((finished.run / "speed.en-xx" / "all" / "speed.json").read_text("utf-8"))["systems"]
    assert set(speed) == set(scores["scores"])
    for name in RELEASED:
        card = (finished.run / "release.en-xx" / name / "README.md").read_text("utf-8")
        front = yaml.safe_load(card.split("---\n")[1])
        [result] = front["model-index"][0]["results"]
        assert [metric["value"] for metric in result["metrics"]] == [item["value"] for item in scores["scores"][name]]
        assert all(item["signature"] in card for item in scores["scores"][name])
        assert "leakage guard: **clean**" in card
        assert f"| Inputs that a system … | {name} |" in card
        assert "The licence of made\\_up is not stated." in card
        assert 0 < speed[name]["memory_megabytes"] < speed[name]["process_megabytes"]
    exported = json.loads((finished.run / "export.en-xx" / "student-float32" / "model.json").read_text("utf-8"))
    assert exported["agreement"]["identical"] >= 0.9 * exported["agreement"]["sentences"] > 0
    # The table of positions, a quarter of a megabyte at this width, stays in float32.
    assert speed["student-int8"]["megabytes"] - 0.25 < (speed["student-float32"]["megabytes"] - 0.25) * 0.6
