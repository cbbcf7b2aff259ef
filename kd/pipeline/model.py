"""The contract of a stage: what a kind promises (`Kind`), and what its tasks are given when they run (`Job`).

A new kind of stage is one class with a config, its tasks, `run` and `check`; see `kd/stages/` for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from kd.base.hashing import sha256
from kd.base.progress import Progress
from kd.base.world import World, from_environment
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import Spent, StageForecast, TaskWork

C = TypeVar("C")


@dataclass(frozen=True)
class Role:
    """An input of a kind. `many`: a mapping of any number of stages instead of one."""

    many: bool = False
    optional: bool = False


@dataclass(frozen=True)
class TaskSpec:
    """What a kind says of one of its tasks; the planner makes a `Task` with a fingerprint of it."""

    name: str
    identity: Mapping[str, Any]  # what makes this task's output another one, beside its inputs
    extent: Mapping[str, Any] = field(default_factory=dict)  # how far it goes
    inputs: Mapping[str, Sequence[Input]] | None = None  # None: every task of every input of the stage
    # Raw files it reads, part of its identity by content; a function where the disk has to be asked which they are.
    files: Sequence[Path] | Callable[[], Sequence[Path]] = ()


@dataclass(frozen=True)
class Input:
    """A task that another reads from, under the label that the recipe gave it."""

    label: str
    task: Task


@dataclass(frozen=True)
class Artifact:
    """A published output, as the tasks that read it see it."""

    path: Path
    label: str  # the recipe's name for it within the role
    stage: str
    task: str
    fingerprint: str
    axis: str | None  # the value of its stage's axis, such as the language pair
    settings: Mapping[str, Any]  # the config it was made with, as plain values
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Job(Generic[C]):
    """All that a task knows of the world."""

    name: str
    stage: str
    config: C
    identity: Mapping[str, Any]  # of the task's draft: its seed, its share …
    axis: str | None
    axis_value: Mapping[str, Any]
    inputs: Mapping[str, list[Artifact]]
    files: Mapping[Path, str]  # content hashes of the raw files, as of planning
    out: Path  # the folder to write to
    resumable_from: Sequence[Path]  # earlier outputs of the same work, complete or partial, shorter or longer
    attempts: int  # how often the task was begun, this time included
    threads: int
    device: str
    machine: Mapping[str, Any]
    progress: Progress
    world: World = field(default_factory=from_environment)  # its processes, here and on other nodes
    tracking: Mapping[str, Any] = field(default_factory=dict)  # what to show the work with, and where
    hash_file: Callable[[Path], str] = field(
        default=sha256
    )  # remembered by the store while size and time stay the same

    def one(self, role: str) -> Artifact:
        """The artifact of a role that has exactly one."""
        (artifact,) = self.inputs[role]
        return artifact


@dataclass
class Summary:
    """What `check` found; it enters the manifest as it is."""

    counts: dict[str, int | float] = field(default_factory=dict)  # lines, tokens … in and out
    dropped: dict[str, int] = field(default_factory=dict)  # by reason
    # Anything else worth a reader's glance; `kd status` shows what stands under `note`.
    facts: dict[str, Any] = field(default_factory=dict)


class Kind(ABC, Generic[C]):
    """What a stage does. Stateless: a pure function of config and inputs, the recipe's seed included."""

    name: ClassVar[str]
    version: ClassVar[int]  # raised when the same config and inputs make another output
    config: ClassVar[type]
    roles: ClassVar[Mapping[str, Role]] = {}
    resources: ClassVar[str] = "light"  # class of what a task wants from a machine: train | decode | cpu | light
    resumable: ClassVar[bool] = False  # run() goes on with what an attempt that died left in `out`
    exclusive: ClassVar[bool] = False  # wants the machine to itself, for measuring
    network: ClassVar[bool] = False  # may need one; every other kind is started with its libraries told to stay offline
    imports: ClassVar[tuple[str, ...]] = ()  # large packages that a task imports when it starts
    trains: ClassVar[bool] = False  # each task trains one model
    needs_models: ClassVar[bool] = False  # makes or reads models, or their output: no part of a probe of text alone
    loads_once: ClassVar[bool] = False  # most of a short task is loading, whatever its work
    delivers: ClassVar[bool] = False  # the output leaves the machine: a model or a report
    reports: ClassVar[bool] = False  # the output is a page of everything in the run, made anew by `kd report`

    def validate(self, config: C) -> None:
        """Raises UserError for a combination of values that cannot work, before anything runs."""

    def suits(self, config: C, device: str) -> None:
        """Raises UserError for what a machine with such a device (cpu, cuda, rocm) cannot do, before anything runs."""

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """The tasks, from config alone. By default a single one, `all`, that depends on the whole config."""
        identity, extent = identity_and_extent(stage.config)
        yield TaskSpec("all", identity, extent)

    @abstractmethod
    def run(self, job: Job[C]) -> None:
        """Does the work, writing to `job.out` alone."""

    def run_worker_node(self, out: Path, world: World, threads: int, over: Callable[[], bool]) -> None:
        """What every node but the first does for a task of several, which the first one runs and publishes.

        out: the folder that the first node's `run` writes to, for them to talk by; over: whether the task is finished.
        """

    @abstractmethod
    def check(self, job: Job[C]) -> Summary:
        """Reads back what was written; raises IncompleteArtifact when it is not whole."""

    def forecast(self, stage: Stage, known: Any) -> StageForecast | None:
        """Forecast the work and the bytes of each task, from what is known of the recipe's texts and models.

        Args:
            stage: with its tasks.
            known: `kd.models.known.Known`, which has the forecasts of all earlier stages.

        Returns:
            None for a kind that cannot tell: its cost is then unknown, and all else is forecast.
        """

    def spent(self, folder: Path, manifest: Mapping[str, Any], work: TaskWork) -> Iterator[Spent]:
        """Divide the seconds of a finished task among the parts of its work.

        By default all of them go to a task's only part; those of several parts cannot be told apart.

        Args:
            folder: the output.
            manifest: with seconds, or only those of the output's own records, where a probe has timed the task.
            work: its forecast.
        """
        if len(work.work) == 1:
            devices = max(1, int(manifest["facts"].get("devices") or 1))
            seconds = max(1e-3, float(manifest["seconds"])) * devices
            yield Spent(work.work[0], float(work.work[0].amount.value or 0), seconds, manifest.get("cpu_seconds"))


@dataclass(frozen=True)
class StageSpec:
    """A stage as the recipe declares it. `inputs`: role -> label -> name of a stage."""

    name: str
    kind: Kind[Any]
    config: Any
    inputs: Mapping[str, Mapping[str, str]]
    over: str | None = None
    enabled: bool = True
    after: tuple[str, ...] = ()  # stages to wait for without reading from them


@dataclass(eq=False, repr=False)  # each knows all it stands on: shown whole, a plan fills memory
class Stage:
    """A stage instance: an entry, for one value of its axis."""

    name: str
    spec: StageSpec
    axis: str | None  # the value's name, such as `en-de`
    axis_value: Mapping[str, Any]
    inputs: Mapping[str, list[tuple[str, Stage]]]  # role -> (label, stage)
    after: list[Stage] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Stage({self.name})"

    @property
    def config(self) -> Any:
        """The typed config of the kind."""
        return self.spec.config

    @property
    def kind(self) -> Kind[Any]:
        """What it does."""
        return self.spec.kind

    def upstream(self) -> Iterator[Stage]:
        """Every stage that it stands on, each once."""
        seen: set[Stage] = set()
        todo: list[Stage] = [self]
        while todo:
            for others in todo.pop().inputs.values():
                for _, other in others:
                    if other not in seen:
                        seen.add(other)
                        todo.append(other)
                        yield other

    def axis_values(self) -> dict[str, Mapping[str, Any]]:
        """Its own axis value by name; where it has none, those of all that it reads from, directly or not."""
        if self.axis is not None:
            return {self.axis: self.axis_value}
        upstream = [stage for inputs in self.inputs.values() for _, stage in inputs]
        return {name: value for stage in upstream for name, value in stage.axis_values().items()}

    def input_tasks(self, role: str) -> list[Input]:
        """Every task of every stage of a role."""
        return [Input(label, task) for label, stage in self.inputs.get(role, []) for task in stage.tasks]


@dataclass(eq=False, repr=False)
class Task:
    """One independently restartable piece of a stage."""

    stage: Stage
    name: str
    fingerprint: str
    lineage: str  # the fingerprint without how far the work goes
    identity: Mapping[str, Any]
    inputs: Mapping[str, list[Input]]
    files: Mapping[Path, str]

    def __repr__(self) -> str:
        return f"Task({self.full_name}@{self.fingerprint})"

    @property
    def full_name(self) -> str:
        """`stage/task`."""
        return f"{self.stage.name}/{self.name}"

    @property
    def relative(self) -> Path:
        """Where its output stands in a store."""
        return Path(self.stage.name, self.fingerprint, self.name)

    def upstream(self) -> Iterator[Task]:
        """The tasks it reads from."""
        for inputs in self.inputs.values():
            for item in inputs:
                yield item.task
