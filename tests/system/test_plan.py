"""`kd plan` and `kd scaling` on the tiny recipe: from a finished run, from a probe, and on two processes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from runs_of_tiny import Workplace

pytestmark = pytest.mark.system


def everything(folder: Path) -> dict[str, float | None]:
    """Return the time of the last change of all files below a folder, except for the hashes of raw files."""
    return {
        str(path): None if path.is_dir() else path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if path.name != ".files.json"
    }


def plan(place: Workplace, cache: Path, *overrides: str) -> dict[str, object]:
    """Return the output of `kd plan --json`."""
    done = subprocess.run(
        [*place.arguments("plan", *overrides), "--json"],
        env={**place.environment, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_finished_run_lacks_nothing_and_gives_the_rates_of_a_longer_one(workplace: Workplace, tmp_path: Path) -> None:
    before = everything(workplace.folder)
    done = plan(workplace, tmp_path)
    assert all(not stage["missing"] for stage in done["stages"])  # type: ignore[attr-defined]
    more = plan(workplace, tmp_path, "teacher.max_update=800", "upto=teacher")
    assert everything(workplace.folder) == before
    teacher = next(stage for stage in more["stages"] if stage["stage"] == "teacher.en-xx")  # type: ignore[attr-defined]
    assert teacher["missing"] == ["member-1", "member-2"]
    assert "run tiny (teacher.en-xx/member-" in teacher["seconds_of_a_task"]["source"]
    assert teacher["work"][0]["amount"]["value"] == 800 * 500
    assert {stage["stage"] for stage in more["stages"] if stage["missing"]} == {"teacher.en-xx"}  # type: ignore[attr-defined]


def test_a_probe_measures_every_stage_and_writes_no_file_into_the_run(finished: Workplace, tmp_path: Path) -> None:
    store, run = tmp_path / "store", tmp_path / "run"
    elsewhere = (f"store.dir={store}", f"run.dir={run}")
    found = plan(finished, tmp_path / "cache", *elsewhere, "--probe")
    assert not run.exists()
    assert everything(store) == {}
    for stage in found["stages"]:  # type: ignore[attr-defined]
        assert stage["seconds_of_a_task"]["value"] is not None, stage["stage"]
        assert "probe on" in stage["seconds_of_a_task"]["source"]
        assert stage["cpu_seconds"] is not None
        assert stage["bytes_kept"]["value"] > 0
    assert found["totals"]["wall_time"]["value"] > 0  # type: ignore[index]
    # What it measured is kept, for the next plan; models of languages are loaded once, however many segments there are.
    cached = [path for path in (tmp_path / "cache").rglob("*.json") if path.name != "model-hashes.json"]
    (kept,) = (json.loads(path.read_text()) for path in cached)
    starts = {each["name"] for each in kept["observations"]}
    assert {"start train", "start evaluate"} <= starts
    again = plan(finished, tmp_path / "cache", *elsewhere)
    assert again["totals"]["wall_time"]["value"] == found["totals"]["wall_time"]["value"]  # type: ignore[index]


def test_two_processes_share_a_training(workplace: Workplace, tmp_path: Path) -> None:
    done = workplace.kd("scaling", "devices=1,2", "updates=8", f"run.dir={tmp_path}/tiny")
    record = json.loads((tmp_path / "tiny.scaling" / "scaling.json").read_text("utf-8"))
    one, two = record["points"]
    assert (one["number"], two["number"], one["speedup"]) == (1, 2, 1.0)
    # The same update, whoever makes it.
    assert two["target_tokens"] == pytest.approx(one["target_tokens"], rel=0.15)
    assert two["efficiency"] == pytest.approx(two["tokens_per_second"] / one["tokens_per_second"] / 2)
    assert (tmp_path / "tiny.scaling" / "scaling.svg").is_file()
    assert "efficiency" in done.stdout
