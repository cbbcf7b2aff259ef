"""What system tests share: the tiny recipe, run once for all that look at a finished run, a real Slurm, an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from container_runtime import build_image
from runs_of_tiny import Workplace, new_workplace
from slurm_cluster import Cluster
from slurm_settings import Nodes, Settings


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace where the tiny recipe has run once, uninterrupted."""
    place = new_workplace(tmp_path_factory.mktemp("finished"))
    place.kd("run")
    return place


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with kd and all it runs with, just built. Tests that use it share `xdist_group("tiny")`."""
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
