"""What system tests share: the tiny recipe, run once for all that look at a finished run, a real Slurm, an image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_runtime import build_image
from filelock import FileLock
from runs_of_tiny import Workplace, new_workplace
from slurm_cluster import Cluster
from slurm_settings import Nodes, Settings


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace where the tiny recipe has run once, uninterrupted; each worker of pytest-xdist has a copy of it."""
    folder = tmp_path_factory.mktemp("finished")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _run_once(folder)
    shared = tmp_path_factory.getbasetemp().parent / "finished-once"
    with FileLock(f"{shared}.lock"):
        if not (shared / "done").exists():
            shutil.rmtree(shared, ignore_errors=True)  # what a worker that failed has left
            _run_once(shared)
            (shared / "done").touch()
    shutil.copytree(shared, folder, symlinks=True, dirs_exist_ok=True)
    place = Workplace(folder)
    shutil.rmtree(place.store / ".runs")
    assert "Nothing to do" in place.kd("run").stderr
    return place


def _run_once(folder: Path) -> Workplace:
    place = new_workplace(folder)
    place.kd("run")
    return place


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with kd and all it runs with, just built. Tests that use it share `xdist_group("image")`."""
    return build_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def slurm_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of two cores and two fake GPUs each; a partition `urgent` preempts `normal`, the default."""
    with Cluster(tmp_path_factory.mktemp("slurm"), Settings(nodes=(Nodes(gpus=2),), node_timeout=10)) as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_of_session: Cluster) -> Iterator[Cluster]:
    """The session's Slurm, with no job of another test in it. Tests that use it share `xdist_group("slurm")`."""
    yield slurm_of_session
    slurm_of_session.cancel_all()
    slurm_of_session.recover()
