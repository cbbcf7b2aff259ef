"""Settings of the launcher, the machine, tracking and the chain of stages.

Launcher, machine and tracking never change the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kd.recipe.schema.marks import setting


class SystemRole(StrEnum):
    """The role of a model in the experiment. `chain.STAGE.role` declares it."""

    teacher = "teacher"
    student = "student"  # trained on teacher output
    control = "control"  # the student's architecture, trained on gold
    external = "external"  # an outside system, of which only its output is known


class LauncherKind(StrEnum):
    """The component that executes tasks."""

    local = "local"  # processes on this computer
    slurm = "slurm"


@dataclass
class LauncherConfig:
    """Where tasks execute."""

    kind: LauncherKind = setting("Executor of tasks: processes on this computer, or Slurm.")
    processes: int = setting(
        "Tasks that run at once on this computer; with Slurm, only downloads run here, if the nodes have no network.",
        unit="tasks",
        at_least=1,
        aliases=("jobs", "num_workers"),
    )
    threads: int = setting(
        "Threads, divided evenly among these tasks; results on a CPU depend on the number per task.",
        unit="threads",
        at_least=1,
    )
    requeues: int = setting(
        "Largest number of requeues of a job, after time limits, preemption or failed nodes.", 0, at_least=0
    )


@dataclass
class ResourcesConfig:
    """Resources of a job of one class of stages, per node unless stated otherwise."""

    nodes: int = setting(
        "Nodes of a task; several only for trainings, as one torchrun over all nodes.",
        1,
        unit="nodes",
        at_least=1,
    )
    gpus: int = setting("GPUs; a task that trains or decodes runs one process per GPU.", 0, unit="GPUs", at_least=0)
    cores: int = setting(
        "Cores, and as many threads; results on a CPU depend on their number.", unit="cores", at_least=1
    )
    processes: int = setting(
        "Processes of a task that trains or decodes, on a node without GPUs.", 1, unit="processes", at_least=1
    )
    memory: float | None = setting(
        "Memory; 0: all of the node's; null: not requested, if the site grants it with cores or GPUs.",
        None,
        unit="GB",
        at_least=0,
        aliases=("mem",),
    )
    hours: float = setting(
        "Time limit of a job; longer work continues in the next job.", unit="hours", above=0, aliases=("time",)
    )
    partition: str | None = setting("Partition; null: the site's default.", None, aliases=("queue",))
    qos: str | None = setting("Quality of service; null: the site's default.", None)
    account: str | None = setting("Project to charge; null: the machine's.", None)
    side_by_side: int = setting("Tasks of a stage that run at once; 0: no limit.", 0, unit="tasks", at_least=0)
    online: bool | None = setting("Whether these jobs reach the internet; null: as machine.online.", None)
    options: dict[str, Any] = setting(
        "Additional options of sbatch, such as {constraint: gpu, exclude: node7}; true: an option without a value; "
        "null: none.",
        factory=dict,
        aliases=("sbatch", "extra"),
    )


class Device(StrEnum):
    """The kind of device that computes."""

    cpu = "cpu"
    cuda = "cuda"
    rocm = "rocm"


@dataclass
class MachineConfig:
    """The facts of one computer: a laptop, or a cluster whose nodes are alike (conf/machine/README.md)."""

    name: str = setting("Name of the machine in reports.")
    device: Device = setting("What computes.", aliases=("gpu", "cuda"))
    gpus_per_node: int = setting("GPUs of a node.", unit="GPUs", at_least=0, aliases=("gpus", "num_gpus", "n_gpu"))
    cores_per_node: int | None = setting("Cores of a node, without hyper-threads.", None, unit="cores", at_least=1)
    memory_per_node: float | None = setting("Memory of a node.", None, unit="GB", above=0)
    gpu: str | None = setting("Name of the GPU in reports, such as A100-40GB.", None)
    gpu_memory: float | None = setting("Memory of a GPU.", None, unit="GB", above=0)
    resources: dict[str, ResourcesConfig] = setting(
        "Resources of a job, requested from the scheduler, by class of stages: train, decode, cpu, light.", factory=dict
    )
    account: str | None = setting("Project to which jobs are charged; null if the site has none.", aliases=("project",))
    max_array: int = setting("Slurm's MaxArraySize; larger stages are split into several arrays.", 1001, at_least=2)
    requeue: bool = setting("Whether a job may be requeued under the same job id.", True)
    warning_minutes: float = setting(
        "Minutes before the time limit at which a job is warned, so that it can write a checkpoint.",
        5.0,
        unit="minutes",
        at_least=0,
    )
    modules: dict[str, bool] = setting("Environment modules loaded before anything runs, as NAME: true.", factory=dict)
    environment: dict[str, str] = setting(
        "Environment variables of every task: NCCL_SOCKET_IFNAME …", factory=dict, aliases=("env",)
    )
    online: bool = setting(
        "Whether compute nodes reach the internet; if not, collect runs on the computer where `kd run` is typed.", True
    )
    scratch: str | None = setting(
        "Fast local folder, such as $TMPDIR, to which trainings on one node copy their inputs; null: none.",
        None,
        aliases=("tmp", "local_storage"),
    )
    container: str | None = setting(
        "Image that every task runs in (`kd container build`); null: none.",
        None,
        aliases=("image", "singularity", "apptainer"),
        path=True,
    )
    container_flags: dict[str, bool] = setting("Options of `apptainer exec`: --nv, --rocm …", factory=dict)
    binds: dict[str, str] = setting(
        "Folders made visible inside the image, as FOLDER: FOLDER INSIDE.", factory=dict, aliases=("mounts", "bind")
    )
    pue: float | None = setting(
        "Power usage effectiveness: energy of the whole centre divided by energy of its computers.", None, at_least=1
    )
    carbon_intensity: float | None = setting(
        "Carbon intensity of the grid or contract.", None, unit="kg CO2e per kWh", at_least=0
    )

    def reaches_internet(self, name: str) -> bool:
        """Return whether jobs of a class of stages reach the internet."""
        given = self.resources[name].online if name in self.resources else None
        return self.online if given is None else given


@dataclass
class TrackingConfig:
    """How often a run reports, and which trackers show its trainings (docs/tracking.md)."""

    refresh: float = setting(
        "Seconds between two lines of progress if the output is not a terminal.", unit="seconds", at_least=0
    )
    trackers: dict[str, bool] = setting(
        "Trackers to write curves for, below RUN/tracking/: tensorboard, wandb, mlflow.", factory=dict
    )


@dataclass
class FolderConfig:
    """A folder."""

    dir: str = setting("Path of the folder.", path=True, aliases=("output_dir", "save_dir"))


@dataclass
class StageConfig:
    """An entry of the chain: a kind with its settings and the stages it reads from (docs/recipes.md)."""

    kind: str = setting("Kind of the stage: a file of kd/stages/.")
    over: str | None = setting("`pairs`: one instance per language pair, named `stage.pair`; null: one for all.", None)
    enabled: bool = setting("Whether the stage is part of the run.", True)
    otherwise: str | None = setting("Stage that others read from instead while this one is switched off.", None)
    only_with: str | None = setting("Stage without which this one is switched off as well.", None)
    role: SystemRole | None = setting(
        "Role of the stage's model. null: teacher for models trained elsewhere and for a training that a stage of the "
        "kind decode reads, student for every other training; a stage of the kind average has the role of its model.",
        None,
    )
    inputs: dict[str, Any] = setting("Stage to read from by role, or a mapping of labels to stages.", factory=dict)
    after: str | None = setting("Stage to wait for without reading from it.", None)
    settings: Any = setting("Settings of the kind, mostly a reference such as `${student}`.", None)
    changes: dict[str, Any] = setting("Keys that override `settings` in this stage.", factory=dict)
