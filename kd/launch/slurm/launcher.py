"""Submits what is missing of a run, each array once, and leaves it to Slurm.

Whoever submits holds a lease; each submission is written down before sbatch and known by its comment afterwards. So two
`kd run` at once submit once, and one that was killed between the two is sorted out by the next.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kd.base.errors import TransientError, UserError
from kd.base.files import write_text
from kd.launch.launcher import Failure, Launcher, blocked
from kd.launch.slurm import client, queue
from kd.launch.slurm.arrays import Address, Array, arrays, dependency, parts, ranges
from kd.launch.slurm.queue import Queue
from kd.launch.slurm.records import Element, Records, Submission
from kd.launch.slurm.script import Script, Settings, render, resources, throttle
from kd.pipeline.attempts import SUBMISSION
from kd.pipeline.model import Task
from kd.pipeline.store import Store

IN_FLIGHT_SECONDS = 10.0  # within which a job shows up in the queue that sbatch had sent off when it was killed
SETTLING_SECONDS = 60.0  # longer than Slurm waits between asking and killing (KillWait: 30)
TRIES = 3  # of a submission that the controller did not answer
PAUSE_SECONDS = 2.0


class SlurmLauncher(Launcher):
    """Jobs on a cluster. `here` runs the tasks that need a network, where the nodes have none."""

    def __init__(self, settings: Settings, store: Store, here: Callable[[Sequence[Task]], list[Failure]]) -> None:
        self._settings = settings
        self._store = store
        self._here = here
        self._records = Records(settings.run)
        self._console = Console(stderr=True, highlight=False)

    def launch(self, tasks: Sequence[Task]) -> list[Failure]:
        """Queues tasks whose outputs are missing; returns those that could not be run here first, and what needs them.

        Raises UserError for what the machine's settings or Slurm do not allow and where there is no Slurm,
        TransientError when Slurm is silent.
        """
        for task in tasks:
            resources(self._settings.machine, task.stage)
        client.ensure_reachable()  # before hours of downloads
        failures = self._first(tasks)
        with self._records.hold(self._say):
            self._forget_what_never_came()
            known = self._settled()
            active = known.active()
            failed = {failure.task for failure in failures}
            todo = [task for task in tasks if task not in failed and not self._store.paths(task).is_published()]
            missing = [task for task in todo if str(task.relative) not in active]
            submitted = self._submit_all(missing, known)
        self._tell(submitted, len(todo) - len(missing), known, todo)
        return failures

    # --- submitting ------------------------------------------------------------------------------------------------

    def _first(self, tasks: Sequence[Task]) -> list[Failure]:
        """Runs here, and to their end, the tasks that need a network which nodes do not have."""
        ours = [task for task in tasks if task.stage.kind.network and not self._store.paths(task).is_published()]
        if self._settings.machine.online or not ours:
            return []
        failures = self._here(ours)
        return [*failures, *blocked(tasks, failures)]

    def _forget_what_never_came(self) -> None:
        """Of submissions by a process that died: takes down the ids of those that came, forgets the others."""
        while True:
            unknown = [item for item in self._records.resolve(client.queue()) if item.job is None]
            # Either way: the clock of the login node that wrote it may be ahead of this one's.
            if all(abs(time.time() - item.written) > IN_FLIGHT_SECONDS for item in unknown):
                break
            time.sleep(PAUSE_SECONDS)
        for item in unknown:
            self._records.remove(item)

    def _settled(self) -> Queue:
        """The queue; of a job that is just being ended it cannot be told whether it is over, so that is waited for."""
        deadline = time.monotonic() + SETTLING_SECONDS
        while True:
            known = queue.read(self._settings.run)
            ending = any(entry.row.state == "COMPLETING" for entry in known.active().values())
            if not ending or time.monotonic() > deadline:
                return known
            time.sleep(PAUSE_SECONDS)

    def _submit_all(self, missing: Sequence[Task], known: Queue) -> list[tuple[Array, Submission]]:
        """Submits tasks, each after those that it waits for."""
        active = known.active()
        where: dict[Task, Address] = {}
        for upstream in {other for task in missing for other in task.upstream()}:
            entry = active.get(str(upstream.relative))
            if entry is not None:
                where[upstream] = Address(entry.row.array, entry.number)
        sizes: dict[str, int] = {}
        submitted = []
        for stage in dict.fromkeys(task.stage for task in missing):
            for part in parts(stage, self._settings.machine.max_array):
                for array in arrays(part, set(missing), where):
                    submission = self._submit(array, dependency(array, sizes))
                    assert submission.job is not None
                    sizes[submission.job] = len(array.elements)
                    where |= {task: Address(submission.job, number) for number, task in array.tasks.items()}
                    submitted.append((array, submission))
        return submitted

    def _submit(self, array: Array, needs: str) -> Submission:
        script = self._write(render(array.part, self._settings))
        elements = {number: Element(task.full_name, str(task.relative)) for number, task in array.tasks.items()}
        stage = array.part.stage
        submission = Submission(script.name, stage.name, elements, self._settings.frozen, needs)
        self._records.write(submission)
        limit = throttle(resources(self._settings.machine, stage))
        arguments = [
            f"--array={ranges(array.elements)}{limit}",
            f"--comment={submission.comment}",
            f"--export=ALL,{SUBMISSION}={submission.id},KD_LEGS=0",
            *([f"--dependency={needs}"] if needs else []),
            str(script),
        ]
        try:
            submission = replace(submission, job=self._sbatch(arguments, submission))
        except UserError:
            self._records.remove(submission)  # Slurm refused it
            raise
        self._records.write(submission)
        return submission

    def _sbatch(self, arguments: Sequence[str], submission: Submission) -> str:
        """Submits, again where the controller did not answer and has not taken the job all the same."""
        for attempt in range(1, TRIES + 1):
            try:
                return client.submit(arguments)
            except TransientError:
                if attempt == TRIES:
                    raise
                time.sleep(PAUSE_SECONDS)
                row = next((row for row in client.queue() if row.comment == submission.comment), None)
                if row is not None:
                    return row.array
        raise AssertionError

    def _write(self, script: Script) -> Path:
        path = self._records.folder / script.name
        if not path.exists():
            write_text(path, script.text)
        (self._records.folder / "output").mkdir(exist_ok=True)
        return path

    # --- telling ---------------------------------------------------------------------------------------------------

    def _tell(
        self, submitted: Sequence[tuple[Array, Submission]], queued: int, known: Queue, todo: Sequence[Task]
    ) -> None:
        if submitted:
            table = Table(box=None, header_style="bold")
            for name in ("job", "stage", "tasks", "after"):
                table.add_column(name, justify="right" if name == "tasks" else "left", overflow="fold")
            for array, submission in submitted:
                after = re.sub(
                    "afterok:|:", " ", submission.dependency.replace("aftercorr:", "each its own of ")
                ).strip()
                table.add_row(str(submission.job), array.part.stage.name, str(len(array.elements)), after)
            self._console.print(table)
        tasks = sum(len(array.elements) for array, _ in submitted)
        self._say(f"Submitted {tasks} tasks in {len(submitted)} jobs; {queued} were queued already.")
        others = set(known.active()) - {str(task.relative) for task in todo}
        if others:
            self._say(f"{len(others)} more tasks of this run are queued, of other settings or stages.")
        self._say(
            f"Scripts and Slurm's own messages: {self._records.folder}. How it goes: kd status, with the same words."
        )

    def _say(self, text: str) -> None:
        self._console.print(Text(f"{datetime.now():%H:%M:%S} {text}"), soft_wrap=True)
