"""Implement `kd doctor`: run the checks locally or in a Slurm job, and print the findings."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from rich.console import Console
from rich.text import Text

from kd.base.errors import TransientError, UserError
from kd.doctor import disk, findings, job, reduce, software
from kd.doctor.findings import Finding
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.recipe.schema import MachineConfig

LOCAL_WORKERS = 2  # on a computer without GPUs: the fewest that communicate


def run(request: Request) -> int:
    """Check a machine; return 1 if a check found an error, else 0."""
    config = compose.compose(request)
    machine = _machine(config)
    console = Console(highlight=False)
    console.print(Text(f"{machine.name}, launcher {config.launcher.kind}: seen from {socket.gethostname()}"))
    found = _of_the_disk(config) + software.container(machine, *_folders(config))
    findings.show(found, console)
    if config.launcher.kind == "slurm":
        found += _of_the_nodes(machine, _existing(Path(config.run.dir)), console)
    else:
        here = _of_this_node(machine)
        findings.show(here, console)
        found += here
    return findings.exit_status(found)


def _machine(config: DictConfig) -> MachineConfig:
    try:
        machine = OmegaConf.to_object(config.machine)
    except MissingMandatoryValue as error:
        raise UserError(
            f"machine.{error.key} is not set, and {config.machine.name} needs it.", f"Add machine.{error.key}=VALUE."
        ) from None
    assert isinstance(machine, MachineConfig)
    return machine


def _of_the_disk(config: DictConfig) -> list[Finding]:
    """Check the space, speed and locks of the run folder's and the store's file systems, each file system once."""
    one_of_each = {folder.stat().st_dev: folder for folder in sorted(_folders(config), reverse=True)}
    checks = (disk.room, disk.speed, disk.locks)
    return [finding for folder in one_of_each.values() for check in checks for finding in check(folder)]


def _folders(config: DictConfig) -> set[Path]:
    return {_existing(Path(place)) for place in (config.run.dir, config.store.dir)}


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest existing ancestor."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _of_this_node(machine: MachineConfig) -> list[Finding]:
    gpus = machine.gpus_per_node if machine.device != "cpu" else 0
    found = [*software.torch(machine, gpus), *software.fairseq()]
    if any(finding.level == "error" and finding.subject != "fairseq" for finding in found):
        return found
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    workers = gpus or LOCAL_WORKERS
    return found + reduce.over(1, 0, workers, address, machine.device if gpus else "cpu")


def _of_the_nodes(machine: MachineConfig, place: Path, console: Console) -> list[Finding]:
    try:
        folder = Path(tempfile.mkdtemp(prefix=".kd-doctor-", dir=place))
    except OSError:  # the check of the disk has reported why
        found = [
            findings.error(
                "job", f"not submitted: nothing can be written to {place}", "Set run.dir to a writable folder."
            )
        ]
        findings.show(found, console)
        return found
    return _of_the_job(machine, folder, console)


def _of_the_job(machine: MachineConfig, folder: Path, console: Console) -> list[Finding]:
    try:
        found = job.look(machine, folder, lambda line: console.print(Text(line), soft_wrap=True))
    except (UserError, TransientError) as problem:
        shutil.rmtree(folder)
        found = {"": [findings.error("job", str(problem), "conf/machine/README.md explains the options of sbatch.")]}
    for host, of_host in found.items():
        findings.show(of_host, console, f"{host}: " if host else "")
    every = [finding for of_host in found.values() for finding in of_host]
    if not findings.exit_status(every):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        console.print(Text(f"The job's files are kept in {folder}."), soft_wrap=True)
    return every
