"""Looks at what runs on a node: torch and the driver, the GPUs that are seen, fairseq, and the container runtime.

Each look is a function that returns findings and raises nothing, whatever is missing.
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

SECONDS = 120.0  # for a program to answer; an image on a slow file system takes its time


def torch(machine: MachineConfig, gpus: int) -> list[Finding]:
    """Whether torch is built for this device and finds `gpus` of them through the driver."""
    try:
        import torch
    except Exception as problem:  # a library that is missing shows as any kind of error
        return [error("torch", f"cannot be imported: {problem}", "Install kd anew: make install, or use a container.")]
    built = "cuda" if torch.version.cuda else "rocm" if torch.version.hip else "cpu"
    name = f"{torch.__version__}, built for {built} {torch.version.cuda or torch.version.hip or ''}".rstrip()
    if machine.device == "cpu" or not gpus:
        return [ok("torch", f"{name}; no GPU is wanted here")]
    if built != machine.device:
        hint = f"Install torch for {machine.device}, or use a container of that variant (kd container list)."
        return [error("torch", f"{name}; the machine's device is {machine.device}", hint)]
    driver = _driver(machine.device)
    if not torch.cuda.is_available():
        if driver is None:
            hint = "Look from a node with GPUs (launcher=slurm); a container wants --nv or --rocm (container_flags)."
            return [error("driver", "no GPU driver answers here", hint)]
        hint = "Use a torch built for an older release, or a container with its compatibility libraries."
        return [error("driver", f"{driver} does not serve torch {name}", hint)]
    return [ok("torch", f"{name}; driver: {driver or 'answers'}"), *_gpus(machine, gpus)]


def _gpus(machine: MachineConfig, wanted: int) -> list[Finding]:
    import torch

    seen = torch.cuda.device_count()
    facts = [torch.cuda.get_device_properties(number) for number in range(seen)]
    names = ", ".join(sorted({f"{fact.name} ({fact.total_memory / 1e9:.0f} GB)" for fact in facts}))
    if seen < wanted:
        hint = "Set machine.gpus_per_node and machine.resources.train.gpus to it; CUDA_VISIBLE_DEVICES may hide some."
        return [error("GPUs", f"{seen} of {wanted} are seen: {names}", hint)]
    found = [ok("GPUs", f"{seen}: {names}")]
    smallest = min(fact.total_memory for fact in facts) / 1e9
    if machine.gpu_memory is not None and smallest < 0.9 * machine.gpu_memory:
        hint = f"Set machine.gpu_memory={smallest:.0f}: batches are measured by it."
        found.append(warning("GPU memory", f"{smallest:.0f} GB, not the machine's {machine.gpu_memory:g} GB", hint))
    return found


def _driver(device: str) -> str | None:
    """What the driver says of itself; None where none answers."""
    if device == "rocm":
        said = _answer(["rocm-smi", "--showdriverversion"])
        version = re.search(r"[Dd]river version:\s*(\S+)", said or "")
        return f"ROCm {version.group(1)}" if version else said and "ROCm"
    said = _answer(["nvidia-smi"])
    version, cuda = (re.search(rf"{word} Version:\s*([\d.]+)", said or "") for word in ("Driver", "CUDA"))
    if version is None:
        return None
    return f"{version.group(1)}" + (f" (CUDA up to {cuda.group(1)})" if cuda else "")


def fairseq() -> list[Finding]:
    """Whether the training engine can be imported."""
    try:
        from kd.engines.fairseq import compat

        compat.install()
    except Exception as problem:
        hint = "It is installed without its own dependencies: containers/install.sh does that."
        return [error("fairseq", f"cannot be imported: {problem}", hint)]
    return [ok("fairseq", f"{metadata.version('fairseq')}")]


def container(machine: MachineConfig, *folders: Path) -> list[Finding]:
    """Whether there is a container runtime, and whether it starts the machine's image with `folders` in it."""
    facts = asdict(machine)
    try:
        runtime = find_runtime(facts)
    except UserError:
        said = "neither apptainer nor singularity is here"
        if machine.container is None:
            return [ok("container", f"none is used (machine.container is null), and {said}")]
        return [error("container", said, "Name the module that brings it: machine.modules.apptainer=true.")]
    there = shutil.which(runtime) is not None
    version = ((there and _answer([runtime, "--version"])) or runtime).strip()
    if machine.container is None:
        return [ok("container", f"{version}; none is used (machine.container is null)")]
    if not Path(machine.container).exists():
        return [error("container", f"{machine.container} is not there", "Build or copy it: kd container build.")]
    if not there:  # a module brings it; the job that looks at the nodes runs inside the image
        return [ok("container", f"{machine.container} is there; {runtime} comes with a module, on the nodes")]
    try:
        done = _run(wrap(facts, ["true"], binds=binds({}, *folders), runtime=runtime))
    except UserError as problem:  # a folder that cannot be bound
        return [error("container", problem.problem, problem.hint)]
    if done is None or done.returncode != 0:
        said = done.stderr.strip().split("\n")[-1] if done else f"no answer within {SECONDS:.0f} s"
        hint = "Try `kd container exec IMAGE`; machine.container_flags and machine.binds are what it is given."
        return [error("container", f"{version} does not start {machine.container}: {said}", hint)]
    return [ok("container", f"{version} starts {machine.container}")]


def _answer(arguments: list[str]) -> str | None:
    done = _run(arguments)
    return done.stdout if done is not None and done.returncode == 0 else None


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(arguments, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
