"""A job that hands over to its successor while `kd run` or `kd cancel` is typed: neither takes the old one for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.launch.slurm import queue
from tests.launch.chain import Chain
from tests.launch.slurm_stub import Stub
from tests.launch.test_slurm_launcher import launch

CHAIN = ({"name": "first", "steps": 1}, {"name": "second", "steps": 1, "inputs": {"many": {"x": "first"}}})


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    return Stub(tmp_path / "stub").install(monkeypatch)


def handing_over(chain: Chain, stub: Stub, state: str) -> None:
    """Submit the first stage; its job has just submitted another. squeue lists what waits before what runs."""
    launch(chain, [task for task in chain.plan.tasks() if task.stage.name == "first"])
    listed = stub.folder / "queue"
    old = listed.read_text()
    successor = old.replace("101|", "150|")
    listed.write_text(successor + old.replace("|PENDING|", f"|{state}|"))


def test_what_is_submitted_then_waits_for_the_successor(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    handing_over(chain, stub, "RUNNING")
    launch(chain)
    assert stub.submissions()[-1]["dependency"] == "afterok:150_0"


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING"])
def test_cancelling_takes_both(tmp_path: Path, stub: Stub, state: str) -> None:
    chain = Chain(tmp_path, *CHAIN)
    handing_over(chain, stub, state)
    cancelled = queue.cancel(chain.run, print)
    assert set(cancelled) == {"101", "150"} - ({"101"} if state == "COMPLETING" else set())
    assert cancelled["150"] == ["first/worker-0"]
