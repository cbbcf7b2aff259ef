"""Each check of `kd doctor` reports a fault with its remedy, and the command exits with 1."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from kd.base.errors import TransientError
from kd.doctor import command, disk, job, reduce, software
from kd.doctor.findings import Finding, error, exit_status, ok, show, warning
from kd.launch.slurm.client import Row
from kd.recipe.schema import MachineConfig, ResourcesConfig


def machine(**facts: object) -> MachineConfig:
    return MachineConfig(name="test", account=None, **{"device": "cpu", "gpus_per_node": 0, **facts})  # type: ignore[arg-type]


def program(folder: Path, name: str, script: str) -> None:
    """A stand-in for a program that is not here, found before any other."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_each_finding_is_a_line_with_its_hint_below(capsys: pytest.CaptureFixture[str]) -> None:
    found = [ok("torch", "2.6"), warning("disk", "3 GB free", "Make room."), error("GPUs", "none", "Ask.")]
    show(found, Console(), "node1: ")
    assert capsys.readouterr().out.split("\n") == [
        "ok      node1: torch: 2.6",
        "warning node1: disk: 3 GB free",
        "        → Make room.",
        "error   node1: GPUs: none",
        "        → Ask.",
        "",
    ]
    assert exit_status(found) == 1
    assert exit_status(found[:2]) == 0


def test_torch_for_another_device_is_an_error() -> None:
    # The lock that tests run with is the CPU one; where pip found no build for the CPU alone, torch is built for CUDA,
    # and its version says which.
    _, _, local = torch.__version__.partition("+")
    cuda = re.fullmatch(r"cu(\d+)(\d)", local)
    built = f"cuda {cuda[1]}.{cuda[2]}" if cuda else "cpu"
    (finding,) = software.torch(machine(device="rocm", gpus_per_node=8), 8)
    assert finding.level == "error"
    assert f"built for {built}; the machine's device is rocm" in finding.message
    assert [item.level for item in software.torch(machine(), 0)] == ["ok"]


def test_a_missing_or_broken_image_is_an_error(programs: Path, tmp_path: Path) -> None:
    program(
        programs,
        "apptainer",
        '[ "$1" = --version ] && echo apptainer version 1.4.2 && exit; echo "no loop" >&2; exit 255',
    )
    assert [item.level for item in software.container(machine())] == ["ok"]
    (absent,) = software.container(machine(container=str(tmp_path / "kd.sif")))
    assert (absent.level, absent.message) == ("error", f"{tmp_path / 'kd.sif'} does not exist")
    (tmp_path / "kd.sif").touch()
    (broken,) = software.container(machine(container=str(tmp_path / "kd.sif")))
    assert broken.level == "error"
    assert broken.message.endswith("no loop")


def test_the_image_is_started_with_the_options_of_tasks(programs: Path, tmp_path: Path) -> None:
    """With the flags as users write them, the folders, and the image's own Python: by the words that a task has."""
    said = tmp_path / "said"
    program(programs, "apptainer", f'[ "$1" = --version ] && exit; printf "%s\\n" "$@" >{said}')
    image = tmp_path / "kd.sif"
    image.touch()
    given = machine(
        container=str(image), container_flags={"nv": True, "rocm": False}, binds={"/scratch": "/s"}, modules={"x": True}
    )
    (started,) = software.container(given, tmp_path)
    assert started.level == "ok"
    words = said.read_text("utf-8").split("\n")
    assert words[:3] == ["--quiet", "exec", "--nv"]
    assert {"/scratch:/s", "PYTHONPATH="} <= set(words)
    assert any(word in (str(tmp_path), *map(str, tmp_path.parents)) for word in words)
    assert words[-3:] == [str(image), "true", ""]
    script = job._script(given, ResourcesConfig(cores=1, hours=1), tmp_path)
    (srun,) = [line for line in script.split("\n") if line.startswith("srun ")]
    assert "apptainer --quiet exec --nv --bind" in srun
    assert f"{image} python -P -m kd.doctor.job {tmp_path}" in srun


def test_a_runtime_from_a_module_is_checked_on_the_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "kd.sif").touch()
    given = {"container": str(tmp_path / "kd.sif")}
    assert [item.level for item in software.container(machine(**given))] == ["error"]
    (found,) = software.container(machine(**given, modules={"singularity-ce/4.1": True}))
    assert (found.level, "a module provides singularity" in found.message) == ("ok", True)


def test_a_quota_that_is_nearly_used_up_is_a_warning(programs: Path, tmp_path: Path) -> None:
    # The line as the Lustre manual has it (lfs-quota): kilobytes, then files, each with its quota, limit and grace.
    program(programs, "lfs", f"echo '{tmp_path} 950000000* 900000000 1000000000 6d23h 1000 0 25000 -'")
    over, files = disk._quota(tmp_path)
    assert (over.level, over.message) == ("warning", "950 of 900 GB are used")
    assert (files.level, files.message) == ("ok", "1,000 of 25,000 files are used")


def test_a_nearly_full_or_slow_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "ENOUGH", 1e18)
    assert disk.room(tmp_path)[0].level == "warning"
    monkeypatch.setattr(disk, "TOO_LITTLE", 1e18)
    assert disk.room(tmp_path)[0].level == "error"
    monkeypatch.setattr(disk, "SLOW", 1e15)
    assert disk.speed(tmp_path)[0].level == "warning"
    assert not list(tmp_path.iterdir())


def test_locks_that_do_not_hold_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [item.level for item in disk.locks(tmp_path)] == ["ok"]

    def overwrite(source: Path, target: Path) -> None:  # a file system whose link() does not mind an existing name
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr("kd.base.lease.os.link", overwrite)
    assert [item.level for item in disk.locks(tmp_path)] == ["error"]


def test_a_race_for_locks_has_one_winner_each(tmp_path: Path) -> None:
    first, second = disk.race(tmp_path), disk.race(tmp_path)
    assert (len(first), second) == (disk.LOCKS, [])
    assert disk.judge([first, second]).level == "ok"
    assert disk.judge([first, [3]]).message == "a lock was granted twice"
    assert disk.judge([first[1:], []]).message == "a lock was granted to neither node"


def test_workers_that_cannot_connect_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    (finding,) = reduce.over(1, 0, 2, "127.0.0.1:29431", "cpu")
    assert finding.level == "error"
    assert "machine.environment.GLOO_SOCKET_IFNAME" in finding.hint


def test_the_command_reports_no_error_on_this_computer(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kd", "doctor"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    subjects = [line.split()[1].rstrip(":") for line in done.stdout.split("\n")[1:] if line and line[0] != " "]
    assert subjects == ["disk", "writing", "locks", "container", "torch", "fairseq", "all-reduce"]
    assert not list(tmp_path.iterdir())


def test_the_job_requests_the_resources_of_trainings(tmp_path: Path) -> None:
    wanted = ResourcesConfig(cores=4, gpus=2, memory=30.5, hours=1, partition="gpu")
    script = job._script(machine(), wanted, tmp_path)
    for asked in ("cpus-per-task=4", "gres=gpu:2", "mem=30500M", "partition=gpu"):
        assert f"#SBATCH --{asked}\n" in script
    assert "--mem" not in job._script(machine(), ResourcesConfig(cores=1, hours=1), tmp_path)


def test_a_controller_that_times_out_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[list[Row] | TransientError] = [
        *([Row("7", -1, "RUNNING")], TransientError("squeue: timed out."), [Row("7", -1, "COMPLETED")])
    ]

    def queue() -> list[Row]:
        answer = answers.pop(0)
        if isinstance(answer, TransientError):
            raise answer
        return answer

    told: list[str] = []
    monkeypatch.setattr(job.client, "queue", queue)
    monkeypatch.setattr(job, "POLL_SECONDS", 0.0)
    job._wait("7", told.append)
    assert answers == [] and told == ["  running", "  squeue: timed out."]


def test_a_folder_that_cannot_be_written_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError

    monkeypatch.setattr(command.tempfile, "mkdtemp", refuse)
    (finding,) = command._of_the_nodes(machine(), tmp_path, Console())
    assert finding.level == "error" and str(tmp_path) in finding.message


def test_findings_are_unchanged_by_json() -> None:
    from dataclasses import asdict

    finding = warning("disk", "full", "Make room.")
    assert Finding(**asdict(finding)) == finding
