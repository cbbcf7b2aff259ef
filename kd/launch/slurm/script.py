"""Renders the script that the jobs of a stage run: what it asks of the cluster, and what it does there.

Whatever comes from config is data: it is quoted for sbatch where sbatch reads it, and for bash where bash does.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jinja2

from kd.base.errors import UserError
from kd.launch import environment
from kd.launch.launcher import LOG_HEAD
from kd.launch.slurm.arrays import Part, ranges
from kd.launch.slurm.records import Records
from kd.pipeline.fingerprint import digest
from kd.pipeline.model import Stage, Task
from kd.pipeline.run import Run
from kd.recipe.schema import MachineConfig, ResourcesConfig

# Why a machine sets a variable: what stands above it in a script.
REASONS = {
    "NCCL_SOCKET_IFNAME": "The network between the nodes; NCCL by itself may take the one for administration",
    "GLOO_SOCKET_IFNAME": "The network between the nodes, for what is not on GPUs",
    "NCCL_NET_GDR_LEVEL": "How far apart GPU and network card may be to talk without the CPU's memory between them",
    "NCCL_CROSS_NIC": "Whether rings of GPUs may go over different network cards from node to node",
    "NCCL_IB_HCA": "The InfiniBand cards that NCCL uses",
    "NCCL_DEBUG": "What NCCL tells of itself",
    "MIOPEN_USER_DB_PATH": "MIOpen's kernels: its default place is on a file system that cannot lock",
    "MIOPEN_CUSTOM_CACHE_DIR": "MIOpen's kernels: its default place is on a file system that cannot lock",
    "FI_CXI_DEFAULT_CQ_SIZE": "Slingshot's completion queues, which large collectives overflow",
    "FI_CXI_ATS": "Slingshot's address translation, which is to be off with ROCm",
    "CXI_FORK_SAFE": "Processes that fork after the network is set up",
}


@dataclass(frozen=True)
class Settings:
    """What all scripts of a run share."""

    recipe: str
    frozen: str
    machine: MachineConfig
    requeues: int
    run: Run
    command: Callable[[Task, str, Path], list[str]]


@dataclass(frozen=True)
class Script:
    """A job script: its name says its content, so that one which is queued is never written over."""

    name: str
    text: str


def resources(machine: MachineConfig, stage: Stage) -> ResourcesConfig:
    """What a job of a stage takes; raises UserError where the machine does not say, or says what cannot be."""
    name = stage.kind.resources
    where = f"machine.resources.{name}"
    if name not in machine.resources:
        raise UserError(
            f"The machine {machine.name} does not say what jobs of the class {name} take ({stage.name} is one).",
            f"Set {where}: conf/machine/README.md explains it.",
        )
    found = machine.resources[name]
    if found.nodes > 1 and not stage.kind.several_nodes:
        raise UserError(f"{where}.nodes is {found.nodes}.", "Only trainings run on several nodes: set it to 1.")
    if stage.kind.several_nodes and machine.device != "cpu" and found.gpus < 1:
        raise UserError(
            f"{where}.gpus is {found.gpus}, and the machine's device is {machine.device}.",
            "Give trainings a GPU, or set machine.device=cpu.",
        )
    if found.hours * 60 <= machine.warning_minutes:
        raise UserError(
            f"Jobs of the class {name} last {found.hours * 60:g} minutes, and are told machine.warning_minutes "
            f"({machine.warning_minutes:g}) before they end.",
            f"Raise {where}.hours, or lower machine.warning_minutes.",
        )
    return found


def render(part: Part, settings: Settings) -> Script:
    """The script of a stage, or of as much of it as an array holds."""
    stage, machine = part.stage, settings.machine
    wanted = resources(machine, stage)
    records = Records(settings.run)
    stem = file_name(stage.name) + (f".{part.number + 1}" if part.number else "")
    template = _environment().get_template("job.sh.j2")
    values = {
        "title": f"{settings.recipe}: {stage.name}",
        "options": _options(part, wanted, settings, stem),
        "tasks": [task.name for task in part.tasks],
        "logs": str(settings.run.log(part.tasks[0]).parent),
        "log_head": LOG_HEAD,
        "warning": _warning(machine),
        "modules": [name for name, loaded in machine.modules.items() if loaded],
        "environment": _variables(machine, wanted, network=stage.kind.network),
        "nodes": wanted.nodes,
        "cores": wanted.cores,
        "command": [shlex.quote(word) for word in _command(part, settings)],
        "requeues": settings.requeues,
        "requeue": machine.requeue,
        "folder": str(records.folder),
        "lease": str(records.lease),
    }
    name = f"{stem}.{digest(template.render(values, path=''))[:8]}.sh"
    return Script(name, template.render(values, path=str(records.folder / name)))


def file_name(name: str) -> str:
    """A stage's name as one that shells, Slurm and people read without quotes."""
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", name)
    return safe if safe == name else f"{safe[:60]}-{digest(name)[:6]}"


def output(run: Run, stem: str) -> str:
    """The file that Slurm's own messages about a job go to, as --output has it."""
    path = str(Records(run).folder / "output" / f"{stem}.%A_%a.out")
    head, _, tail = path.rpartition("/")
    if "\\" in head:  # Slurm then fills in no number of job and element: they would share one file
        return "/dev/null"
    return f"{head.replace('%', '%%')}/{tail}"


def _options(part: Part, wanted: ResourcesConfig, settings: Settings, stem: str) -> dict[str, str | None]:
    machine, stage = settings.machine, part.stage
    options: dict[str, str | None] = {
        "job-name": f"{settings.recipe}:{stage.name}",
        "chdir": str(settings.run.folder),
        "output": output(settings.run, stem),
        "open-mode": "append",
        "array": ranges(range(len(part.tasks))) + throttle(wanted),
        "nodes": str(wanted.nodes),
        "ntasks-per-node": "1",
        "cpus-per-task": str(wanted.cores),
        "time": _time(wanted.hours),
        "signal": f"B:USR1@{_warning(machine)}",
        "kill-on-invalid-dep": "yes",
        "requeue" if machine.requeue else "no-requeue": None,
    }
    if wanted.memory is not None:
        options["mem"] = memory(wanted.memory)
    if wanted.gpus:
        options["gres"] = f"gpu:{wanted.gpus}"
    account = wanted.account or machine.account
    for name, value in (("partition", wanted.partition), ("qos", wanted.qos), ("account", account)):
        if value is not None:
            options[name] = value
    if stage.kind.exclusive:
        options["exclusive"] = None
    for name, value in options.items():
        if value is not None and not value.isprintable():
            raise UserError(f"{value!r} cannot stand in a job script (--{name}).", "Take the line break out of it.")
    return options


def memory(gigabytes: float) -> str:
    """Memory of a node as sbatch takes it; 0: all that the node has."""
    return f"{math.ceil(gigabytes * 1000)}M" if gigabytes else "0"


def throttle(wanted: ResourcesConfig) -> str:
    """What follows an array's elements where only some may run at once."""
    return f"%{wanted.side_by_side}" if wanted.side_by_side else ""


def _variables(machine: MachineConfig, wanted: ResourcesConfig, *, network: bool) -> list[tuple[str, dict[str, str]]]:
    """What is exported, with the reason of each."""
    gpus = wanted.gpus if machine.device != "cpu" else 0
    found = [
        (
            "As many threads as cores: results on a CPU depend on their number"
            + ("" if network else "; and nothing tries to reach a network"),
            environment.variables(wanted.cores, network=network),
        ),
        (
            "What a task is to know of its node",
            {"KD_GPUS": str(gpus), "KD_PROCESSES": str(wanted.processes), environment.WAIT: "1"},
        ),
    ]
    if os.environ.get("PYTHONPATH"):
        places = [str(Path(place).absolute()) for place in os.environ["PYTHONPATH"].split(os.pathsep) if place]
        found.append(("Where `kd run` found kd", {"PYTHONPATH": os.pathsep.join(places)}))
    for name, value in machine.environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(f"machine.environment has {name!r}.", "A variable's name is of letters, digits and _.")
        found.append((REASONS.get(name, f"Of the machine {machine.name}"), {name: value}))
    return found


def _command(part: Part, settings: Settings) -> list[str]:
    """The command line of a task but for its last word, the task's name."""
    task = part.tasks[0]
    words = settings.command(task, settings.frozen, settings.run.folder)
    assert words[-1] == task.name
    return words[:-1]


def _warning(machine: MachineConfig) -> int:
    return math.ceil(machine.warning_minutes * 60)


def _time(hours: float) -> str:
    minutes, seconds = divmod(round(hours * 3600), 60)
    return f"{minutes // 1440}-{minutes // 60 % 24:02}:{minutes % 60:02}:{seconds:02}"


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # no HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"shell": shlex.quote, "quoted": quoted, "one_line": one_line}
    return made


def quoted(value: str) -> str:
    """A value for a line of #SBATCH, whose quotes are its own."""
    if re.fullmatch(r"[\w./:%@,+=-]+", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def one_line(value: str) -> str:
    """Text for a comment."""
    return "".join(char if char.isprintable() else "?" for char in value)
