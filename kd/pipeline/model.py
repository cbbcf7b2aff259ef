"""Define the parts of a pipeline: kinds, stages, tasks, their inputs and outputs.

A new kind of stage is one class with a config, its tasks, `run` and `check`; `kd/stages/` has all of them.
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
    implies: str | None = None  # role of a stage that is read here, where the recipe declares no role for it


@dataclass(frozen=True)
class TaskSpec:
    """A task as its kind declares it; the planner turns it into a `Task` with a fingerprint."""

    name: str
    identity: Mapping[str, Any]  # the settings that change this task's output, besides its inputs
    extent: Mapping[str, Any] = field(default_factory=dict)  # how far it goes: updates, share of the corpus
    inputs: Mapping[str, Sequence[Input]] | None = None  # None: every task of every input of the stage
    # Raw files that it reads, part of its identity by content; a function if they have to be looked up on disk.
    files: Sequence[Path] | Callable[[], Sequence[Path]] = ()
    # Plain values that describe the output to the stages that read it: which system it is (`kd.models.systems`).
    # They enter the manifest but not the fingerprint; a kind whose output shows them adds them to its identity.
    subject: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Input:
    """A task that another task reads from, under the label that the recipe gives it."""

    label: str
    task: Task

    @property
    def subject(self) -> Mapping[str, Any]:
        """The description of the task's output."""
        return self.task.subject


@dataclass(frozen=True)
class Artifact:
    """A published output as seen by the tasks that read it."""

    path: Path
    label: str  # the recipe's name for it within the role
    stage: str
    task: str
    fingerprint: str
    axis: str | None  # the value of its stage's axis, such as the language pair
    settings: Mapping[str, Any]  # the config it was made with, as plain values
    manifest: Mapping[str, Any]
    subject: Mapping[str, Any] = field(default_factory=dict)  # describes the output; as planned now

    @property
    def reference(self) -> str:
        """`stage/task@fingerprint`, the form in which manifests name their inputs."""
        return f"{self.stage}/{self.task}@{self.fingerprint}"


@dataclass(frozen=True)
class Job(Generic[C]):
    """Everything that a running task is given."""

    name: str
    stage: str
    config: C
    identity: Mapping[str, Any]  # of its TaskSpec: its seed, its share …
    axis: str | None
    axis_value: Mapping[str, Any]
    inputs: Mapping[str, list[Artifact]]
    files: Mapping[Path, str]  # SHA-256 of the raw files, as of planning
    out: Path  # the folder to write to
    resumable_from: Sequence[Path]  # earlier outputs of the same work, complete or partial, shorter or longer
    attempts: int  # attempts at the task so far, including this one
    threads: int
    device: str
    machine: Mapping[str, Any]
    progress: Progress
    world: World = field(default_factory=from_environment)  # its processes, here and on other nodes
    tracking: Mapping[str, Any] = field(default_factory=dict)  # the trackers to report to, and their settings
    # SHA-256 of a file; the store's version remembers it while size and modification time stay the same.
    hash_file: Callable[[Path], str] = field(default=sha256)

    def one(self, role: str) -> Artifact:
        """Return the artifact of a role that has exactly one."""
        (artifact,) = self.inputs[role]
        return artifact


@dataclass
class Summary:
    """The result of `check`; it enters the manifest unchanged."""

    counts: dict[str, int | float] = field(default_factory=dict)  # lines, tokens … in and out
    dropped: dict[str, int] = field(default_factory=dict)  # by reason
    facts: dict[str, Any] = field(default_factory=dict)  # anything else; `kd status` shows the fact `note`


class Kind(ABC, Generic[C]):
    """A kind of stage. Stateless: a pure function of config and inputs, the recipe's seed included."""

    name: ClassVar[str]
    version: ClassVar[int]  # raised when the same config and inputs give another output
    config: ClassVar[type]
    roles: ClassVar[Mapping[str, Role]] = {}
    role: ClassVar[str | None] = None  # default role of a stage in the experiment; None: its output is no system
    resources: ClassVar[str] = "light"  # the entry of machine.resources that its tasks ask a scheduler for
    uses_gpus: ClassVar[bool] = False  # computes on the machine's GPUs, if it has any
    several_nodes: ClassVar[bool] = False  # a task may run on several nodes; the other nodes call `run_worker_node`
    resumable: ClassVar[bool] = False  # run() resumes from the content of `out` that an earlier attempt left
    exclusive: ClassVar[bool] = False  # needs the machine to itself, for measurements
    network: ClassVar[bool] = False  # may need a network; the libraries of every other kind are set to offline
    imports: ClassVar[tuple[str, ...]] = ()  # large packages that a task imports when it starts
    trains: ClassVar[bool] = False  # each task trains one model
    needs_models: ClassVar[bool] = False  # makes or reads models, or their output: no part of a probe of text alone
    loads_once: ClassVar[bool] = False  # most of a short task is loading, whatever its work
    delivers: ClassVar[bool] = False  # the output leaves the machine: a model or a report
    reports: ClassVar[bool] = False  # the output is a page of everything in the run; `kd report` makes and shows it

    def is_needed(self, config: C) -> bool:
        """Return whether a stage with this config has work to do; otherwise it counts as switched off."""
        return True

    def validate(self, config: C) -> None:
        """Raise UserError for a combination of values that cannot work, before anything runs."""

    def suits(self, config: C, device: str) -> None:
        """Raise UserError for a config that a machine with this device (cpu, cuda, rocm) cannot run."""

    def asks(self, stage: Stage) -> str | None:
        """Return the address of the server that the tasks use, whatever their node; None if they use no server."""
        return None

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield the tasks, from the config alone. By default one task, `all`, which depends on the whole config."""
        identity, extent = identity_and_extent(stage.config)
        yield TaskSpec("all", identity, extent)

    @abstractmethod
    def run(self, job: Job[C]) -> None:
        """Do the work; writes to `job.out` only."""

    def run_worker_node(self, out: Path, world: World, threads: int, over: Callable[[], bool]) -> None:
        """Do the part of a node other than the first in a task on several nodes; the first node publishes.

        Args:
            out: The folder that the first node's `run` writes to, which the nodes use for their rendezvous.
            world: The nodes of the task.
            threads: CPU threads on this node.
            over: Returns whether the task has ended.
        """

    @abstractmethod
    def check(self, job: Job[C]) -> Summary:
        """Read the output back; raises IncompleteArtifact if it is not complete."""

    def results(self, folder: Path, shown_at: Path) -> Iterator[Any]:
        """Yield the results of a published output for `kd run` and `kd report` to print: strings and rich renderables.

        Args:
            folder: The output in the store.
            shown_at: The path to print for it.
        """
        yield from ()

    def forecast(self, stage: Stage, known: Any) -> StageForecast | None:
        """Forecast the work and the bytes of each task from the known sizes of the recipe's texts and models.

        Args:
            stage: the stage with its tasks.
            known: `kd.models.known.Known`, which has the forecasts of all earlier stages.

        Returns:
            None if the kind has no forecast; its cost is then unknown, and everything else is still forecast.
        """

    def spent(self, folder: Path, manifest: Mapping[str, Any], work: TaskWork) -> Iterator[Spent]:
        """Divide the seconds of a finished task among the parts of its work.

        By default, all seconds go to a task's only part; with several parts they cannot be divided.

        Args:
            folder: the output folder.
            manifest: its manifest; in a probe, `seconds` and `cpu_seconds` are those that the probe measured.
            work: the task's forecast.
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
    after: tuple[str, ...] = ()  # stages that it waits for without reading from them
    role: str | None = None  # role in the experiment, such as `student`; None: see `Stage.role`


@dataclass(eq=False, repr=False)  # a stage refers to everything upstream: its full repr would fill memory
class Stage:
    """An instance of a stage, for one value of its axis."""

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
        """Its typed config."""
        return self.spec.config

    @property
    def kind(self) -> Kind[Any]:
        """Its kind."""
        return self.spec.kind

    @property
    def role(self) -> str | None:
        """The role in the experiment: declared by the recipe, implied by the readers, or else the kind's default."""
        return self.spec.role or self.kind.role

    def upstream(self) -> Iterator[Stage]:
        """Yield every stage that this stage depends on, directly or indirectly, each once."""
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
        """Return the stage's axis value by name; without an axis, the values of all stages that it depends on."""
        if self.axis is not None:
            return {self.axis: self.axis_value}
        upstream = [stage for inputs in self.inputs.values() for _, stage in inputs]
        return {name: value for stage in upstream for name, value in stage.axis_values().items()}

    def input_tasks(self, role: str) -> list[Input]:
        """Return every task of every stage of a role."""
        return [Input(label, task) for label, stage in self.inputs.get(role, []) for task in stage.tasks]


@dataclass(eq=False, repr=False)
class Task:
    """One independently restartable part of a stage."""

    stage: Stage
    name: str
    fingerprint: str
    lineage: str  # the hash of the work whatever its extent
    identity: Mapping[str, Any]
    inputs: Mapping[str, list[Input]]
    files: Mapping[Path, str]
    subject: Mapping[str, Any] = field(default_factory=dict)  # describes the output; see TaskSpec.subject

    def __repr__(self) -> str:
        return f"Task({self.full_name}@{self.fingerprint})"

    @property
    def full_name(self) -> str:
        """`stage/task`."""
        return f"{self.stage.name}/{self.name}"

    @property
    def relative(self) -> Path:
        """The path of the task's output within a store."""
        return Path(self.stage.name, self.fingerprint, self.name)

    def upstream(self) -> Iterator[Task]:
        """Yield the tasks that this task reads from."""
        for inputs in self.inputs.values():
            for item in inputs:
                yield item.task
