"""A small search: killed and resumed, evaluated, a shape chosen, and the student trained in that shape."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from runs_of_tiny import Workplace

pytestmark = pytest.mark.system
CELLS = ["1-1-64-best-seed1", "1-2-64-best-seed1", "1-3-64-best-seed1"]


@dataclass(frozen=True)
class Searched:
    """A search that was killed once and then ran to its end."""

    place: Workplace
    before: dict[str, float]  # artifacts, and when they were written, at the moment of the kill


def artifacts(place: Workplace) -> dict[str, float]:
    """Return the complete artifacts: a task may be killed between its manifest and its final name."""
    return {name: written for name, written in place.published().items() if not name.endswith(".partial")}


@pytest.fixture(scope="module")
def searched(finished: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Start from the artifacts of the tiny recipe, up to its selection."""
    folder = finished.copy(tmp_path_factory.mktemp("searched") / "workplace").folder
    shutil.rmtree(folder / "runs")
    place = Workplace(folder, Path(__file__).parent / "tiny_search")
    process = subprocess.Popen(
        place.arguments("run", "upto=search"), env=place.environment, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not any(name.startswith("search.") for name in artifacts(place)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = artifacts(place)
    place.kd("run")
    return Searched(place, before)


def manifest(searched: Searched, stage: str, task: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((searched.place.run / stage / task / "manifest.json").read_text("utf-8"))
    return found


def test_a_killed_search_repeats_no_finished_cell(searched: Searched) -> None:
    after = artifacts(searched.place)
    assert searched.before.items() <= after.items()
    cells = {name.rpartition("/")[2]: name for name in after if name.startswith("search.en-xx/")}
    assert sorted(cells) == CELLS
    done = [name for name in CELLS if cells[name] in searched.before]
    assert 1 <= len(done) < len(CELLS)
    attempts = {name: manifest(searched, "search.en-xx", name)["attempts"] for name in CELLS}
    assert all(attempts[name] == 1 for name in done)
    assert all(attempts[name] <= 2 for name in CELLS)
    assert {manifest(searched, "search.en-xx", name)["counts"]["updates"] for name in CELLS} == {20}


def test_cells_are_evaluated_on_dev_and_systems_on_test(searched: Searched) -> None:
    split = searched.place.run / "split" / "all" / "en-xx"
    sets = {}
    for use in ("dev", "test"):
        sets[use] = (split / f"{use}.source").read_text("utf-8")
    assert sets["dev"] != sets["test"]
    chosen = json.loads((searched.place.run / "choose.en-xx" / "all" / "chosen.json").read_text("utf-8"))
    assert chosen["held_out"] == "en-xx dev, 60 segments"
    for name in CELLS:
        settings = manifest(searched, "search_translate.en-xx", f"search-{name}-int8")["settings"]
        assert settings["set"] == "dev"
    assert manifest(searched, "translate.en-xx", "student")["settings"]["set"] == "test"


def test_student_and_control_have_the_shape_that_the_rule_chose(searched: Searched) -> None:
    chosen = json.loads((searched.place.run / "choose.en-xx" / "all" / "chosen.json").read_text("utf-8"))
    # Any loss is allowed here: the fastest.
    speeds = {cell["name"]: cell["forms"][0]["sentences_per_second"] for cell in chosen["cells"]}
    assert len(speeds) == 3
    assert chosen["chosen"]["name"] == max(speeds, key=lambda name: speeds[name])
    cell = manifest(searched, "search.en-xx", f"{chosen['chosen']['name']}-seed1")
    for stage in ("student.en-xx", "control.en-xx"):
        trained = manifest(searched, stage, "member-1")
        assert trained["facts"]["parameters"] == cell["facts"]["parameters"]
        assert trained["counts"]["updates"] == 40
    log = (searched.place.run / "logs" / "student.en-xx" / "member-1.log").read_text("utf-8")
    assert f"{chosen['chosen']['shape']} on best, as the search chose" in log


def test_the_report_has_the_table_and_the_figure_of_the_search(searched: Searched) -> None:
    folder = searched.place.run / "report" / "all"
    assert '<section id="search">' in (folder / "index.html").read_text("utf-8")
    rows = [line for line in (folder / "search.md").read_text("utf-8").split("\n") if line.startswith("| ")]
    assert len(rows) == 2 + len(CELLS)
    assert "\\begin{tabular}" in (folder / "search.tex").read_text("utf-8")
    assert (folder / "figures" / "search-1.svg").stat().st_size > 1000


def test_a_second_run_does_nothing(searched: Searched, tmp_path: Path) -> None:
    assert "Nothing to do" in searched.place.copy(tmp_path / "workplace").kd("run").stderr
