"""Render the job script of a stage: its requests to the cluster, and its commands.

Config values are data: they are quoted for sbatch in #SBATCH lines, and for bash elsewhere.
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

# Comments above the variables of a machine in a script: why they are set.
REASONS = {
    "NCCL_SOCKET_IFNAME": "The network between the nodes; by default NCCL may choose the administration network",
    "GLOO_SOCKET_IFNAME": "The network between the nodes, for communication between CPUs",
    "NCCL_NET_GDR_LEVEL": "The largest distance between GPU and network card for direct transfers that bypass the "
    "CPU's memory",
    "NCCL_CROSS_NIC": "Whether rings of GPUs may go over different network cards from node to node",
    "NCCL_IB_HCA": "The InfiniBand cards that NCCL uses",
    "NCCL_DEBUG": "The amount of output that NCCL prints",
    "MIOPEN_USER_DB_PATH": "MIOpen's kernels: its default place is on a file system that cannot lock",
    "MIOPEN_CUSTOM_CACHE_DIR": "MIOpen's kernels: its default place is on a file system that cannot lock",
    "FI_CXI_DEFAULT_CQ_SIZE": "Slingshot's completion queues, which large collectives overflow",
    "FI_CXI_ATS": "Slingshot's address translation, which must be off with ROCm",
    "CXI_FORK_SAFE": "Processes that fork after the network is set up",
}

# Options of sbatch with a key of their own in machine.resources.CLASS …
_KEYS = {
    "partition": "partition",
    "qos": "qos",
    "account": "account",
    "nodes": "nodes",
    "cpus-per-task": "cores",
    "time": "hours",
    "mem": "memory",
}
# … and those that submission, restarts and logs depend on.
_RESERVED = frozenset(
    (
        *("array", "chdir", "clusters", "comment", "dependency", "error", "export", "export-file", "input", "job-name"),
        *("kill-on-invalid-dep", "no-requeue", "ntasks", "ntasks-per-node", "open-mode", "output", "parsable"),
        *("requeue", "signal", "test-only", "wait", "wrap"),
    )
)


@dataclass(frozen=True)
class Settings:
    """Settings that all job scripts of a run share."""

    recipe: str
    frozen: str
    machine: MachineConfig
    requeues: int
    run: Run
    command: Callable[[Task, str, Path], list[str]]


@dataclass(frozen=True)
class Script:
    """A job script; its name contains a hash of its text, so that the script of a queued job is never overwritten."""

    name: str
    text: str


def resources(machine: MachineConfig, stage: Stage) -> ResourcesConfig:
    """Return the resources of a stage's jobs.

    Raises:
        UserError: The machine does not define them, or this stage cannot use them.
    """
    name = stage.kind.resources
    where = f"machine.resources.{name}"
    if name not in machine.resources:
        raise UserError(
            f"The machine {machine.name} has no resources for jobs of the class {name}, such as {stage.name}.",
            f"Set {where}; conf/machine/README.md explains it.",
        )
    found = machine.resources[name]
    if found.nodes > 1 and not stage.kind.several_nodes:
        raise UserError(f"{where}.nodes is {found.nodes}.", "Only trainings run on several nodes: set it to 1.")
    if stage.kind.several_nodes and machine.device != "cpu" and found.gpus < 1:
        raise UserError(
            f"{where}.gpus is {found.gpus}, but the machine's device is {machine.device}.",
            "Give trainings a GPU, or set machine.device=cpu.",
        )
    if found.hours * 60 <= machine.warning_minutes:
        raise UserError(
            f"Jobs of the class {name} have a time limit of {found.hours * 60:g} minutes, "
            f"but machine.warning_minutes is {machine.warning_minutes:g}.",
            f"Raise {where}.hours, or lower machine.warning_minutes.",
        )
    return found


def render(part: Part, settings: Settings) -> Script:
    """Render the script of a stage, or of a part of it that fits into one array."""
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
    """Return a stage's name as a file name that needs no quotes."""
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", name)
    return safe if safe == name else f"{safe[:60]}-{digest(name)[:6]}"


def output(run: Run, stem: str) -> str:
    """Return the value of --output: the file of Slurm's own messages about a job."""
    path = str(Records(run).folder / "output" / f"{stem}.%A_%a.out")
    head, _, tail = path.rpartition("/")
    if "\\" in head:  # then Slurm does not replace %A and %a, and all elements would share one file
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
    options |= request(machine, wanted, stage.kind.resources)
    if stage.kind.exclusive:
        options.setdefault("exclusive", None)
    for name, value in options.items():
        if value is not None and not value.isprintable():
            raise UserError(
                f"{value!r} cannot stand in a job script (--{name}).",
                "Remove line breaks and control characters from it.",
            )
    return options


def request(machine: MachineConfig, wanted: ResourcesConfig, name: str) -> dict[str, str | None]:
    """Return the sbatch options, beyond nodes, cores and time, that a class of stages (given by name) requests.

    Raises:
        UserError: `machine.resources.CLASS.options` has an option that kd sets itself.
    """
    found: dict[str, str | None] = {}
    if wanted.memory is not None:
        found["mem"] = memory(wanted.memory)
    if wanted.gpus and not {"gpus", "gpus-per-node", "gpus-per-task"} & set(wanted.options):
        found["gres"] = f"gpu:{wanted.gpus}"
    account = wanted.account or machine.account
    named = (("partition", wanted.partition), ("qos", wanted.qos), ("account", account))
    found |= {option: value for option, value in named if value is not None}
    for option, value in wanted.options.items():
        _check_option(option, value, f"machine.resources.{name}")
        if value is not None and value is not False:
            found[option] = None if value is True else str(value)
    return found


def _check_option(option: str, value: object, where: str) -> None:
    if option in _KEYS:
        raise UserError(f"{where}.options has {option}.", f"Set {where}.{_KEYS[option]} instead.")
    if option in _RESERVED:
        raise UserError(f"{where}.options has {option}, which kd sets itself.", "Remove it.")
    if not re.fullmatch(r"[a-z][a-z0-9]+(-[a-z0-9]+)*", option):
        hint = "Write the long name without dashes in front, such as {constraint: gpu}."
        raise UserError(f"{where}.options has {option!r}, which is not an option of sbatch.", hint)
    if isinstance(value, dict | list):
        raise UserError(f"{where}.options.{option} is {value}.", "Set it to a text, a number, true or null.")


def memory(gigabytes: float) -> str:
    """Format the memory of a node for sbatch; 0 means all of it."""
    return f"{math.ceil(gigabytes * 1000)}M" if gigabytes else "0"


def throttle(wanted: ResourcesConfig) -> str:
    """Return the suffix of an array's elements that limits how many run at once."""
    return f"%{wanted.side_by_side}" if wanted.side_by_side else ""


def _variables(machine: MachineConfig, wanted: ResourcesConfig, *, network: bool) -> list[tuple[str, dict[str, str]]]:
    """Return the variables to export, in groups with a comment."""
    gpus = wanted.gpus if machine.device != "cpu" else 0
    found = [
        (
            "As many threads as cores: results on a CPU depend on the number of threads"
            + ("" if network else "; libraries do not try to reach a network"),
            environment.variables(wanted.cores, network=network),
        ),
        (
            "Devices and processes of the task on its node",
            {"KD_GPUS": str(gpus), "KD_PROCESSES": str(wanted.processes), environment.WAIT: "1"},
        ),
    ]
    if os.environ.get("PYTHONPATH"):
        places = [str(Path(place).absolute()) for place in os.environ["PYTHONPATH"].split(os.pathsep) if place]
        found.append(("The folder from which `kd run` imported kd", {"PYTHONPATH": os.pathsep.join(places)}))
    for name, value in machine.environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UserError(
                f"machine.environment has {name!r}.", "A variable's name consists of letters, digits and _."
            )
        found.append((REASONS.get(name, f"Settings of the machine {machine.name}"), {name: value}))
    return found


def _command(part: Part, settings: Settings) -> list[str]:
    """Return the command line of a task without its last word, the task's name."""
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
    """Quote a value for an #SBATCH line, which has its own rules."""
    if re.fullmatch(r"[\w./:%@,+=-]+", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def one_line(value: str) -> str:
    """Return a text that fits into a comment."""
    return "".join(char if char.isprintable() else "?" for char in value)
