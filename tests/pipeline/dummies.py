"""Small kinds that only write, count and wait, and the chains made of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd.base.errors import IncompleteArtifact, UserError
from kd.engines import PACKAGES
from kd.pipeline.execute import execute
from kd.pipeline.model import Job, Kind, Role, Stage, StageSpec, Summary, Task, TaskSpec
from kd.pipeline.plan import Plan, build
from kd.pipeline.store import Store

BUSY = "import time\nwhile time.process_time() < 0.5: pass"


@dataclass
class WriteConfig:
    """What a dummy writes, and what befalls it."""

    text: str = "text"
    steps: int = field(default=3, metadata={"fingerprint": "extent"})
    workers: int = field(default=1, metadata={"fingerprint": "transient"})
    seconds: float = field(default=0.0, metadata={"fingerprint": "transient"})  # for each step
    journal: str = field(default="", metadata={"fingerprint": "transient"})  # file that begins and ends are told to
    mishap: str = field(default="", metadata={"fingerprint": "transient"})


class Write(Kind[WriteConfig]):
    """Writes `steps` lines, one after the other."""

    name = "write"
    version = 1
    config = WriteConfig
    roles: Mapping[str, Role] = {"many": Role(many=True, optional=True), "one": Role(optional=True)}  # type: ignore[misc]

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        for worker in range(stage.config.workers):
            yield TaskSpec(
                f"worker-{worker}", {"text": stage.config.text, "worker": worker}, {"steps": stage.config.steps}
            )

    def run(self, job: Job[WriteConfig]) -> None:
        self._tell(job, "begin")
        if job.config.mishap == "busy":
            subprocess.run([sys.executable, "-c", BUSY], check=True)
        if job.config.mishap == "user":
            raise UserError("The user erred.", "Mend it.")
        if job.config.mishap == "bug":
            raise RuntimeError("a bug")
        if job.config.mishap == "crash":
            os.abort()
        path = job.out / "lines"
        done = path.read_text().count("\n") if path.exists() else 0
        with path.open("a") as handle:
            for step in range(done, job.config.steps):
                time.sleep(job.config.seconds)
                handle.write(f"{step} {job.config.text} {job.name}\n")
                handle.flush()
                job.progress.update("writing", step + 1, job.config.steps, "lines")
        self._tell(job, "end")

    def check(self, job: Job[WriteConfig]) -> Summary:
        lines = (job.out / "lines").read_text().split("\n")[:-1]
        if job.config.mishap == "check" or len(lines) != job.config.steps:
            raise IncompleteArtifact(f"{len(lines)} of {job.config.steps} lines")
        return Summary(counts={"lines": len(lines)}, dropped={"empty": 0}, facts={"saw": len(job.resumable_from)})

    def _tell(self, job: Job[WriteConfig], what: str) -> None:
        if job.config.journal:
            with Path(job.config.journal).open("a") as handle:
                handle.write(f"{what} {job.stage}/{job.name} {job.threads} {time.monotonic():.6f}\n")


class Resume(Write):
    """The same, going on with what is there."""

    name = "resume"
    resumable = True


class Alone(Write):
    """The same, with the machine to itself."""

    name = "alone"
    exclusive = True


class Fetch(Write):
    """The same, with a network."""

    name = "fetch"
    network = True


class Trained(Resume):
    """The same, on one node or several."""

    name = "trained"
    resources = "train"
    uses_gpus = True
    several_nodes = True


class Reader(Trained):
    """The same, reading its inputs once per epoch."""

    name = "reader"
    trains = True
    epochs = 3

    def run(self, job: Job[WriteConfig]) -> None:
        for _ in range(self.epochs):
            for item in job.inputs["many"]:
                (item.path / "lines").read_text()
        super().run(job)


class Join(Kind[WriteConfig]):
    """Puts together what it is given; needs both its inputs."""

    name = "join"
    version = 1
    config = WriteConfig
    roles: Mapping[str, Role] = {"many": Role(many=True), "one": Role()}  # type: ignore[misc]

    def run(self, job: Job[WriteConfig]) -> None:
        texts = [(item.path / "lines").read_text() for role in ("one", "many") for item in job.inputs[role]]
        (job.out / "lines").write_text("".join(texts))

    def check(self, job: Job[WriteConfig]) -> Summary:
        return Summary(counts={"lines": (job.out / "lines").read_text().count("\n")})


KINDS: dict[str, Kind[Any]] = {
    kind.name: kind for kind in (Write(), Resume(), Alone(), Fetch(), Trained(), Reader(), Join())
}
PAIRS = {"pairs": {"da-en": {"source": "da"}, "nl-en": {"source": "nl"}}}


def entry(
    name: str,
    kind: str = "write",
    inputs: Mapping[str, Mapping[str, str]] | None = None,
    *,
    over: str | None = None,
    enabled: bool = True,
    after: tuple[str, ...] = (),
    **config: Any,
) -> StageSpec:
    """A stage of a chain."""
    return StageSpec(name, KINDS[kind], WriteConfig(**config), inputs or {}, over, enabled, after)


def plan(*entries: StageSpec, axes: Mapping[str, Mapping[str, Any]] | None = None) -> Plan:
    """The plan of a chain that reads no raw files."""
    return build({item.name: item for item in entries}, PAIRS if axes is None else axes, str)


def only(kind: str = "write", **config: Any) -> Task:
    """The task of a chain of one stage."""
    (task,) = plan(entry("stage", kind, **config)).tasks()
    return task


def run(task: Task, store: Store) -> bool:
    """Execute a task here."""
    return execute(task, store, threads=1, device="cpu", machine={"name": "here"}, packages=PACKAGES)
