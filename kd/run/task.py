"""Implement `kd task`: run one task from a frozen config, without composing or planning the recipe again."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kd import __version__, tracking
from kd.base.errors import TransientError, UserError
from kd.base.text import unknown_name
from kd.base.urls import mask_output
from kd.base.world import World, from_environment
from kd.engines import PACKAGES
from kd.launch.environment import THREADS, WAIT
from kd.pipeline.execute import ensure_ready, execute
from kd.pipeline.failures import failed_since
from kd.pipeline.frozen import PLAN_AGAIN, thawed_task
from kd.pipeline.manifest import container
from kd.pipeline.model import Task
from kd.pipeline.run import Run
from kd.pipeline.store import ArtifactPaths, Store
from kd.stages import load_kind


def task(frozen: str, run_folder: Path | None, stage: str, name: str) -> int:
    """Run one task from a frozen config; return the exit status."""
    folder = Run(run_folder if run_folder is not None else _run_with(frozen))
    record = folder.frozen(frozen)
    found = _as_planned(record, stage, name)
    config = record["config"]
    store = Store(Path(config["store"]["dir"]))
    launcher, machine = config["launcher"], config["machine"]
    threads = int(os.environ.get(THREADS) or max(1, launcher["threads"] // launcher["processes"]))
    world = from_environment()
    if world.node_rank:  # the first node runs the task, this one is a part of it
        return _run_worker_node(partial(_part, found, store, world, threads))
    execute(
        found,
        store,
        threads=threads,
        device="cpu" if world.gpus == 0 else machine["device"],  # not every job on a machine with GPUs has one
        machine=machine,
        tracking=tracking.facts(config["tracking"]["trackers"], folder.folder, config["recipe"], found.lineage),
        packages=PACKAGES,
        wait=bool(os.environ.get(WAIT)),
        # On several nodes, the others would need copies of their own.
        scratch=machine.get("scratch") if world.nodes == 1 else None,
    )
    folder.link(found, store)
    return 0


def _as_planned(record: Mapping[str, Any], stage: str, name: str) -> Task:
    """Return the task of a frozen config; raise UserError if this version of kd would plan it differently."""
    try:
        if "stages" not in record:
            raise UserError("This run was planned by another version of kd.", PLAN_AGAIN)
        return thawed_task(record["stages"], stage, name, load_kind)
    except UserError as problem:
        image = container()
        if image is None:
            raise
        raise UserError(
            f"The image {image['path']} has kd {__version__}, which plans this task differently from the kd outside "
            f"the image: {problem.problem}",
            "Build the image again from the outer kd (kd container build), or run `kd run` with the kd of the image.",
        ) from None


def _run_with(frozen: str) -> Path:
    """Return the run below runs/ with this frozen config; raise UserError if there is none, or several."""
    found = sorted({path.parent.parent for path in Path("runs").glob(f"**/configs/{frozen}*.json")})
    if len(found) != 1:
        raise unknown_name("frozen config below runs/", frozen, [])
    return found[0]


# --- the other nodes of a task ---------------------------------------------------------------------------------------


def _part(found: Task, store: Store, world: World, threads: int) -> None:
    """Do the part of this node until the task has ended."""
    paths, started = store.paths(found), world.begun or time.time()
    ensure_ready(found, store)
    found.stage.kind.run_worker_node(paths.partial, world, threads, partial(_is_over, paths, started))


def _is_over(paths: ArtifactPaths, started: float) -> bool:
    return paths.is_published() or failed_since(paths, started)


def _run_worker_node(part: Callable[[], None]) -> int:
    """Run another node's part of a task; always return 0, because the status of the first node decides.

    A launcher takes the highest status of all nodes. If this node returned "retry" because the first node is gone, a
    user's mistake would be retried again and again.
    """
    try:
        part()
    except Exception as error:
        known = isinstance(error, UserError | TransientError)
        print(f"kd: {error}" if known else mask_output(traceback.format_exc()), file=sys.stderr, flush=True)
    return 0
