"""The tiny recipe on a real Slurm of two nodes, with the results of the local launcher."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from runs_of_tiny import Workplace
from slurm_cluster import Cluster
from slurm_place import SlurmPlace, slurm_place

from kd.base.hashing import sha256

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("slurm")]


def hashes(place: Workplace, stage: str, pattern: str) -> dict[str, str]:
    """Return the content hashes of the files of a stage's tasks."""
    found = {str(path.relative_to(place.run)): sha256(path) for path in place.run.glob(f"{stage}/*/{pattern}")}
    assert found
    return found


def test_a_whole_run_on_two_nodes_gives_the_results_of_one_computer(
    finished: Workplace, slurm: Cluster, tmp_path: Path
) -> None:
    here = slurm_place(tmp_path, slurm)
    # Found in the store: the control's training is one more of the student's kind.
    shutil.copytree(finished.store / "control.en-xx", here.place.store / "control.en-xx", copy_function=os.link)
    # The nodes have no network here: tasks that may need one run on the login node, before anything is submitted.
    submitted = here.kd("run", "machine.online=false")
    assert "started collect.en-xx" in submitted.stderr
    # All others at once: the last is queued before the first has begun to train.
    assert f"Submitted {len(here.states()) - 2} tasks" in submitted.stderr
    again = here.kd("run")
    assert "Submitted 0 tasks" in again.stderr
    here.wait()
    done = here.kd("run")
    assert "Nothing to do" in done.stderr, here.kd("status").stdout
    for stage, pattern in (
        ("select.en-xx", "*.tsv.zst"),
        ("teacher.en-xx", "model.pt"),
        ("student.en-xx", "model.pt"),
        ("decode.en-xx", "*.nbest.zst"),
    ):
        assert hashes(here.place, stage, pattern) == hashes(finished, stage, pattern)
    manifests = [json.loads(path.read_text("utf-8")) for path in here.place.run.glob("*/*/manifest.json")]
    manifests = [manifest for manifest in manifests if manifest["stage"] != "control.en-xx"]
    assert {manifest["attempts"] for manifest in manifests} == {1}
    assert {manifest["host"] for manifest in manifests} == {"ctl", *slurm.nodes}
    assert [manifest["stage"] for manifest in manifests if manifest["host"] == "ctl"] == ["collect.en-xx"]
    assert set(here.states().values()) == {"done"}
    # Decoding is an array, and each worker's selecting waits for that worker alone.
    waited = {
        record["stage"]: record["dependency"]
        for record in (json.loads(path.read_text("utf-8")) for path in here.place.run.glob("slurm/submissions/*"))
    }
    assert "aftercorr:" in waited["select.en-xx"] and "afterok:" in waited["decode.en-xx"]
    log = (here.place.run / "logs" / "decode.en-xx" / "worker-1.log").read_text("utf-8")
    assert log.startswith("--- ") and "begun on node" in log.split("\n")[0]


def with_data(here: SlurmPlace, finished: Workplace, *stores: str) -> None:
    """Make stores with all inputs of a training and without any training."""
    for name in stores:
        left_out = shutil.ignore_patterns(".*", "teacher.*", "decode.*")
        shutil.copytree(finished.store, here.place.folder / name, copy_function=os.link, ignore=left_out)


def test_without_requeue_a_successor_continues_and_later_jobs_wait_for_it(
    finished: Workplace, slurm: Cluster, tmp_path: Path
) -> None:
    here = slurm_place(tmp_path, slurm)
    with_data(here, finished, "store")
    settings = ["upto=decode", "teacher.members=1", "teacher.max_update=300", "checkpoint.every=50", "decode.share=0.4"]
    here.kd("run", *settings, "machine.requeue=false")
    slurm.wait_until(lambda: list(here.place.store.glob("teacher.*/*/*.partial/**/checkpoint_*.pt")), "it trains", 200)
    (training,) = [job["array"] for job in here.queued() if "teacher" in job["name"]]
    # What Slurm does some time before the limit.
    slurm.cmd("scancel", "--batch", "--signal=USR1", training)
    here.wait()
    log = (here.place.run / "logs" / "teacher.en-xx" / "member-1.log").read_text("utf-8")
    assert f"job {training}: goes on as job " in log
    assert here.manifest("teacher.en-xx/member-1")["attempts"] == 2, log
    trained = (here.place.run / "teacher.en-xx" / "member-1" / "train.log").read_text("utf-8")
    assert "Loaded checkpoint" in trained
    assert "Nothing to do" in here.kd("run", *settings).stderr, here.kd("status", *settings).stdout
    assert here.manifest("decode.en-xx/worker-0")["attempts"] == 1


def test_a_training_over_two_nodes_equals_one_of_two_processes(
    finished: Workplace, slurm: Cluster, tmp_path: Path
) -> None:
    here = slurm_place(tmp_path, slurm)
    with_data(here, finished, "store", "other")
    settings = ["upto=teacher", "teacher.members=1", "teacher.max_update=80", "checkpoint.every=40"]
    here.kd("run", *settings, "machine.resources.train.nodes=2")
    here.wait()
    manifest = here.manifest("teacher.en-xx/member-1")
    log = (here.place.run / "logs" / "teacher.en-xx" / "member-1.log").read_text("utf-8")
    assert (manifest["nodes"], manifest["attempts"]) == (2, 1), log
    # The same on one computer: two processes there give the same weights as one on each of two nodes.
    other = [f"store.dir={tmp_path}/other", f"run.dir={tmp_path}/runs/other"]
    two = ["machine=nodes", "machine.resources.train.processes=2"]
    slurm.cmd(*here.place.arguments("run", *settings, *two, *other), cwd=tmp_path)
    weights = sha256(tmp_path / "runs" / "other" / "teacher.en-xx" / "member-1" / "model.pt")
    assert weights == sha256(here.place.run / "teacher.en-xx" / "member-1" / "model.pt")


def test_a_training_over_two_nodes_ends_on_both_when_it_fails_on_one(
    finished: Workplace, slurm: Cluster, tmp_path: Path
) -> None:
    here = slurm_place(tmp_path, slurm)
    with_data(here, finished, "store")
    settings = ["upto=teacher", "teacher.members=1", "teacher.max_update=2000", "machine.resources.train.nodes=2"]
    here.kd("run", *settings)
    # As the kernel does for want of memory, to the worker on the second node: of those found it is the youngest.
    slurm.wait_until(lambda: len(slurm.processes("node2", "kd.engines.fairseq")) > 1, "its worker is there", 200)
    os.kill(max(slurm.processes("node2", "kd.engines.fairseq")), signal.SIGKILL)
    here.wait(150)
    log = (here.place.run / "logs" / "teacher.en-xx" / "member-1.log").read_text("utf-8")
    assert log.count("begun on node[1-2]") == 1 and "ended with status 1" in log
    assert here.states(*settings)["teacher.en-xx/member-1"] == "failed"
    # The first node fails before it has said to the second what to run: nobody waits ten minutes for that, and what
    # the second says of it does not have it tried again.
    slurm.cmd("scontrol", "update", "PartitionName=normal", "State=DOWN")
    here.kd("run", *settings)
    (encoded,) = here.place.store.glob("encode.en-xx/*/all")
    for path in [path for path in encoded.rglob("*") if path.is_file() and path.name != "manifest.json"]:
        path.unlink()
    slurm.cmd("scontrol", "update", "PartitionName=normal", "State=UP")
    here.wait(150)
    log = (here.place.run / "logs" / "teacher.en-xx" / "member-1.log").read_text("utf-8")
    assert log.count("begun on node[1-2]") == 2 and log.count("ended with status") == 2, log


def test_scaling_over_nodes_is_submitted_and_shown_when_done(
    finished: Workplace, slurm: Cluster, tmp_path: Path
) -> None:
    here = slurm_place(tmp_path, slurm)
    with_data(here, finished, "store")
    asked = ["nodes=1,2", "updates=12"]
    first = here.kd("scaling", *asked).stdout
    assert "Not finished: 1, 2 nodes." in first
    assert {job["name"] for job in here.queued()} <= {"tiny:teacher.en-xx"}  # the first may be through already
    here.wait()
    told = here.kd("scaling", *asked).stdout
    rows = [line.split() for line in told.split("\n") if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["1", "2"], told
    assert rows[0][3:] == ["1.00", "100%"]
    scaling = here.place.folder / "runs" / "tiny.scaling"
    points = json.loads((scaling / "scaling.json").read_text("utf-8"))["points"]
    assert points[1]["speedup"] == points[1]["tokens_per_second"] / points[0]["tokens_per_second"]
    assert points[1]["efficiency"] == points[1]["speedup"] / 2
    manifests = [json.loads(path.read_text("utf-8")) for path in here.place.store.glob("teacher.*/*/*/manifest.json")]
    assert sorted((item["nodes"], item["facts"]["devices"]) for item in manifests) == [(1, 1), (2, 2)]
    assert (scaling / "scaling.svg").is_file()
    assert not here.queued()
