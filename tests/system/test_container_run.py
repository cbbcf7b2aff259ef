"""Runs inside an image give the same results as outside; Slurm's signals reach the Python inside on every node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from container_runtime import kd, path_with_apptainer
from runs_of_tiny import TINY, Workplace
from slurm_cluster import Cluster
from slurm_place import slurm_place

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("image")]


# Trained outside: the student's training in the image and the one over two nodes show as much.
OUTSIDE = ("teacher.en-xx", "control.en-xx")


@pytest.fixture(scope="module")
def run_inside(image: Path, finished: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace where the tiny recipe has run in the image, except for three trainings, on the same corpus."""
    folder = tmp_path_factory.mktemp("inside")
    place = Workplace(folder)
    for stage in OUTSIDE:
        shutil.copytree(finished.store / stage, place.store / stage, copy_function=os.link)
    corpus = finished.folder / "corpus"
    kd("run", f"recipe={TINY}", *settings(place, corpus, image), path=path_with_apptainer(), cwd=folder)
    return place


def settings(place: Workplace, corpus: Path, image: Path) -> list[str]:
    """Return the overrides of a run inside."""
    return [f"corpus.root={corpus}", f"run.dir={place.run}", f"store.dir={place.store}", f"machine.container={image}"]


def manifests(place: Workplace) -> dict[str, dict[str, object]]:
    """Return the manifest of each task in the store, by stage, fingerprint and task."""
    found = place.store.glob("[!.]*/*/*/manifest.json")
    return {str(path.parent.relative_to(place.store)): json.loads(path.read_text("utf-8")) for path in found}


def test_tasks_inside_give_the_same_output_as_outside(run_inside: Workplace, finished: Workplace) -> None:
    inside, outside = manifests(run_inside), manifests(finished)
    assert inside.keys() == outside.keys()
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
    scores = [[(row.name, row.scores) for row in place.report().systems] for place in (run_inside, finished)]
    assert scores[0] == scores[1]


def test_manifests_name_the_image_by_digest(run_inside: Workplace, image: Path, finished: Workplace) -> None:
    digest = subprocess.check_output(["sha256sum", str(image)], text=True).split()[0]
    for manifest in manifests(run_inside).values():
        inside = manifest["stage"] not in OUTSIDE
        assert manifest["container"] == ({"path": str(image), "sha256": digest} if inside else None)
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
        words = ["status", "--all", f"recipe={TINY}", *given]
        # Wide enough that no remark goes on in a second line.
        said = kd(*words, path=path_with_apptainer(), cwd=tmp_path, COLUMNS="2000").stdout
        return [line for line in said.split("\n") if " done " in line]

    assert status(image)
    assert not [line for line in status(image) if "made in" in line]
    lines = status(other)
    assert len(lines) == len(status(image))
    assert all("torch" in line and "instead of 9.9.9" in line for line in lines)


def test_a_signal_saves_a_training_over_two_nodes_inside_the_image_and_it_resumes(
    run_inside: Workplace,
    finished: Workplace,
    image: Path,
    slurm: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", path_with_apptainer())
    here = slurm_place(tmp_path, slurm)
    # On what the local run has encoded, with a run folder of its own.
    inside = run_inside.copy(tmp_path / "inside")
    places = [f"store.dir={inside.store}", f"corpus.root={finished.folder}/corpus", f"machine.container={image}"]
    shape = ["teacher.members=1", "teacher.max_update=160", "checkpoint.every=40", "machine.resources.train.nodes=2"]
    here.kd("run", *places, *shape, "stages=[teacher]")
    (job,) = here.queued()
    log = here.place.run / "logs" / "teacher.en-xx" / "member-1.log"

    def trains() -> bool:
        curves = inside.store.glob("teacher.en-xx/*/member-1.partial/metrics.jsonl")
        return any('"train"' in curve.read_text("utf-8") for curve in curves)

    slurm.wait_until(trains, "it trains", 200)
    slurm.cmd("scancel", "--batch", "--signal=USR1", job["id"])
    here.wait()
    manifest = here.manifest("teacher.en-xx/member-1")
    said = log.read_text("utf-8")
    assert (manifest["nodes"], manifest["attempts"]) == (2, 2), said
    assert dict(manifest["container"])["path"] == str(image)  # type: ignore[call-overload]
    assert "begun on node[1-2], 1 times requeued" in said
    assert said.count("The task was asked to stop; its finished work is kept.") == 2  # by the Python of each node
    curve = (here.place.run / "teacher.en-xx" / "member-1" / "metrics.jsonl").read_text("utf-8").split("\n")
    updates = [json.loads(line)["update"] for line in curve if '"train"' in line]
    assert updates == sorted(set(updates)) and updates[-1] == 160, "it went on, and did not begin anew"


def test_doctor_looks_at_the_nodes_from_inside(
    image: Path, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with_apptainer())
    here = slurm_place(tmp_path, slurm)
    # A folder that Python outside looks for packages in; the image's must not.
    (tmp_path / "packages" / "torch").mkdir(parents=True)
    (tmp_path / "packages" / "torch" / "__init__.py").write_text("raise ImportError('of the host')\n")
    places = [f"run.dir={here.place.run}", f"store.dir={here.place.store}"]
    given = ["launcher=slurm", "machine=nodes", f"machine.container={image}", "+machine.container_flags.no-home=true"]
    doctor = [sys.executable, "-m", "kd", "doctor", *places, *given]
    outside = str(Path(__file__).parents[2])
    done = slurm.cmd(
        *doctor, cwd=tmp_path, check=False, environment={"PYTHONPATH": f"{outside}:{tmp_path / 'packages'}"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f" starts {image}" in done.stdout
    assert "ok      node1: torch: " in done.stdout and "ok      job: ran on node1 and node2" in done.stdout
    assert "all-reduce by gloo over 2 nodes with 1 each" in done.stdout


def test_an_image_with_another_kd_is_refused_by_name(
    run_inside: Workplace, finished: Workplace, image: Path, tmp_path: Path
) -> None:
    """Change the frozen config of a run to one of a kd whose kind `split` has another version."""
    (frozen,) = (run_inside.run / "configs").glob("*.json")
    record = json.loads(frozen.read_text("utf-8"))
    record["stages"]["split"]["version"] = 0
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "abc.json").write_text(json.dumps(record))
    task = ["python", "-m", "kd", "task", "--config", "abc", "--run", str(tmp_path), "split", "all"]
    bound = ["--bind", str(run_inside.folder), "--bind", str(finished.folder), "--bind", str(tmp_path)]
    words = ["container", "exec", *bound, str(image), "--", *task]
    done = kd(*words, path=path_with_apptainer(), cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert f"The image {image} has kd" in done.stderr and "plans this task differently" in done.stderr
