"""Runs inside an image give what they give outside; a signal of Slurm's reaches the Python inside on every node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from container_runtime import kd, path_with_apptainer
from runs_of_tiny import TINY, Workplace
from slurm_cluster import Cluster

from kd.launch import container

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("tiny")]


@pytest.fixture(scope="module")
def run_inside(image: Path, finished: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace where the tiny recipe has run in the image, on the corpus of the one that ran outside."""
    folder = tmp_path_factory.mktemp("inside")
    place = Workplace(folder)
    corpus = finished.folder / "corpus"
    kd("run", f"recipe={TINY}", *settings(place, corpus, image), path=path_with_apptainer(), cwd=folder)
    return place


def settings(place: Workplace, corpus: Path, image: Path) -> list[str]:
    """The overrides of a run inside."""
    return [f"corpus.root={corpus}", f"run.dir={place.run}", f"store.dir={place.store}", f"machine.container={image}"]


def manifests(place: Workplace) -> dict[str, dict[str, object]]:
    """Stage, fingerprint and task -> manifest."""
    found = place.store.glob("[!.]*/*/*/manifest.json")
    return {str(path.parent.relative_to(place.store)): json.loads(path.read_text("utf-8")) for path in found}


def test_every_task_gave_what_it_gives_outside(run_inside: Workplace, finished: Workplace) -> None:
    inside, outside = manifests(run_inside), manifests(finished)
    assert inside.keys() <= outside.keys()  # other tests may have put more into the finished one
    assert len({name.split("/")[0] for name in inside}) > 12
    # Text, ids and scores of what was cleaned, decoded, selected and translated, to the last bit.
    for name in inside:
        if name.split("/")[0].split(".")[0] in (
            "clean",
            "shard",
            "vocabulary",
            "encode",
            "decode",
            "select",
            "translate",
        ):
            assert inside[name]["files"] == outside[name]["files"], name
    scores = [
        json.loads((place.run / "report" / "all" / "report.json").read_text("utf-8"))["systems"]
        for place in (run_inside, finished)
    ]
    assert [[(row["name"], row["scores"]) for row in rows] for rows in scores[:1]] == [
        [(row["name"], row["scores"]) for row in rows] for rows in scores[1:]
    ]


def test_manifests_say_which_image_by_digest(run_inside: Workplace, image: Path, finished: Workplace) -> None:
    digest = subprocess.check_output(["sha256sum", str(image)], text=True).split()[0]
    for manifest in manifests(run_inside).values():
        assert manifest["container"] == {"path": str(image), "sha256": digest}
    assert {str(manifest["container"]) for manifest in manifests(finished).values()} == {"None"}


def test_caches_of_libraries_are_in_the_runs_folder(run_inside: Workplace) -> None:
    assert list((run_inside.run / "cache").glob("numba/**/*.nbc"))


def test_status_remarks_another_image_with_other_versions(
    run_inside: Workplace, finished: Workplace, image: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.sif"
    other.write_bytes(b"another image")
    record = json.loads(Path(f"{image}.json").read_text("utf-8"))
    record["versions"]["torch"] = "9.9.9"
    Path(f"{other}.json").write_text(json.dumps(record))

    def status(of: Path) -> list[str]:
        given = settings(run_inside, finished.folder / "corpus", of)
        said = kd("status", f"recipe={TINY}", *given, path=path_with_apptainer(), cwd=tmp_path).stdout
        return [line for line in said.split("\n") if " done " in line]

    assert status(image)
    assert not [line for line in status(image) if "made in" in line]
    lines = status(other)
    assert len(lines) == len(status(image))
    assert all("torch" in line and "instead of 9.9.9" in line for line in lines)


WAIT_FOR_SIGNAL = """
import os, pathlib, signal, socket, sys
def save(number, frame):
    place = pathlib.Path(sys.argv[1]) / f"{socket.gethostname()}.saved"
    place.write_text(f"{signal.Signals(number).name} {sys.prefix} {os.environ['SLURM_NODEID']}")
    sys.exit(75)
signal.signal(signal.SIGUSR1, save)
(pathlib.Path(sys.argv[1]) / f"{socket.gethostname()}.ready").touch()
while True:
    signal.pause()
"""
JOB = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --output={folder}/job.log
trap 'kill -USR1 $!' USR1
srun --kill-on-bad-exit=0 {command} &
wait $!
status=$?
while kill -0 $! 2>/dev/null; do wait $!; status=$?; done
echo "srun ended with $status"
"""


def test_a_signal_reaches_the_python_inside_on_two_nodes(
    image: Path, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    monkeypatch.setenv("PATH", path_with_apptainer())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wait.py").write_text(WAIT_FOR_SIGNAL)
    task = [sys.executable, str(tmp_path / "wait.py"), str(tmp_path)]
    inside = container.wrap({"container": str(image)}, task, binds={str(tmp_path): str(tmp_path)})
    (tmp_path / "job.sh").write_text(JOB.format(folder=tmp_path, command=shlex.join(inside)))
    job = slurm.cmd("sbatch", "--parsable", str(tmp_path / "job.sh"), environment={"PATH": path_with_apptainer()})
    number = job.stdout.strip()
    slurm.wait_until(lambda: len(list(tmp_path.glob("*.ready"))) == 2, "both nodes run Python inside", 120)
    slurm.cmd("scancel", "--batch", "--signal=USR1", number)
    slurm.wait_until(lambda: len(list(tmp_path.glob("*.saved"))) == 2, "both were reached")
    slurm.wait_until(lambda: slurm.job(number)["state"] == "COMPLETED", "the job ends")
    said = {path.stem: path.read_text() for path in tmp_path.glob("*.saved")}
    assert said == {"node1": "SIGUSR1 /opt/kd 0", "node2": "SIGUSR1 /opt/kd 1"}
    assert "srun ended with 75" in (tmp_path / "job.log").read_text()
