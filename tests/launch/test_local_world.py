"""How the local launcher gives a task its GPUs and processes: one, or as many as machine.resources says."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.pipeline.model import Task
from tests.launch.chain import Chain

NAMES = ("CUDA_VISIBLE_DEVICES", "KD_GPUS", "KD_PROCESSES")


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int, **settings: object) -> list[list[str]]:
    """Run a stage of so many tasks; return the variables that each was given."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    chain = Chain(folder, {"name": "a", "workers": workers, "steps": 1, "seconds": 0.5})

    def command(task: Task, frozen: str, run: Path) -> list[str]:
        shown = " ".join(f'"${{{name}-none}}"' for name in NAMES)
        script = f'printf "%s\\n" {shown} > {folder}/{task.name}.world; exec "$@"'
        return ["sh", "-c", script, "sh", *chain.command(task, frozen, run)]

    assert chain.launch(command=command, **settings) == []
    return [path.read_text("utf-8").split("\n")[:-1] for path in sorted(folder.glob("*.world"))]


def test_side_by_side_each_has_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(tmp_path, monkeypatch, 2, gpus=2, processes=2)
    assert sorted(found) == [["0", "1", "1"], ["1", "1", "1"]]


def test_a_task_gets_as_many_gpus_as_its_class_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = {"light": {"gpus": 2, "processes": 1}, "train": {"gpus": 4, "processes": 1}}
    found = told(tmp_path, monkeypatch, 2, gpus=4, processes=2, resources=resources)
    assert sorted(found) == [["0,1", "2", "1"], ["2,3", "2", "1"]]


def test_one_that_takes_all_waits_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(tmp_path, monkeypatch, 2, gpus=2, processes=2, resources={"light": {"gpus": 2, "processes": 1}})
    assert found == [["0,1", "2", "1"]] * 2  # one after the other, or they would share


def test_on_a_cpu_it_is_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(tmp_path, monkeypatch, 1, processes=1, resources={"light": {"gpus": 0, "processes": 3}})
    assert found == [["none", "0", "3"]]
