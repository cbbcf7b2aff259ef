"""Fixtures of the system tests: a finished run of the tiny recipe, a real Slurm, an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from container_runtime import build_image
from runs_of_tiny import Workplace, new_workplace
from slurm_cluster import Cluster
from slurm_settings import Nodes, Settings

from tests.shared_fixtures import made_once


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace where the tiny recipe has run once, uninterrupted. Tests only read it; see `workplace`."""
    return Workplace(made_once(tmp_path_factory, "finished", lambda folder: new_workplace(folder).kd("run")))


@pytest.fixture
def workplace(finished: Workplace, tmp_path: Path) -> Workplace:
    """A copy of the finished run for one test, which may change it."""
    return finished.copy(tmp_path / "workplace")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of kd with its dependencies, just built. Tests that use it share `xdist_group("image")`."""
    return build_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def slurm_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of two cores and two fake GPUs each; a partition `urgent` preempts `normal`, the default."""
    with Cluster(tmp_path_factory.mktemp("slurm"), Settings(nodes=(Nodes(gpus=2),), node_timeout=10)) as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_of_session: Cluster) -> Iterator[Cluster]:
    """The session's Slurm without jobs of other tests. Tests that use it share `xdist_group("slurm")`."""
    yield slurm_of_session
    slurm_of_session.cancel_all()
    slurm_of_session.recover()
