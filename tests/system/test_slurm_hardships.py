"""Hardships of real clusters, by small jobs: nothing finished is lost, and no task is queued twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Cluster
from slurm_place import SlurmPlace, slurm_place

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("slurm")]

# As wrappers of some sites: a banner on standard output, and a limit of the jobs that a user may have in the queue.
SBATCH = """\
#!/bin/bash
echo -----------------------------------------------------------------
echo '          Welcome to the Supercomputer, node 7'
if [ "$(squeue --noheader --array | wc -l)" -ge 2 ]; then
    echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2
    echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)' >&2
    exit 1
fi
exec {sbatch} "$@"
"""


def close(cluster: Cluster) -> None:
    """Let jobs wait."""
    cluster.cmd("scontrol", "update", "PartitionName=normal", "State=DOWN")


def open_again(cluster: Cluster) -> None:
    """Let jobs start."""
    cluster.cmd("scontrol", "update", "PartitionName=normal", "State=UP")


@pytest.fixture(autouse=True)
def opened(slurm: Cluster) -> Iterator[None]:
    """Open the partition at the end, for the next test."""
    yield
    open_again(slurm)


def test_a_wrapped_sbatch_a_limit_of_jobs_and_a_removed_run_folder(slurm: Cluster, tmp_path: Path) -> None:
    here = slurm_place(tmp_path, slurm)
    wrapper = tmp_path / "bin" / "sbatch"
    wrapper.parent.mkdir()
    wrapper.write_text(SBATCH.format(sbatch=shutil.which("sbatch")), "utf-8")
    wrapper.chmod(0o755)
    close(slurm)
    words = here.arguments("run", "upto=split", "+machine.resources.light.options.exclude=node2")
    path = f"{wrapper.parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    done = slurm.cmd(*words, cwd=tmp_path, check=False, environment={"PATH": path})
    assert done.returncode == 75, done.stderr
    assert "AssocMaxSubmitJobLimit" in done.stderr and "Not submitted yet: 1 task." in done.stderr
    first, second = here.queued()
    records = [json.loads(file.read_text("utf-8")) for file in here.place.run.glob("slurm/submissions/*.json")]
    assert {record["job"] for record in records} == {first["array"].split("_")[0], second["array"].split("_")[0]}
    excluded = [slurm.cmd("scontrol", "show", "job", job["id"]).stdout for job in (first, second)]
    assert any("ExcNodeList=node2" in text for text in excluded)
    shutil.rmtree(here.place.run)
    assert "Cancelled 2 tasks in 2 jobs" in here.kd("cancel").stdout
    slurm.wait_until(lambda: not here.queued(), "the jobs are gone")


def test_a_login_node_without_a_container_runtime_collects_outside_the_image(slurm: Cluster, tmp_path: Path) -> None:
    here = slurm_place(tmp_path, slurm)
    (tmp_path / "kd.sif").touch()
    image = [f"machine.container={tmp_path}/kd.sif", "+machine.modules={Apptainer/1.2.4-GCCcore-12.3.0: true}"]
    words = here.arguments("run", "upto=collect", "machine.online=false", *image)
    done = slurm.cmd(*words, cwd=tmp_path, environment={"PATH": "/usr/bin:/bin"})
    assert "done    collect.en-xx" in done.stderr and "Submitted 0 tasks" in done.stderr
    assert here.manifest("collect.en-xx/made_up")["task"] == "made_up"


def finish(here: SlurmPlace, *settings: str) -> None:
    """Run the rest, and see that nothing is left to do."""
    here.kd("run", *settings)
    here.wait(120)
    assert "Nothing to do" in here.kd("run", *settings).stderr, here.kd("status", *settings).stdout


def test_a_store_that_is_moved_and_a_kd_that_is_upgraded_while_jobs_are_queued(slurm: Cluster, tmp_path: Path) -> None:
    long = tmp_path / "/".join(["a-folder-whose-name-is-of-fifty-characters-exactly"] * 4)
    assert len(str(long)) > 200
    here = slurm_place(long, slurm)
    finish(here, "upto=collect")
    collected = here.place.published()
    close(slurm)
    here.kd("run", "upto=clean")
    here.place.store.rename(here.place.folder / "moved")
    open_again(slurm)
    here.wait(120)
    # The queued job has the old path; it makes no second store full of empty artifacts.
    assert not list(here.place.store.glob("clean*/*/*/manifest.json"))
    moved = f"store.dir={here.place.folder}/moved"
    close(slurm)
    here.kd("run", "upto=clean", moved)
    # As after an upgrade: what is queued was planned by a kd whose kinds had other versions.
    newest = max((here.place.run / "configs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    frozen = json.loads(newest.read_text("utf-8"))
    frozen["stages"]["clean.en-xx"]["version"] += 1
    newest.write_text(json.dumps(frozen), "utf-8")
    open_again(slurm)
    here.wait(120)
    told = here.kd("status", "upto=clean", moved).stdout
    assert "kd has changed since clean.en-xx was planned. Plan it again by `kd run`." in told
    newest.unlink()
    finish(here, "upto=clean", moved)
    assert {path.name for path in (here.place.folder / "moved").glob("collect*/*/*") if path.is_dir()} == {"made_up"}
    assert len(collected) == 1
