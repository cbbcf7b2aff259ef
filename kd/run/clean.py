"""Implement `kd clean`: list, and on request remove, the artifacts that no run refers to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kd.base import lease
from kd.base.errors import UserError
from kd.base.faults import disk_fault
from kd.base.files import DamagedFile
from kd.base.text import duration
from kd.launch.slurm import queue
from kd.pipeline.run import Run
from kd.pipeline.store import ArtifactPaths, Store, folder_bytes
from kd.recipe import compose
from kd.recipe.compose import Request


def clean(request: Request, *, remove: bool) -> int:
    """List, and on request remove, the artifacts that no run of the store refers to; return the exit status."""
    config = compose.compose(request)
    store = Store(Path(config.store.dir))
    console = Console(highlight=False)
    wanted = {str(store.paths(task).final) for task in compose.plan(config).tasks()}
    found = list(store.all_paths())  # before the runs are read: a run that starts now makes artifacts beyond these
    runs = [Run(folder) for folder in store.runs()]
    reached = wanted.union(*(_reached(run, store, console) for run in runs))
    unreached = [paths for paths in found if str(paths.final) not in reached]
    for gone in store.runs_gone() if unreached else []:
        line = f"The run {gone} no longer exists: artifacts that only this run referred to are listed."
        console.print(Text(line), soft_wrap=True)
    if not unreached:
        console.print(f"All artifacts in {store.root} belong to one of its {len(runs)} runs.")
    else:
        _show([_listed(paths, store, remove=remove) for paths in unreached], console, remove=remove)
    if remove:
        store.sweep()
    return 0


@dataclass(frozen=True)
class _Row:
    name: str
    bytes: int
    took: str
    state: str
    removable: bool


def _listed(paths: ArtifactPaths, store: Store, *, remove: bool) -> _Row:
    """Describe an artifact, and remove it if `remove` is set and no process works on it."""
    name = str(paths.final.relative_to(store.root))
    size = folder_bytes(paths.final if paths.final.is_dir() else paths.partial)
    took, state = "", "not finished"
    if paths.final.is_symlink():
        state = "a link: only the link is removed"
    elif paths.is_published():
        try:
            manifest = paths.manifest()
            took, state = duration(manifest["seconds"]), str(manifest["finished"])
        except DamagedFile:
            state = "its manifest is damaged"
    if lease.is_held(paths.lease):
        return _Row(name, size, took, "a process works on it: kept", removable=False)
    if remove:
        try:
            store.remove(paths)
        except OSError as error:
            raise disk_fault(error, store.root) or error from None
    return _Row(name, size, took, state, removable=True)


def _show(rows: Iterable[_Row], console: Console, *, remove: bool) -> None:
    table = Table(box=None, header_style="bold")
    for name in ("in the store", "MB", "took", "finished"):
        table.add_column(name, justify="right" if name in ("MB", "took") else "left")
    total = 0
    for row in rows:
        total += row.bytes if row.removable else 0
        table.add_row(*map(Text, (row.name, f"{row.bytes / 1e6:,.1f}", row.took, row.state)))
    console.print(table)
    console.print(f"{total / 1e6:,.1f} MB {'removed' if remove else 'could be removed by --remove'}.")


def _reached(run: Run, store: Store, console: Console) -> set[str]:
    """Return the paths in a store that a run links to, plans to make or has queued.

    A damaged record of one run does not stop the command: then all tasks that the run ever planned are kept.

    Raises:
        UserError: The run's folder is not readable.
    """
    try:
        found = {*run.shown().values()}
        for records in (lambda: run.planned().values(), lambda: queue.reached(run, store)):
            try:
                found.update(records())
            except DamagedFile as error:
                line = f"Warning: {error.problem} Every artifact that the run {run.folder} ever planned is kept."
                console.print(Text(line, style="yellow"), soft_wrap=True)
                found |= run.frozen_tasks(store)
    except PermissionError as error:
        raise UserError(
            f"The run {run.folder} is not readable: {error.filename}: {os.strerror(error.errno or 0)}.",
            "Ask its owner to run `kd clean`.",
        ) from None
    return found
