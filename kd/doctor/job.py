"""Check the nodes of a cluster in a job on two nodes, submitted like a training.

The job runs `python -m kd.doctor.job FOLDER` once on each node, which reads the machine from FOLDER and writes its
findings there.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kd.base.errors import TransientError, UserError
from kd.doctor import disk, reduce, software
from kd.doctor.findings import Finding, error, ok
from kd.launch import container
from kd.launch.slurm import client
from kd.launch.slurm.script import quoted, request
from kd.recipe.schema import MachineConfig, ResourcesConfig

NODES = 2
MINUTES = 10
POLL_SECONDS = 1.0
MACHINE = "machine.json"


def look(machine: MachineConfig, folder: Path, report: Callable[[str], None]) -> dict[str, list[Finding]]:
    """Submit the job, wait for its end, and return its findings by host; the key "" holds findings about both nodes.

    Args:
        machine: The machine.
        folder: A new folder on the file system of the run.
        report: Called with each change of the job's state.

    Raises:
        UserError: Slurm refuses the job.
    """
    wanted = machine.resources.get("train")
    if wanted is None:
        raise UserError("machine.resources.train is missing.", "conf/machine/README.md explains this setting.")
    (folder / MACHINE).write_text(json.dumps(asdict(machine)), "utf-8")
    script = folder / "job.sh"
    script.write_text(_script(machine, wanted, folder), "utf-8")
    job = client.submit([str(script)])
    report(f"Job {job} checks {NODES} nodes; Ctrl-C cancels it.")
    try:
        _wait(job, report)
    except KeyboardInterrupt:
        client.cancel([job])
        raise
    return _collect(folder)


def _wait(job: str, report: Callable[[str], None]) -> None:
    before = ""
    while True:
        try:
            row = next((row for row in client.queue() if row.array == job), None)
            if row is None or not row.active:
                return
            state = f"{row.state.lower()}{f' ({row.reason})' if row.reason else ''}"
        except TransientError as problem:  # the job is still in the queue, and needs the folder
            state = str(problem)
        if state != before:
            report(f"  {state}")
            before = state
        time.sleep(POLL_SECONDS)


def _collect(folder: Path) -> dict[str, list[Finding]]:
    records = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("node-*.json"))]
    found = {record["host"]: [Finding(**finding) for finding in record["findings"]] for record in records}
    if len(records) < NODES:
        message = f"{len(records)} of {NODES} nodes answered{_last_words(folder)}"
        hint = f"See {folder / 'job.out'}; check machine.modules, machine.environment and machine.container."
        return {**found, "": [error("job", message, hint)]}
    together = [ok("job", f"ran on {' and '.join(found)}"), disk.judge(record["won"] for record in records)]
    return {**found, "": together}


def _last_words(folder: Path) -> str:
    path = folder / "job.out"
    lines = path.read_text("utf-8", "replace").split("\n") if path.is_file() else []
    message = [line.strip() for line in lines if line.strip()]
    return f": {message[-1]}" if message else ""


def _script(machine: MachineConfig, wanted: ResourcesConfig, folder: Path) -> str:
    asked: dict[str, str | None] = {
        "job-name": "kd-doctor",
        "output": str(folder / "job.out").replace("%", "%%"),
        "nodes": str(NODES),
        "ntasks-per-node": "1",
        "cpus-per-task": str(wanted.cores),
        "time": str(MINUTES),
        **request(machine, wanted, "train"),
    }
    options = [
        f"#SBATCH --{name}" + (f"={quoted(value)}" if value is not None else "") for name, value in asked.items()
    ]
    modules = [f"module load {shlex.quote(name)}" for name, loaded in machine.modules.items() if loaded]
    given = {**machine.environment, **({"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {})}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in given.items()]
    look = [sys.executable, "-P", "-m", "kd.doctor.job", str(folder)]
    command = shlex.join(container.wrap(asdict(machine), look, binds=container.binds({}, folder)))
    first = f'$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n {NODES} | head -n 1)'
    meet = f"KD_RENDEZVOUS={first}:$((15000 + SLURM_JOB_ID % 15000))"
    start = f"srun --nodes={NODES} --ntasks={NODES} --ntasks-per-node=1 --cpus-per-task={wanted.cores} {command}"
    shell = "#!/bin/bash -l" if modules else "#!/bin/bash"
    return "\n".join([shell, *options, *modules, *exports, meet, "export KD_RENDEZVOUS", start, ""])


def main(folder: Path) -> None:
    """Run the checks of this node."""
    rank = int(os.environ["SLURM_NODEID"])
    plain: Any = json.loads((folder / MACHINE).read_text("utf-8"))
    machine = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(MachineConfig), plain))
    assert isinstance(machine, MachineConfig)
    gpus = machine.resources["train"].gpus if machine.device != "cpu" else 0
    won = disk.race(folder)
    findings = [*software.torch(machine, gpus), *software.fairseq(), *disk.speed(folder)]
    if not any(finding.level == "error" and finding.subject != "fairseq" for finding in findings):
        address = os.environ["KD_RENDEZVOUS"]
        findings += reduce.over(NODES, rank, max(1, gpus), address, machine.device if gpus else "cpu")
    record = {"host": socket.gethostname(), "findings": [asdict(finding) for finding in findings], "won": won}
    aside = folder / f".node-{rank}.{secrets.token_hex(4)}"
    aside.write_text(json.dumps(record), "utf-8")
    aside.replace(folder / f"node-{rank}.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
