"""Implement `kd status`: the state of every stage and task of a run, from its artifacts and its Slurm jobs.

A failed task is shown with the last lines of its log, a task that could not start with its missing input.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kd.base import lease, progress
from kd.base.errors import TransientError, UserError
from kd.base.text import duration, last_lines
from kd.container.remarks import remarks
from kd.launch.slurm import queue
from kd.launch.slurm.queue import Queue
from kd.pipeline.failures import failure_message
from kd.pipeline.model import Stage, Task
from kd.pipeline.run import Run
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.compose import Request

LAST_LINES = 5  # of the log of a task that failed
NARROW = 80  # columns: a narrower terminal gets a list, since a table would break the names of stages into pieces
FOLDED = 6  # tasks: a larger stage whose tasks have the same state is one line


@dataclass(frozen=True)
class State:
    """The state of a task."""

    word: str
    took: str = ""
    about: str = ""


class TaskStates:
    """The states of a run's tasks, joined with those of its Slurm jobs."""

    def __init__(
        self, folder: Run, store: Store, jobs: Queue, remark: Callable[[Mapping[str, Any]], str] = lambda _: ""
    ) -> None:
        self._folder = folder
        self._store = store
        self._remark = remark  # remarks on artifacts that another image made
        self._before = folder.shown()
        self._active, self._latest, self._submitted = jobs.active(), jobs.latest(), jobs.submitted()

    def of(self, task: Task) -> State:
        """Return the state of one task."""
        paths = self._store.paths(task)
        if paths.is_published():
            manifest = paths.manifest()
            finished = manifest["finished"].replace("T", " ")[:16] + " UTC"
            about = "; ".join(filter(None, [finished, manifest["facts"].get("note", ""), self._remark(manifest)]))
            return State("done", duration(manifest["seconds"]), about)
        job = self._active.get(str(task.relative))
        about = queue.describe(job.row) if job else ""
        if lease.is_held(paths.lease):
            snapshot = progress.read(paths.progress)
            parts = [_silent(paths.lease), snapshot.line() if snapshot else "", about]
            return State("running", about="; ".join(filter(None, parts)))
        if job:
            return State("queued" if job.row.state == "PENDING" else "running", about=about)
        return self._idle(task)

    def _idle(self, task: Task) -> State:
        """Return the state of a task that no process works on and that is not queued."""
        paths = self._store.paths(task)
        message = failure_message(paths)
        if message is not None:
            return State("failed", about=f"{message} (log: {self._folder.log(task)})")
        ended = self._ended(task)
        if ended is not None:
            return ended
        if paths.partial.is_dir():
            return State("left off", about="resumes where it stopped" if task.stage.kind.resumable else "begins anew")
        earlier = self._before.get(task.full_name)
        if earlier not in (None, str(paths.final)) and (Path(str(earlier)) / "manifest.json").is_file():
            return State("stale", about="its settings or inputs have changed")
        return State("missing")

    def _ended(self, task: Task) -> State | None:
        """Return the state of a task whose job ended without a result."""
        name = str(task.relative)
        if name not in self._submitted:
            return None
        culprit = self._culprit(task)
        if culprit is not None:
            return State("cancelled", about=f"not started, because {culprit.full_name} did not finish")
        job = self._latest.get(name)
        if job is None:  # Slurm forgets finished jobs, and this cluster has no accounting
            return None
        log = self._folder.log(task)
        begun = f" (log: {log})" if log.is_file() else ""
        if job.row.state in ("CANCELLED", "PREEMPTED", "COMPLETED"):
            kept = "; its work is kept" if self._store.paths(task).partial.is_dir() else ""
            return State("cancelled", about=queue.describe(job.row) + kept)
        return State("failed", about=queue.describe(job.row) + begun)

    def _culprit(self, task: Task) -> Task | None:
        """Return the first direct or indirect input of a task that is missing and that no process will make."""
        for other in task.upstream():
            paths = self._store.paths(other)
            if paths.is_published() or lease.is_held(paths.lease) or str(other.relative) in self._active:
                continue
            return self._culprit(other) or other
        return None


def _silent(held: Path) -> str:
    """Return a remark if the process that works on a task seems dead, for instance after a node failure."""
    silent, holder = lease.silence(held), lease.read(held)
    if silent < 4 * lease.HEARTBEAT_SECONDS or holder is None:
        return ""
    stale = f"after {lease.STALE_SECONDS:.0f} s another process takes over"
    return f"no heartbeat from {holder.host} for {silent:.0f} s; {stale}"


def status(request: Request, *, every: bool = False) -> int:
    """Print a table of stages and tasks with their states, each task if `every`; return the exit status."""
    config = compose.compose(request)
    store, folder = Store(Path(config.store.dir)), Run(Path(config.run.dir))
    plan = compose.plan(config)
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 2000  # one line for each task in a pipe
    remark = remarks(config.machine.container, store.file_hashes())
    states_of = TaskStates(folder, store, _jobs(folder, store, list(plan.tasks()), console), remark)
    asked = [item for stage in plan.asked_for(request.stages, request.upto) for item in stage.tasks]
    states = {item: states_of.of(item) for item in asked}
    nothing = "" if folder.folder.is_dir() else " (there is no such folder: the recipe has not been run here)"
    console.print(Text(f"{config.recipe}: {folder.folder}{nothing}", style="italic"), soft_wrap=True)
    console.print(Text(summary(states.values())), soft_wrap=True)
    lines = rows(states, len(states) if every else FOLDED)
    _print(lines, console)
    for item in [line.tasks[0] for line in lines if line.state.word == "failed"]:
        _show_log(item, folder.log(item), console)
    return 0


@dataclass(frozen=True)
class Line:
    """A line of the table: one task, or all tasks of a stage."""

    tasks: Sequence[Task]
    state: State

    def cells(self) -> tuple[str, ...]:
        """Return stage, task, state, duration and remark."""
        first, number = self.tasks[0], len(self.tasks)
        name = first.name if number == 1 else f"{number} tasks"
        return first.stage.name, name, self.state.word, self.state.took, self.state.about


def summary(states: Iterable[State]) -> str:
    """Return the number of finished tasks, and the number of tasks in each other state."""
    counts = Counter(state.word for state in states)
    others = (f"{number} {word}" for word, number in counts.items() if word != "done")
    return ", ".join([f"{counts['done']} of {counts.total()} tasks done", *others])


def rows(states: Mapping[Task, State], most: int) -> list[Line]:
    """Return a line for each task, or one for a stage of more than `most` tasks that all have the same state."""
    stages: dict[Stage, list[Task]] = {}
    for task in states:
        stages.setdefault(task.stage, []).append(task)
    found = []
    for tasks in stages.values():
        if len(tasks) <= most or len({states[task].word for task in tasks}) > 1:
            found += [Line([task], states[task]) for task in tasks]
        else:
            found.append(Line(tasks, _alike([states[task] for task in tasks], tasks[0].name)))
    return found


def _alike(states: Sequence[State], first: str) -> State:
    """Return one state for all tasks, with their common remarks, or else those of the first."""
    said = [state.about.split("; ") for state in states]
    common = [part for part in said[0] if all(part in other for other in said)]
    example = f"{first}: {states[0].about}" if states[0].about and states[0].word != "done" else ""
    return State(states[0].word, about="; ".join(common) or example)


def _print(lines: Iterable[Line], console: Console) -> None:
    if console.width < NARROW:
        for line in lines:
            stage, task, state, took, about = line.cells()
            console.print(Text(f"{stage}/{task}: {state} {took}".rstrip()), soft_wrap=True)
            if about:
                console.print(Text(f"    {about}"), soft_wrap=True)
        return
    table = Table(box=None, header_style="bold")
    for name in ("stage", "task", "state", "took", "about"):
        table.add_column(name, overflow="fold", justify="right" if name == "took" else "left")
    for line in lines:
        table.add_row(*map(Text, line.cells()))
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for text in captured.get().rstrip("\n").split("\n"):
        console.print(Text(text.rstrip(" ")), soft_wrap=True)  # cells are padded with blanks


def _jobs(folder: Run, store: Store, tasks: list[Task], console: Console) -> Queue:
    try:
        known = queue.read(folder)
        return queue.with_accounts(known, [task for task in tasks if not store.paths(task).is_published()])
    except (TransientError, UserError) as error:
        console.print(Text(f"The queue cannot be read: {error}", style="yellow"), soft_wrap=True)
        return Queue([], [])


def _show_log(task: Task, log: Path, console: Console) -> None:
    lines = last_lines(log, LAST_LINES)
    if lines:
        console.print(Text(f"\n{task.full_name}, the last lines of {log}:", style="bold"), soft_wrap=True)
        console.print(Text("\n".join(f"    {line}" for line in lines)), soft_wrap=True)
