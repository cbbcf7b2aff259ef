"""Teachers killed at random moments, by SIGKILL, SIGTERM and SIGUSR1, end with the weights of uninterrupted ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from runs_of_tiny import Workplace, new_workplace

from kd.base.hashing import sha256
from tests.moments import random_moments

# One worker for all, so that the data are made once.
pytestmark = [pytest.mark.system, pytest.mark.xdist_group("teachers")]
UPDATES = 30
SETTINGS = (
    *("teacher.seed=77", "teacher.optimizer.warmup_updates=10", f"teacher.max_update={UPDATES}", "teacher.log_every=1"),
    *("checkpoint.every=10", "checkpoint.average=1", "teacher.validate_bleu=false", "checkpoint.metric=loss"),
)
PATIENCE = 240.0  # seconds, of a machine that is busy with other things


@dataclass(frozen=True)
class Teachers:
    """A run whose teachers are trained, task by task, on the data of another run."""

    place: Workplace
    environment: Mapping[str, str]

    @classmethod
    def on_data_of(cls, encoded: Workplace, folder: Path, **environment: str) -> Teachers:
        """Copy corpus and store, and plan the run."""
        shutil.copytree(encoded.folder, folder, symlinks=True)
        place = Workplace(folder)
        place.kd("run", "upto=encode", *SETTINGS)
        return cls(place, {**place.environment, "KD_THREADS": "1", **environment})

    def start(self, member: int, **environment: str) -> subprocess.Popen[bytes]:
        """Start the task of a member."""
        frozen = json.loads((self.place.run / "plan.json").read_text("utf-8"))["config"]
        command = ["task", "--config", frozen, "--run", str(self.place.run), "teacher.en-xx", f"member-{member}"]
        log = (self.place.folder / f"member-{member}.log").open("ab")
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "kd", *command],
            env={**self.environment, **environment},
            stdout=log,
            stderr=log,
        )

    def run(self, member: int) -> Path:
        """Run the task of a member to its end and return its folder."""
        process = self.start(member)
        assert process.wait(PATIENCE) == 0, (self.place.folder / f"member-{member}.log").read_text("utf-8")
        return self.final(member)

    def final(self, member: int) -> Path:
        return (self.place.run / "teacher.en-xx" / f"member-{member}").resolve()

    def partial(self, member: int) -> Path | None:
        """Return the folder that a running task writes to."""
        found = list(self.place.store.glob(f"teacher.en-xx/*/member-{member}.partial"))
        return found[0] if found else None

    def updates(self, member: int) -> int:
        """Return the last update that was logged."""
        folder = self.partial(member)
        path = folder / "metrics.jsonl" if folder else None
        lines = path.read_text("utf-8").split("\n")[:-1] if path and path.is_file() else []
        return max((json.loads(line)["update"] for line in lines), default=0)

    def interrupt(self, member: int, update: int, number: signal.Signals) -> None:
        """Start a task, send it a signal once an update has been logged, and check its exit status."""
        process = self.start(member)
        deadline = time.monotonic() + PATIENCE
        while self.updates(member) < update:
            assert process.poll() is None, (self.place.folder / f"member-{member}.log").read_text("utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(number)
        status = process.wait(PATIENCE)
        assert status == (-signal.SIGKILL if number == signal.SIGKILL else 75)
        assert not self.final(member).exists(), "an incomplete model was published"


def weights(folder: Path) -> dict[str, str]:
    """Return content hashes of the final model and of the last checkpoint's tensors."""
    import torch

    from kd.engines.fairseq.loading import load

    state = load(folder / "checkpoints" / "checkpoint_last.pt")
    optimizer = state["last_optimizer_state"]["state"]
    moments = {f"{key}/{name}": value for key, entry in optimizer.items() for name, value in entry.items()}
    tensors = {**state["model"], **{name: value for name, value in moments.items() if torch.is_tensor(value)}}
    assert len(tensors) > 30
    return {"model.pt": sha256(folder / "model.pt"), **{name: str(hash_of(value)) for name, value in tensors.items()}}


def hash_of(tensor: object) -> bytes:
    import hashlib

    return hashlib.sha256(tensor.numpy().tobytes()).digest()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The tiny recipe's data, ready for its teachers."""
    place = new_workplace(tmp_path_factory.mktemp("encoded") / "place")
    place.kd("run", "upto=encode", *SETTINGS)
    return place


@pytest.mark.parametrize("processes", [1, 2], ids=["one process", "two processes, gloo"])
def test_killed_members_end_as_uninterrupted_ones(encoded: Workplace, tmp_path: Path, processes: int) -> None:
    world = {"KD_PROCESSES": str(processes), "KD_THREADS": str(processes)}
    whole = Teachers.on_data_of(encoded, tmp_path / "whole", **world)
    killed = Teachers.on_data_of(encoded, tmp_path / "killed", **world)
    chance = random_moments()
    for member, signals in {1: (signal.SIGUSR1, signal.SIGKILL), 2: (signal.SIGTERM,)}.items():
        moments = sorted(chance.sample(range(1, UPDATES - 5), len(signals)))
        for number, update in zip(signals, moments, strict=True):
            before = killed.updates(member)
            killed.interrupt(member, update, number)
            if number != signal.SIGKILL:  # it saved within the update, whichever that was
                folder = killed.partial(member)
                assert folder is not None
                saved = max(int(path.stem.split("_")[2]) for path in folder.glob("checkpoints/checkpoint_?_*.pt"))
                assert saved >= max(update, before)
        told = f"member {member}, {signals} at {moments}"
        ends, expected = killed.run(member), whole.run(member)
        assert weights(ends) == weights(expected), told
        summary = json.loads((ends / "manifest.json").read_text("utf-8"))
        assert summary["facts"]["updates"] == UPDATES
        assert summary["attempts"] == len(signals) + 1
        assert summary["facts"]["devices"] == processes
    assert_nothing_works_in(tmp_path)  # torchrun and its workers ended with the task


def test_two_nodes_train_what_two_processes_train(encoded: Workplace, tmp_path: Path) -> None:
    teachers = Teachers.on_data_of(encoded, tmp_path / "nodes")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = {"KD_NODES": "2", "KD_RENDEZVOUS": f"127.0.0.1:{port}"}
    second = teachers.start(1, **world, KD_NODE_RANK="1")  # before the first: it waits for it
    first = teachers.start(1, **world, KD_NODE_RANK="0")
    deadline = time.monotonic() + PATIENCE
    while teachers.updates(1) < 12:
        assert first.poll() is None, (tmp_path / "nodes" / "member-1.log").read_text("utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # A warning on one node stops all of them; what it means is the first one's to say.
    second.send_signal(signal.SIGUSR1)
    assert (first.wait(PATIENCE), second.wait(PATIENCE)) == (75, 0)
    # Begun again, they go on; what the first attempt left does not confuse them.
    nodes = [teachers.start(1, **world, KD_NODE_RANK=str(rank)) for rank in (0, 1)]
    assert [node.wait(PATIENCE) for node in nodes] == [0, 0]
    folder = teachers.final(1)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert (manifest["nodes"], manifest["facts"]["devices"]) == (2, 2)
    assert (folder / "train.rank-1.log").stat().st_size > 0
    other = Teachers.on_data_of(encoded, tmp_path / "one", KD_PROCESSES="2", KD_THREADS="2")
    assert weights(other.run(1)) == weights(folder)


def assert_nothing_works_in(folder: Path) -> None:
    """Assert that no process of a killed task is left."""
    deadline = time.monotonic() + 60
    while left := [entry.name for entry in Path("/proc").glob("[0-9]*") if _works_in(entry, folder)]:
        assert time.monotonic() < deadline, f"{left} live on"
        time.sleep(0.1)


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return process.name != str(os.getpid()) and str(folder).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False
