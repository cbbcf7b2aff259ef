"""Check the software of a node: torch and the driver, the visible GPUs, fairseq, and the container runtime.

Each check is a function that returns findings, and never raises if something is missing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from kd.base.errors import UserError
from kd.doctor.findings import Finding, error, ok, warning
from kd.launch.container import binds, find_runtime, wrap
from kd.recipe.schema import MachineConfig

SECONDS = 120.0  # timeout of a program: an image on a slow file system starts slowly


def torch(machine: MachineConfig, gpus: int) -> list[Finding]:
    """Check that torch is built for the machine's device and that the driver reports `gpus` GPUs."""
    try:
        import torch
    except Exception as problem:  # a missing library can raise any kind of error
        return [error("torch", f"cannot be imported: {problem}", "Run `make install` again, or use a container.")]
    built = "cuda" if torch.version.cuda else "rocm" if torch.version.hip else "cpu"
    name = f"{torch.__version__}, built for {built} {torch.version.cuda or torch.version.hip or ''}".rstrip()
    if machine.device == "cpu" or not gpus:
        return [ok("torch", f"{name}; no GPU is needed here")]
    if built != machine.device:
        hint = f"Install torch for {machine.device}, or use a container of that variant (kd container list)."
        return [error("torch", f"{name}; the machine's device is {machine.device}", hint)]
    driver = _driver(machine.device)
    if not torch.cuda.is_available():
        if driver is None:
            hint = "Run the check on a node with GPUs (launcher=slurm); containers need machine.container_flags."
            return [error("driver", "this node has no GPU driver", hint)]
        hint = "Use a torch built for an older release, or a container with its compatibility libraries."
        return [error("driver", f"{driver} is too old for torch {name}", hint)]
    return [ok("torch", f"{name}; driver: {driver or 'of unknown version'}"), *_gpus(machine, gpus)]


def _gpus(machine: MachineConfig, wanted: int) -> list[Finding]:
    import torch

    seen = torch.cuda.device_count()
    facts = [torch.cuda.get_device_properties(number) for number in range(seen)]
    names = ", ".join(sorted({f"{fact.name} ({fact.total_memory / 1e9:.0f} GB)" for fact in facts}))
    if seen < wanted:
        hint = (
            "Set machine.gpus_per_node and machine.resources.train.gpus to that number; CUDA_VISIBLE_DEVICES may hide "
            "some."
        )
        return [error("GPUs", f"{seen} of {wanted} are visible: {names}", hint)]
    found = [ok("GPUs", f"{seen}: {names}")]
    smallest = min(fact.total_memory for fact in facts) / 1e9
    if machine.gpu_memory is not None and smallest < 0.9 * machine.gpu_memory:
        hint = f"Set machine.gpu_memory={smallest:.0f}: the batch size is derived from it."
        found.append(warning("GPU memory", f"{smallest:.0f} GB; machine.gpu_memory is {machine.gpu_memory:g}", hint))
    return found


def _driver(device: str) -> str | None:
    """Return the version of the driver; None if there is no driver."""
    if device == "rocm":
        message = _answer(["rocm-smi", "--showdriverversion"])
        version = re.search(r"[Dd]river version:\s*(\S+)", message or "")
        return f"ROCm {version.group(1)}" if version else message and "ROCm"
    message = _answer(["nvidia-smi"])
    version, cuda = (re.search(rf"{word} Version:\s*([\d.]+)", message or "") for word in ("Driver", "CUDA"))
    if version is None:
        return None
    return f"{version.group(1)}" + (f" (CUDA up to {cuda.group(1)})" if cuda else "")


def fairseq() -> list[Finding]:
    """Check that the training engine can be imported."""
    try:
        from kd.engines.fairseq import compat

        compat.install()
    except Exception as problem:
        hint = "Install it without its dependencies, as containers/install.sh does."
        return [error("fairseq", f"cannot be imported: {problem}", hint)]
    return [ok("fairseq", f"{metadata.version('fairseq')}")]


def container(machine: MachineConfig, *folders: Path) -> list[Finding]:
    """Check that the container runtime starts the machine's image with these folders visible inside."""
    facts = asdict(machine)
    try:
        runtime = find_runtime(facts)
    except UserError:
        message = "neither apptainer nor singularity is installed"
        if machine.container is None:
            return [ok("container", f"not used (machine.container is null), and {message}")]
        return [error("container", message, "Name its module: '+machine.modules={Apptainer/VERSION: true}'.")]
    there = shutil.which(runtime) is not None
    version = ((there and _answer([runtime, "--version"])) or runtime).strip()
    if machine.container is None:
        return [ok("container", f"{version}; not used (machine.container is null)")]
    if not Path(machine.container).exists():
        return [
            error(
                "container",
                f"{machine.container} does not exist",
                "Build the image (kd container build) or copy it there.",
            )
        ]
    if not there:  # a module provides it on the nodes, where the job of the checks runs inside the image
        return [ok("container", f"{machine.container} exists; on compute nodes a module provides {runtime}")]
    try:
        done = _run(wrap(facts, ["true"], binds=binds({}, *folders), runtime=runtime))
    except UserError as problem:  # a folder that cannot be bound
        return [error("container", problem.problem, problem.hint)]
    if done is None or done.returncode != 0:
        message = done.stderr.strip().split("\n")[-1] if done else f"no answer within {SECONDS:.0f} s"
        hint = "Try `kd container exec IMAGE`; check machine.container_flags and machine.binds."
        return [error("container", f"{version} does not start {machine.container}: {message}", hint)]
    return [ok("container", f"{version} starts {machine.container}")]


def _answer(arguments: list[str]) -> str | None:
    done = _run(arguments)
    return done.stdout if done is not None and done.returncode == 0 else None


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(arguments, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
