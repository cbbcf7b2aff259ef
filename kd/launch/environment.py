"""What a task's process is started with: its command line and its environment.

Both are the same for every launcher, so that moving to another machine changes nothing in what a task makes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kd.pipeline.model import Task

THREADS = "KD_THREADS"
WAIT = "KD_WAIT"  # set: a task that another process works on waits for it, instead of ending as something that may pass
# Libraries that start threads of their own, each by another variable; results on CPU depend on their number.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", THREADS)

# Compute nodes reach no network, and what tries all the same waits for minutes. Whoever has set one of these in the
# environment that `kd run` is typed in knows better, and is obeyed.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",  # COMET's checkpoints and encoders, from the cache alone
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "WANDB_MODE": "offline",  # `wandb sync` sends later what was kept
    "PIP_NO_INDEX": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


def command(task: Task, frozen: str, run: Path) -> list[str]:
    """The command line that runs a task from a frozen config."""
    # -P: the folder that the user stands in may hold a select.py, which is none of ours.
    kd = [sys.executable, "-P", "-m", "kd"]
    return [*kd, "task", "--config", frozen, "--run", str(run), task.stage.name, task.name]


def variables(threads: int, *, network: bool = False) -> dict[str, str]:
    """What is set for a task that has `threads` threads, wherever it runs; network: whether it may use one."""
    return {
        **({} if network else {name: os.environ.get(name, value) for name, value in OFFLINE.items()}),
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
    }


def environment(threads: int, gpus: Sequence[int] = (), *, network: bool = False) -> dict[str, str]:
    """The environment of a task that has `threads` threads and, where it needs one, the GPUs of those numbers."""
    added = variables(threads, network=network)
    if gpus:
        # Where the user (or a scheduler) has allotted some of the machine's GPUs, the number counts among those.
        allotted = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        chosen = [allotted[gpu % len(allotted)] if allotted else str(gpu) for gpu in gpus]
        added["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
    return {**os.environ, **added}
