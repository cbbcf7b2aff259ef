"""The test's own Slurm is one: two nodes with names and addresses of their own, fake GPUs, preemption, accounting.

What the other tests rely on is shown here once, so that a failure there is one of ours and not of the cluster.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slurm_cluster import Cluster
from slurm_daemons import started_at
from slurm_settings import Nodes, Partition, Settings

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("slurm")]


def test_a_job_over_two_nodes_sees_two_hosts_and_their_addresses(slurm: Cluster) -> None:
    said = slurm.cmd("srun", "--nodes=2", "sh", "-c", 'echo "$(hostname) $(getent hosts $(hostname))"').stdout
    named = [line.split() for line in said.split("\n") if line]
    assert {(name, alias) for name, _, alias in named} == {("node1", "node1"), ("node2", "node2")}
    assert len({address for _, address, _ in named}) == 2


def test_fake_gpus_are_allocated(slurm: Cluster) -> None:
    said = slurm.cmd("srun", "--gpus-per-node=1", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES").stdout
    assert said == "0\n"
    refused = slurm.cmd("sbatch", "--test-only", "--gpus-per-node=9", "--wrap=true", check=False)
    assert refused.returncode != 0


def test_a_job_of_a_higher_partition_requeues_a_lower_one(slurm: Cluster) -> None:
    low = slurm.cmd("sbatch", "--parsable", "--nodes=2", "--exclusive", "--requeue", "--wrap=sleep 60").stdout.strip()
    slurm.wait_until(lambda: slurm.job(low)["state"] == "RUNNING", "the first job runs")
    slurm.cmd("srun", "--partition=urgent", "--nodes=2", "--exclusive", "true")
    slurm.wait_until(lambda: "Restarts=1 " in slurm.cmd("scontrol", "show", "job", low).stdout, "it was requeued")
    slurm.cmd("scancel", low)


def test_accounts_are_enforced_and_sacct_answers(tmp_path: Path) -> None:
    settings = Settings(
        nodes=(Nodes(number=1),),
        partitions=(Partition("normal"),),
        accounting=True,
        enforce="associations,limits,qos",
    )
    with Cluster(tmp_path / "slurm", settings) as cluster:
        refused = cluster.cmd("sbatch", "--test-only", "--account=p1", "--wrap=true", check=False)
        assert "Invalid account" in refused.stderr
        cluster.allow("p1", qos=["short"])
        cluster.cmd("sbatch", "--wait", "--account=p1", "--qos=short", "--wrap=exit 7", check=False, timeout=120)
        answer = ["sacct", "--allusers", "--allocations", "--noheader", "--parsable2", "--format=Account,QOS,ExitCode"]
        cluster.wait_until(lambda: "p1|short|7:0" in cluster.cmd(*answer).stdout, "sacct knows of the job")


def test_a_cluster_is_cleaned_up_when_its_owner_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from slurm_cluster import Cluster; from slurm_settings import *\n"
        "Cluster(Path(sys.argv[1]), Settings(nodes=(Nodes(number=1),))).start()\n"
        "print('up', flush=True); time.sleep(99)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "slurm")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == "up\n"
    pids = {int(path.read_text("utf-8")) for path in (tmp_path / "slurm").glob("slurm*.pid")}
    assert len(pids) == 2
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    deadline = time.monotonic() + 60
    while any(started_at(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
