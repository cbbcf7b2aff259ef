"""A workplace on a Slurm of two nodes: runs of the tiny recipe, typed on the login node."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runs_of_tiny import TINY, Workplace, new_workplace
from slurm_cluster import Cluster

# One core a task, since results on a CPU depend on the number of threads: the local launcher's tiny runs have one, too.
MACHINE = """\
name: two nodes
device: cpu
gpus_per_node: 0
account: null
warning_minutes: 0.5
resources:
  train: {cores: 1, hours: 0.5}
  decode: {cores: 1, hours: 0.5}
  cpu: {cores: 1, hours: 0.5}
  light: {cores: 1, hours: 0.5}
"""


@dataclass(frozen=True)
class SlurmPlace:
    """A workplace, with the cluster that its runs are submitted to."""

    place: Workplace
    cluster: Cluster

    def arguments(self, command: str, *overrides: str) -> list[str]:
        """Return the command line of a `kd` command on the recipe here."""
        return self.place.arguments(command, "launcher=slurm", "machine=nodes", *overrides)

    def kd(self, command: str, *overrides: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `kd` command on the login node."""
        return self.cluster.cmd(
            *self.arguments(command, *overrides), cwd=self.place.folder, check=check, environment={"COLUMNS": "240"}
        )

    def start(self, command: str, *overrides: str) -> subprocess.Popen[str]:
        """Start a `kd` command on the login node without waiting for its end."""
        return self.cluster.popen(*self.arguments(command, *overrides), cwd=self.place.folder)

    def queued(self) -> list[dict[str, str]]:
        """Return the jobs that wait or run, as squeue lists them."""
        return self.cluster.jobs()

    def wait(self, seconds: float = 900) -> None:
        """Wait until no job is queued."""
        self.cluster.wait_until(lambda: not self.queued(), "all jobs are over", seconds)

    def manifest(self, task: str) -> dict[str, object]:
        """Return the manifest of a finished task."""
        return dict(json.loads((self.place.run / task / "manifest.json").read_text("utf-8")))

    def states(self, *overrides: str) -> dict[str, str]:
        """Return the state of each task, as `kd status` prints it."""
        lines = [line.split() for line in self.kd("status", "--all", *overrides).stdout.split("\n")]
        # A long path makes the title above the table several lines.
        lines = lines[next(number for number, words in enumerate(lines) if words[:2] == ["stage", "task"]) + 1 :]
        return {f"{words[0]}/{words[1]}": words[2] for words in lines if len(words) > 2}


def slurm_place(folder: Path, cluster: Cluster, recipe: Path = TINY) -> SlurmPlace:
    """Return a workplace with a corpus, a machine file and nothing else."""
    place = new_workplace(folder, recipe)
    machine = folder / "conf" / "machine" / "nodes.yaml"
    machine.parent.mkdir(parents=True)
    machine.write_text(MACHINE, "utf-8")
    return SlurmPlace(place, cluster)
