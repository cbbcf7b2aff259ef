"""`kd doctor` on the login node of a real Slurm, with a job over two nodes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from slurm_cluster import Cluster

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("slurm")]

MACHINE = """\
name: two_nodes
device: cpu
gpus_per_node: 0
account: null
resources:
  train: {cores: 1, memory: 1, hours: 1}
"""


def doctor(cluster: Cluster, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `kd doctor` beside a machine file."""
    machines = folder / "conf" / "machine"
    machines.mkdir(parents=True)
    (machines / "two_nodes.yaml").write_text(MACHINE, "utf-8")
    command = [sys.executable, "-m", "kd", "doctor", "machine=two_nodes", "launcher=slurm", *more]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return cluster.cmd(*command, environment=environment, cwd=folder, check=False)


def test_two_working_nodes_pass(slurm: Cluster, tmp_path: Path) -> None:
    done = doctor(slurm, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.split("\n") if line.startswith(("ok", "warning", "error"))]
    for wanted in (
        *("ok      node1: torch: ", "ok      node2: torch: ", "ok      node1: fairseq: ", "ok      node2: fairseq: "),
        *("ok      job: ran on node1 and node2", "ok      locks between nodes: each of 20 locks was granted once"),
        "ok      node1: all-reduce by gloo over 2 nodes with 1 each: ",
    ):
        assert any(line.startswith(wanted) for line in lines), f"{wanted}\n{done.stdout}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf"], "it leaves nothing behind"


def test_nodes_that_cannot_reach_each_other_are_reported(slurm: Cluster, tmp_path: Path) -> None:
    done = doctor(slurm, tmp_path, "+machine.environment.GLOO_SOCKET_IFNAME=nosuch0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error   node1: all-reduce by gloo over 2 nodes" in done.stdout
    assert "machine.environment.GLOO_SOCKET_IFNAME" in done.stdout


def test_a_job_that_slurm_refuses_is_reported(slurm: Cluster, tmp_path: Path) -> None:
    done = doctor(slurm, tmp_path, "machine.resources.train.partition=nosuch")
    assert done.returncode == 1
    assert "error   job: sbatch: " in done.stdout
    assert "invalid partition specified: nosuch" in done.stdout
