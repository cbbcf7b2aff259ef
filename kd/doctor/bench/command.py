"""Implement `kd doctor bench=true`: find the device, run the measurements, write a JSON file and a page."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.text import Text

from kd.base.errors import UserError
from kd.base.files import write_text
from kd.base.software import versions
from kd.doctor.bench import material, schedule, setup
from kd.doctor.bench.page import line, page
from kd.doctor.bench.results import SCHEMA, Results, State
from kd.engines.fairseq.automatic import run_trial
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.recipe.schema import ModelConfig

SECONDS = 600.0  # of the whole command on a GPU
_HERE = "."
_MODELS = ("recipe=files", "source=en", "target=de", "teacher=transformer_big", "student=deep_shallow_12_1")


@dataclass(frozen=True)
class Options:
    """The arguments of the command line other than the machine: the folder for the results."""

    folder: Path


def parse_options(overrides: Sequence[str]) -> tuple[Options | None, list[str]]:
    """Separate `bench=true` and `folder=DIR` from overrides; None without `bench=true`.

    Raises:
        UserError: `bench` is neither true nor false.
    """
    given = dict(text.split("=", 1) for text in overrides if text.startswith("bench="))
    if given.get("bench") not in (None, "true", "false"):
        raise UserError(f"bench={given['bench']} is neither true nor false.", "Write bench=true.")
    rest = [text for text in overrides if not text.startswith("bench=")]
    if given.get("bench") != "true":
        return None, rest
    folders = [text.partition("=")[2] for text in rest if text.startswith("folder=")]
    return Options(Path(folders[-1] if folders else _HERE)), [each for each in rest if not each.startswith("folder=")]


def run(options: Options, request: Request, seconds: float = SECONDS) -> int:
    """Measure this computer; return 1 if a measurement failed, else 0.

    Raises:
        UserError: The machine has a GPU by its description, but none can be used here, or Slurm was asked for.
    """
    config = compose.compose(request)
    if config.launcher.kind == "slurm":
        raise UserError(
            "bench=true measures the computer on which it runs, but the launcher is slurm.",
            "Leave launcher=slurm out, and start the command inside a job: `srun … kd doctor bench=true machine=NAME`.",
        )
    began, date = time.monotonic(), f"{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S%z}"
    device = str(config.machine.device)
    options.folder.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    place = Path(tempfile.mkdtemp(prefix=".kd-bench-", dir=options.folder)).resolve()
    try:
        here = find(device, place)
        console.print(Text(_announcement(here, seconds)), soft_wrap=True)
        material.make_vocabulary(here)
        material.make_data(here)
        left = seconds - (time.monotonic() - began)
        found = schedule.measure(here, left, lambda each: console.print(Text(line(each)), soft_wrap=True))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    software = versions(["kd", "torch"])
    results = Results(
        schema=SCHEMA,
        kd=software["kd"],
        torch=software["torch"],
        date=date,
        host=socket.gethostname(),
        machine=str(config.machine.name),
        device=device,
        name=here.name,
        count=here.count,
        miniature=device == "cpu",
        seconds=time.monotonic() - began,
        measurements=found,
    )
    paths = write(results, options.folder)
    console.print(Text(f"Written: {paths[0]} and {paths[1]}"), soft_wrap=True)
    return int(any(each.state is State.failed for each in found))


def find(device: str, place: Path) -> setup.Setup:
    """Describe the device of this computer and the work for it; raises UserError if there is no such GPU."""
    threads = len(os.sched_getaffinity(0))
    if device == "cpu":
        size = setup.miniature(models())
        return setup.Setup(str(place), device, _cpu(), 0, None, ("fp32",), threads, size)
    gpu = run_trial({"what": "ask"}, threads)
    if gpu["gpu"] is None:
        raise UserError(
            f"machine.device is {device}, but no GPU can be used on this computer.",
            "Run the command in a job on a node with a GPU, or try a CPU: kd doctor bench=true machine=localhost.",
        )
    precisions = (*(each for each in ("bf16", "fp16", "tf32") if gpu[each]), "fp32")
    size = setup.full(models())
    return setup.Setup(str(place), device, gpu["gpu"], int(gpu["count"]), float(gpu["free"]), precisions, threads, size)


def models() -> dict[str, ModelConfig]:
    """Return the shapes of the presets `transformer_big` and `deep_shallow_12_1`."""
    config = compose.compose(compose.parse_request(list(_MODELS)))
    found: dict[str, Any] = {
        setup.BIG: OmegaConf.to_object(config.teacher.model),
        setup.STUDENT: OmegaConf.to_object(config.student.model),
    }
    return found


def write(results: Results, folder: Path) -> tuple[Path, Path]:
    """Write the JSON file and the page; return their paths, which contain the device's name and the date."""
    name = re.sub(r"[^a-z0-9]+", "-", results.name.lower()).strip("-") or results.device
    data = folder / f"{name}-{results.date[:10]}.json"
    shown = data.with_suffix(".md")
    results.write(data)
    write_text(shown, page(results))
    return data, shown


def _announcement(here: setup.Setup, seconds: float) -> str:
    if here.device == "cpu":
        return f"{here.name}: a miniature, since machine.device is cpu; it shows that the measurements work."
    return f"{here.count} × {here.name}, in {', '.join(here.precisions)}: at most {seconds / 60:.0f} minutes."


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n")
    return next((text.partition(":")[2].strip() for text in lines if text.startswith("model name")), "CPU")
