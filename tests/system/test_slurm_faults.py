"""Faults of a real cluster: the run still finishes, and no work is done twice.

The jobs are trainings of a model of a few thousand weights, whose data another run has made. Faults come when a
training is seen to be under way, so that there is something to lose.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from runs_of_tiny import Workplace, new_workplace
from slurm_cluster import Cluster

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("slurm-faults")]

TEACHER = "teacher.en-xx"
# As a user writes one, in conf/machine/ where they stand.
MACHINE = """\
name: two_nodes
device: cpu
gpus_per_node: 0
account: null
warning_minutes: 2
resources:
  train: {cores: 1, memory: 1, hours: 1}
"""
TRAINING = (
    *("teacher.log_every=1", "teacher.validate_bleu=false", "teacher.batch.target_tokens=400"),
    *("checkpoint.every=100", "checkpoint.average=1", "checkpoint.metric=loss"),
)
PATIENCE = 300.0  # seconds, of a machine that is busy with other things


@dataclass(frozen=True)
class Trainings:
    """A run on the cluster that trains members on prepared data."""

    cluster: Cluster
    place: Workplace
    folder: Path  # of the run
    settings: tuple[str, ...]

    def run(self) -> str:
        """Run `kd run` on the login node and return its output."""
        done = self.cluster.cmd(*self._command("run"), environment=self._environment, cwd=self.place.folder)
        return done.stdout + done.stderr

    def status(self) -> str:
        """Return the output of `kd status`."""
        return self.cluster.cmd(*self._command("status"), environment=self._environment, cwd=self.place.folder).stdout

    def updates(self, member: int) -> int:
        """Return the last update of a training, of all attempts; 0 before its first update."""
        logs = self.place.store.glob(f"{TEACHER}/*/member-{member}.partial/metrics.jsonl")
        return max((_last_update(path) for path in logs), default=0)

    def under_way(self, member: int, beyond: int = 0) -> Callable[[], bool]:
        """Return a condition: the training has made some updates more."""
        return lambda: self.updates(member) > beyond + 15

    def manifest(self, member: int) -> dict[str, object]:
        """Return the manifest of a finished training; there is exactly one."""
        (path,) = self.place.store.glob(f"{TEACHER}/*/member-{member}/manifest.json")
        return json.loads(path.read_text("utf-8"))

    def finished(self, member: int) -> bool:
        """Return whether the training is finished."""
        return any(self.place.store.glob(f"{TEACHER}/*/member-{member}/manifest.json"))

    def wait(self, holds: Callable[[], object], what: str) -> None:
        """Wait for a condition; fail with status and logs if it does not come true."""
        try:
            self.cluster.wait_until(holds, what, PATIENCE)
        except AssertionError as error:
            logs = "\n".join(path.read_text("utf-8", "replace")[-3000:] for path in self.folder.glob("logs/**/*.log"))
            raise AssertionError(f"{error}\n{self.status()}\n{logs}") from None

    def idle(self) -> bool:
        """Return whether no job of this cluster waits or runs."""
        return not self.cluster.jobs()

    def element(self, member: int) -> str:
        """Return the job that trains a member: 12_0."""
        (found,) = [job["array"] for job in self.cluster.jobs() if job["array"].endswith(f"_{member - 1}")]
        return found

    def restarts(self, element: str) -> int:
        """Return how often Slurm requeued a job."""
        facts = self.cluster.cmd("scontrol", "show", "job", element).stdout.split()
        return int(dict(fact.split("=", 1) for fact in facts if "=" in fact)["Restarts"])

    def node(self, element: str) -> str:
        """Return the node of a job."""
        return self.cluster.cmd("squeue", "--noheader", f"--jobs={element}", "--format=%N").stdout.strip()

    def set_limit_to_the_next_minute(self, element: str) -> None:
        """Limit a job to at most two minutes from now: it is warned at once and has a minute to save."""
        text = self.cluster.cmd("squeue", "--noheader", f"--jobs={element}", "--format=%S").stdout.strip()
        running = time.time() - time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
        limit = math.ceil(running / 60) + 1
        self.cluster.cmd("scontrol", "update", f"JobId={element}", f"TimeLimit={limit}")

    @contextmanager
    def standing_still(self, element: str) -> Iterator[None]:
        """Stop a training, as a hanging file system does, until it has been sent a signal."""
        workers = self.cluster.processes(self.node(element), "kd.engines.fairseq")
        assert workers
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        try:
            yield
            self.wait(lambda: any(map(_is_signalled, workers)), "Slurm warns of the time limit")
        finally:
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGCONT)

    def nothing_is_left_to_do(self) -> None:
        """Assert that the queue is empty and that the same command finds all tasks done and changes no artifact."""
        self.wait(self.idle, "the queue is empty")
        before = self.place.published()
        assert "Nothing to do" in self.run()
        assert self.place.published() == before
        assert self.idle()

    def _command(self, name: str) -> list[str]:
        return self.place.arguments(name, f"run.dir={self.folder}", *self.settings)

    @property
    def _environment(self) -> dict[str, str]:
        return {**self.place.environment, "PYTHONPATH": str(Path(__file__).parents[2])}


def _last_update(path: Path) -> int:
    lines = path.read_text("utf-8", "replace").split("\n")[:-1]
    return max((int(json.loads(line)["update"]) for line in lines), default=0)


def _is_signalled(pid: int) -> bool:
    """Return whether SIGUSR1 or SIGTERM is pending for a stopped process."""
    wanted = 1 << (signal.SIGUSR1 - 1) | 1 << (signal.SIGTERM - 1)
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").split("\n"):
        name, _, mask = line.partition(":")
        if name in ("SigPnd", "ShdPnd") and int(mask, 16) & wanted:
            return True
    return False


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace with all inputs of a training."""
    place = new_workplace(tmp_path_factory.mktemp("prepared"))
    place.kd("run", "upto=encode")
    machines = place.folder / "conf" / "machine"
    machines.mkdir(parents=True)
    (machines / "two_nodes.yaml").write_text(MACHINE, "utf-8")
    return place


@pytest.fixture
def trainings(prepared: Workplace, slurm: Cluster, tmp_path: Path) -> Callable[..., Trainings]:
    """Return a function that makes a run of so many members and updates, in a copy of the prepared workplace."""

    def made(members: int, updates: int) -> Trainings:
        size = (f"upto={TEACHER}", f"teacher.members={members}", f"teacher.max_update={updates}")
        cluster = ("launcher=slurm", "machine=two_nodes")
        place = prepared.copy(tmp_path / "place")
        return Trainings(slurm, place, place.folder / "runs" / "trainings", (*size, *TRAINING, *cluster))

    return made


def test_a_training_that_hits_its_time_limit_three_times_finishes(trainings: Callable[..., Trainings]) -> None:
    job = trainings(members=1, updates=200)
    job.run()
    cluster, element, before = job.cluster, job.element(1), 0
    for leg in range(1, 4):
        job.wait(job.under_way(1, before), "the training goes on")
        before = job.updates(1)
        # Slurm looks at limits twice a minute: meanwhile the training stands still, so that it is not over too soon.
        with job.standing_still(element):
            job.set_limit_to_the_next_minute(element)
        job.wait(lambda leg=leg: job.restarts(element) == leg, f"it was requeued {leg} times")
        cluster.cmd("scontrol", "update", f"JobId={element}", "TimeLimit=60")
    job.wait(lambda: job.finished(1), "the training ends")
    assert job.manifest(1)["attempts"] == 4
    job.nothing_is_left_to_do()


# What happens to a job, given where it runs.
FAULTS: dict[str, Callable[[Cluster, str], object]] = {
    "preempted": lambda cluster, _: cluster.cmd("srun", "--partition=urgent", "--nodes=2", "--exclusive", "true"),
    "node set down": Cluster.set_down,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_preempted_job_and_a_job_of_a_lost_node_are_requeued_and_finish(
    trainings: Callable[..., Trainings], fault: str
) -> None:
    job = trainings(members=1, updates=120)
    job.run()
    job.wait(job.under_way(1), "the training goes on")
    element = job.element(1)
    FAULTS[fault](job.cluster, job.node(element))
    job.wait(lambda: job.finished(1), "the training ends")
    assert job.restarts(element) == 1
    job.nothing_is_left_to_do()


def test_a_task_on_a_disconnected_node_is_not_started_twice(trainings: Callable[..., Trainings]) -> None:
    """Here, unlike on a cluster, the node still reaches the disk: its process keeps its lease on the task."""
    job = trainings(members=1, updates=400)
    job.run()
    job.wait(job.under_way(1), "the training goes on")
    element = job.element(1)
    job.cluster.cut(job.node(element))
    job.wait(lambda: job.restarts(element) == 1, "the job is requeued, since its node is silent")
    job.wait(lambda: job.finished(1), "the training ends")
    assert job.manifest(1)["attempts"] == 1, "two worked on it"
    job.nothing_is_left_to_do()


def test_a_cancelled_and_then_a_killed_element_of_an_array_run_again_alone(
    trainings: Callable[..., Trainings],
) -> None:
    job = trainings(members=2, updates=120)
    job.run()
    job.wait(job.under_way(1), "the training goes on")
    job.cluster.cmd("scancel", job.element(1))
    job.wait(lambda: job.finished(2) and job.idle(), "the other one ends")
    assert not job.finished(1)
    before = job.place.published()
    job.run()
    job.wait(job.under_way(1, job.updates(1)), "the training goes on")
    # As the kernel does for want of memory.
    for pid in job.cluster.processes(job.node(job.element(1)), "kd\0task"):
        os.kill(pid, signal.SIGKILL)
    job.wait(job.idle, "the job ends")
    job.wait(lambda: " failed " in job.status(), "the lease of the killed task ends")
    assert not job.finished(1)
    job.run()
    job.wait(lambda: job.finished(1), "the training ends")
    assert job.manifest(1)["attempts"] == 3
    assert {path: written for path, written in job.place.published().items() if path in before} == before
    assert job.manifest(2)["attempts"] == 1
    job.nothing_is_left_to_do()
