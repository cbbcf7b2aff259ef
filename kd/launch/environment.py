"""Build the command line and the environment of a task's process.

Both are the same for every launcher, so a task's output does not depend on the launcher.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kd.pipeline.model import Task

THREADS = "KD_THREADS"
WAIT = "KD_WAIT"  # if set, a task waits for another process that works on it, instead of ending with exit status 75
# Each library reads its number of threads from another variable; results on CPU depend on that number.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", THREADS)

# Compute nodes have no network, and a library that tries to reach it waits for minutes. A variable that is already set
# in the environment of `kd run` keeps its value.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",  # COMET's checkpoints and encoders come from the cache
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "WANDB_MODE": "offline",  # `wandb sync` sends the records later
    "PIP_NO_INDEX": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


def command(task: Task, frozen: str, run: Path) -> list[str]:
    """Return the command line that runs a task from a frozen config."""
    # -P: the current folder may contain a select.py of the user's, which must not be imported.
    kd = [sys.executable, "-P", "-m", "kd"]
    return [*kd, "task", "--config", frozen, "--run", str(run), task.stage.name, task.name]


def variables(threads: int, *, network: bool = False) -> dict[str, str]:
    """Return the variables for a task with `threads` threads on any machine; network: whether it may use a network."""
    return {
        **({} if network else {name: os.environ.get(name, value) for name, value in OFFLINE.items()}),
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
    }


def environment(threads: int, gpus: Sequence[int] = (), *, network: bool = False) -> dict[str, str]:
    """Return the environment of a task with `threads` threads and the GPUs with these indices."""
    added = variables(threads, network=network)
    if gpus:
        # If the user or a scheduler has set some of the machine's GPUs, the index counts among those.
        allotted = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        chosen = [allotted[gpu % len(allotted)] if allotted else str(gpu) for gpu in gpus]
        added["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
    return {**os.environ, **added}
