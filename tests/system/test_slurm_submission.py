"""Submission to a real Slurm: each task once, despite kills; quoting; cancelling; the output of `kd status`."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs_of_tiny import TINY
from slurm_cluster import Cluster
from slurm_place import SlurmPlace, slurm_place
from slurm_settings import Nodes, Settings

from tests.moments import random_moments

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("slurm")]

NASTY = 'it\'s "odd" $(touch hacked) `touch hacked` 50%A;& ä'


@pytest.fixture
def closed(slurm: Cluster) -> Iterator[Cluster]:
    """The cluster with its partition closed: it accepts jobs and starts none."""
    slurm.cmd("scontrol", "update", "PartitionName=normal", "State=DOWN")
    yield slurm
    slurm.cancel_all()
    slurm.cmd("scontrol", "update", "PartitionName=normal", "State=UP")


def elements(here: SlurmPlace) -> Counter[tuple[str, str]]:
    """Return how often each task is queued, by its stage's job name and its number."""
    return Counter((job["name"], job["array"].partition("_")[2]) for job in here.queued())


def test_two_commands_at_once_submit_each_task_once(closed: Cluster, tmp_path: Path) -> None:
    here = slurm_place(tmp_path, closed)
    tasks = len(here.states())
    both = [here.start("run") for _ in range(2)]
    outputs = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert set(elements(here).values()) == {1}
    assert len(here.queued()) == tasks
    assert (
        sorted(f"Submitted {number} tasks" in text for text in outputs for number in (0, tasks))
        == [False] * 2 + [True] * 2
    )


def test_after_a_kill_during_submission_the_next_run_submits_the_rest_once(closed: Cluster, tmp_path: Path) -> None:
    here = slurm_place(tmp_path, closed)
    tasks = len(here.states())
    moments = random_moments()
    told = []
    for _ in range(4):
        process = here.start("run")
        before = len(here.queued())
        # From the first job of its own on: what comes before that is imports.
        while process.poll() is None and len(here.queued()) == before:
            time.sleep(0.05)
        told.append(moments.uniform(0, 0.3))
        time.sleep(told[-1])
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if len(here.queued()) == tasks:
            break
    here.kd("run")
    assert set(elements(here).values()) == {1}, told
    assert len(here.queued()) == tasks, told


def test_special_characters_in_names_and_paths_are_quoted(slurm: Cluster, tmp_path: Path) -> None:
    recipe, folder = tmp_path / f"recipe {NASTY}", tmp_path / f"place {NASTY}"
    recipe.mkdir()
    stage = NASTY.replace("'", "''")
    (recipe / "recipe.yaml").write_text(
        f"""{(TINY / "recipe.yaml").read_text("utf-8")}
chain:
  '{stage}': {{kind: clean, over: pairs, inputs: {{corpus: collect}}, settings: '${{clean}}'}}
machine:
  account: '{stage}'
""",
        "utf-8",
    )
    slurm_place(folder, slurm)
    # Paths that start from where the user stands: Hydra's grammar for what is typed has quotes of its own.
    words = [f"recipe={recipe}", "corpus.root=corpus", "launcher=slurm", "machine=nodes", f"upto={NASTY}.en-xx"]
    done = slurm.cmd(sys.executable, "-m", "kd", "run", *words, cwd=folder)
    run = folder / "runs" / recipe.name
    slurm.wait_until(lambda: not slurm.jobs(), "all jobs are over", 120)
    log = (run / "logs" / f"{NASTY}.en-xx" / "all.log").read_text("utf-8")
    assert (run / f"{NASTY}.en-xx" / "all" / "manifest.json").is_file(), f"{done.stderr}\n{log}"
    (job,) = [job for job in slurm.jobs("--states=all") if job["name"] == f"{recipe.name}:{NASTY}.en-xx"]
    told = slurm.cmd("scontrol", "show", "job", job["id"]).stdout
    assert f"Account={NASTY.lower()}" in told and f"WorkDir={run}" in told
    assert list((run / "slurm" / "output").glob("*.[0-9]*_0.out"))
    assert not [path for place in (tmp_path, slurm.root, Path.cwd()) for path in place.rglob("hacked")]


def test_cancel_ends_the_jobs_of_this_run_only(closed: Cluster, tmp_path: Path) -> None:
    here = slurm_place(tmp_path, closed)
    other = ["split.dev=50", f"run.dir={tmp_path}/runs/other"]
    here.kd("run", "upto=split")
    here.kd("run", "upto=split", *other)
    mine = closed.cmd("sbatch", "--parsable", "--wrap", "true").stdout.strip()
    assert set(here.states().values()) == {"queued", "missing"}
    told = here.kd("cancel").stdout
    assert "Cancelled 3 tasks in 3 jobs" in told
    closed.wait_until(lambda: len(here.queued()) == 4, "the others are left")
    assert mine in {job["id"] for job in here.queued()}
    assert "cancelled" in here.states().values()
    assert "No task of" in here.kd("cancel").stdout
    assert "Submitted 3 tasks" in here.kd("run", "upto=split").stderr
    here.kd("cancel", *other)
    assert "could be removed" not in here.kd("clean").stdout


def test_jobs_after_a_failed_task_are_cancelled_and_status_says_why(slurm: Cluster, tmp_path: Path) -> None:
    here = slurm_place(tmp_path, slurm)
    here.kd("run", "upto=shard", "split.dev=100000")
    here.wait(120)
    told = here.kd("status", "split.dev=100000").stdout
    lines = {line.split()[0]: line for line in told.split("\n") if line.strip()}
    assert " failed " in lines["split"] and "split" in told
    assert "not started, because split/all did not finish" in lines["shard.en-xx"]
    assert "the last lines of" in told and "kd: " in told
    assert "DependencyNeverSatisfied" in {job["reason"] for job in slurm.jobs("--states=all")}
    # Mended, it goes on from there.
    here.kd("run", "upto=shard")
    here.wait(120)
    assert "Nothing to do" in here.kd("run", "upto=shard").stderr


def test_jobs_that_left_the_queue_are_found_in_accounting(tmp_path: Path) -> None:
    settings = Settings(nodes=(Nodes(number=1),), accounting=True, remembered=2)
    with Cluster(tmp_path / "slurm", settings) as cluster:
        cluster.allow("p1")
        cluster.cmd("scontrol", "update", "PartitionName=normal", "State=DOWN")
        here = slurm_place(tmp_path / "place", cluster)
        here.kd("run", "upto=collect", "machine.account=p1")
        (job,) = here.queued()
        array = cluster.cmd("sbatch", "--parsable", "--account=p1", "--array=0-2,5%2", "--wrap=true").stdout.strip()
        cluster.cmd("scancel", job["array"], array)
        cluster.wait_until(lambda: not cluster.jobs("--states=all"), "the queue has forgotten them", 200)
        (told,) = [line for line in here.kd("status").stdout.split("\n") if line.strip().startswith("collect")]
        # Slurm calls it 1 by now: an array whose only element is cancelled before it begins is none any more.
        assert told.split()[2:] == ["cancelled", "job", f"{job['id']}:", "cancelled"]
        look = f"from kd.launch.slurm import client; print([row.name for row in client.accounts([{array!r}])])"
        said = cluster.cmd(sys.executable, "-c", look).stdout.strip()
        assert said == str([f"{array}_{number}" for number in (0, 1, 2, 5)])
