"""Settings of where and how a recipe runs, and of its chain of stages.

None of launcher, machine and tracking changes what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class LauncherConfig:
    """Where tasks execute."""

    kind: str = MISSING  # local | slurm
    # Of what runs on this computer; on a cluster that is at most the downloading, where its nodes reach no network.
    processes: int = MISSING  # tasks side by side
    threads: int = MISSING  # shared out evenly among them; results on CPU depend on the number each task gets
    requeues: int = 0  # how often a job may go back into the queue: time limits, preemption, nodes that fail


@dataclass
class ResourcesConfig:
    """What a job of one class of stages takes, on each of its nodes where nothing else is said."""

    nodes: int = 1  # of a task; more than one for trainings alone, as one torchrun over all of them
    gpus: int = 0
    cores: int = MISSING  # also the number of threads, which results on a CPU depend on
    processes: int = 1  # of a task that trains or decodes, on a node without GPUs; else one for each GPU
    # GB; 0: all that the node has; null: not asked for, what the site gives with the cores or GPUs.
    memory: float | None = None
    hours: float = MISSING  # time limit of a job; longer work goes on in the next
    partition: str | None = None  # null: the scheduler's default
    qos: str | None = None
    account: str | None = None  # null: the machine's
    side_by_side: int = 0  # tasks of a stage that run at once; 0: as many as the scheduler lets


@dataclass
class MachineConfig:
    """The facts of one computer: a laptop, or a cluster whose nodes are alike. conf/machine/README.md explains them."""

    name: str = MISSING
    device: str = MISSING  # cpu | cuda | rocm
    # Of a node.
    gpus_per_node: int = MISSING
    cores_per_node: int | None = None
    memory_per_node: float | None = None  # GB
    gpu: str | None = None  # what the GPU calls itself, shortened as in papers: A100-40GB
    gpu_memory: float | None = None  # GB
    # Class of stages (train, decode, cpu, light) -> what its jobs take. Schedulers ask for it; a laptop does not.
    resources: dict[str, ResourcesConfig] = field(default_factory=dict)
    account: str | None = MISSING  # the project that jobs are charged to; null where there is none
    max_array: int = 1001  # Slurm's MaxArraySize: the highest number of an array's element, and one more
    requeue: bool = True  # whether a job may put itself back into the queue
    warning_minutes: float = 5.0  # before a job's time limit it is told, to write its checkpoint
    modules: dict[str, bool] = field(default_factory=dict)  # loaded before anything runs
    environment: dict[str, str] = field(default_factory=dict)  # exported to every task: NCCL_SOCKET_IFNAME …
    online: bool = True  # whether compute nodes reach the internet; if not, collect runs where `kd run` is typed
    # Container: path of an image that every task runs in; null: none.
    container: str | None = None
    container_flags: dict[str, bool] = field(default_factory=dict)  # of apptainer exec: --nv, --rocm …
    binds: dict[str, str] = field(default_factory=dict)  # folder out here -> where it is in there
    # Energy.
    pue: float | None = None  # power usage effectiveness: all the centre takes to what its computers take
    carbon_intensity: float | None = None  # kg CO2e a kWh, of the grid or contract


@dataclass
class TrackingConfig:
    """How loudly a run reports, and what else shows its trainings; docs/tracking.md."""

    refresh: float = MISSING  # seconds between two lines of progress where the output is no terminal
    # tensorboard | wandb | mlflow -> whether a training's curves are written for it, below RUN/tracking/.
    trackers: dict[str, bool] = field(default_factory=dict)


@dataclass
class FolderConfig:
    """A folder."""

    dir: str = MISSING


@dataclass
class StageConfig:
    """An entry of the chain: a kind with its settings and the stages it reads from, by role."""

    kind: str = MISSING
    over: str | None = None  # `pairs`: one instance per language pair, named `stage.pair`
    enabled: bool = True
    otherwise: str | None = None  # the stage that others read from in its place while it is switched off
    inputs: dict[str, Any] = field(default_factory=dict)  # role -> stage name, or -> mapping of name -> stage name
    after: str | None = None  # stage to wait for without reading from it: only the order of work on a small machine
    settings: Any = None
    # Laid over the settings: `settings: ${student}` with `changes: {max_update: 500}`.
    changes: dict[str, Any] = field(default_factory=dict)
