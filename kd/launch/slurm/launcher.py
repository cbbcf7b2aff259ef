"""Submit the missing tasks of a run, each array once; Slurm then runs them.

A process that submits holds a lease. Each submission is recorded before sbatch, and its jobs carry its id as their
comment. Thus two concurrent `kd run` submit every task once, and the next `kd run` completes the work of a killed one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from rich.console import Console
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

IN_FLIGHT_SECONDS = 10.0  # after which a job is in the queue if sbatch had sent it off before it was killed
SETTLING_SECONDS = 60.0  # longer than Slurm waits between SIGTERM and SIGKILL (KillWait: 30)
TRIES = 3  # of a submission that the controller did not answer
PAUSE_SECONDS = 2.0
LIMIT_SECONDS = 60.0  # between two attempts while the site's limit of jobs is reached
PROGRESS_SECONDS = 10.0  # between two lines about the progress of submitting


@dataclass
class _Round:
    """The submissions of one pass over the missing tasks."""

    missing: Sequence[Task]
    known: Queue
    submitted: list[tuple[Array, Submission]] = field(default_factory=list)
    limit: client.SubmitLimit | None = None  # the site accepts no more jobs at this moment

    def left(self) -> list[Task]:
        """Return the tasks that are still to be submitted."""
        done = {task for array, _ in self.submitted for task in array.tasks.values()}
        return [task for task in self.missing if task not in done]


class SlurmLauncher(Launcher):
    """Submit tasks as jobs of a cluster.

    Args:
        settings: Settings that all job scripts of the run share.
        store: The store.
        here: Runs the tasks that need a network on this computer if the nodes have none.
        wait: Whether to keep running until everything is submitted, if the site limits the jobs of a user.
    """

    def __init__(
        self, settings: Settings, store: Store, here: Callable[[Sequence[Task]], list[Failure]], *, wait: bool = False
    ) -> None:
        self._settings = settings
        self._store = store
        self._here = here
        self._wait = wait
        self._records = Records(settings.run)
        self._console = Console(stderr=True, highlight=False)
        self._said = 0.0

    def launch(self, tasks: Sequence[Task]) -> list[Failure]:
        """Queue tasks whose outputs are missing; return the tasks that failed on this computer and those they block.

        Raises:
            UserError: The machine's settings or Slurm do not allow a job, or Slurm is not installed here.
            TransientError: Slurm does not answer, or the site currently accepts no more jobs.
        """
        for task in tasks:
            resources(self._settings.machine, task.stage)
        client.ensure_reachable()  # before hours of downloads
        dropped = client.dropped_variables()
        if dropped:
            self._say(
                f"These variables have no effect on kd's jobs: {', '.join(dropped)}. Set "
                f"machine.resources.CLASS.options instead."
            )
        failures = self._first(tasks)
        failed = {failure.task for failure in failures}
        todo = [task for task in tasks if task not in failed]
        done = self._round(todo)
        while done.limit is not None:
            self._wait_for_room(done)
            done = self._round(self._unblocked(done))
        return failures

    # --- submitting ------------------------------------------------------------------------------------------------

    def _first(self, tasks: Sequence[Task]) -> list[Failure]:
        """Run the tasks that need a network if the nodes have none; return failures and the tasks that they block."""
        reaches = self._settings.machine.reaches_internet
        ours = [
            task
            for task in tasks
            if task.stage.kind.network
            and not reaches(task.stage.kind.resources)
            and not self._store.paths(task).is_published()
        ]
        failures = self._here(ours) if ours else []
        return [*failures, *blocked(tasks, failures)]

    def _round(self, tasks: Sequence[Task]) -> _Round:
        """Submit the tasks that are neither done nor queued, as many as the site accepts."""
        with self._records.hold(self._say):
            self._resolve_unknown()
            known = self._settled()
            active = known.active()
            todo = [task for task in tasks if not self._store.paths(task).is_published()]
            done = _Round([task for task in todo if str(task.relative) not in active], known)
            try:
                self._submit_all(done)
            except client.SubmitLimit as error:
                done.limit = error
        self._tell(done, todo)
        return done

    def _wait_for_room(self, done: _Round) -> None:
        """Wait before the next attempt to submit; raise the site's refusal if `wait` is not set.

        Raises:
            SubmitLimit: The user did not ask to wait.
            UserError: No job of the user is queued, so that waiting would never end.
        """
        assert done.limit is not None
        left = _tasks(len(done.left()))
        own = "Grp" not in str(done.limit)  # else a limit of the whole project, whose other members have jobs
        if own and not any(row.active for row in client.queue()):
            raise UserError(
                f"{done.limit} None of your jobs is queued, so waiting does not help.",
                "Set machine.max_array to the number of jobs that the site allows you, so that arrays are smaller.",
            )
        if not self._wait:
            raise client.SubmitLimit(
                f"{done.limit} Not submitted yet: {left}. Queued jobs stay queued. Run the same command again when "
                f"jobs have ended, or add wait=true to keep kd running until all tasks are submitted."
            )
        self._say(f"The site currently accepts no more jobs: {left} to be submitted later (wait=true).")
        time.sleep(LIMIT_SECONDS)

    def _unblocked(self, done: _Round) -> list[Task]:
        """Return the remaining tasks that can still run: none of their inputs has failed in the meantime."""
        left = done.left()
        active = queue.read(self._settings.run).active()
        wanted: set[Task] = set()
        for task in left:  # upstream first
            inputs = [other for other in task.upstream() if other not in wanted]
            if all(self._store.paths(other).is_published() or str(other.relative) in active for other in inputs):
                wanted.add(task)
        if len(wanted) < len(left):
            self._say(f"Not submitted, because inputs failed (see kd status): {_tasks(len(left) - len(wanted))}.")
        return [task for task in left if task in wanted]

    def _resolve_unknown(self) -> None:
        """Complete the records of a process that died: look up its jobs, drop those that never reached Slurm."""
        while True:
            unknown = [item for item in self._records.resolve(client.queue()) if item.job is None]
            # In both directions: the clock of the login node that wrote the record may be ahead of this one's.
            if all(abs(time.time() - item.written) > IN_FLIGHT_SECONDS for item in unknown):
                break
            time.sleep(PAUSE_SECONDS)
        for item in unknown:
            self._records.remove(item)

    def _settled(self) -> Queue:
        """Return the queue once no job is completing: a completing job may be over or about to be requeued."""
        deadline = time.monotonic() + SETTLING_SECONDS
        while True:
            known = queue.read(self._settings.run)
            ending = any(entry.row.state == "COMPLETING" for entry in known.active().values())
            if not ending or time.monotonic() > deadline:
                return known
            time.sleep(PAUSE_SECONDS)

    def _submit_all(self, done: _Round) -> None:
        """Submit tasks, each with the jobs that it waits for; fills in `done.submitted`."""
        active = done.known.active()
        where: dict[Task, Address] = {}
        for upstream in {other for task in done.missing for other in task.upstream()}:
            entry = active.get(str(upstream.relative))
            if entry is not None:
                where[upstream] = Address(entry.row.array, entry.number)
        sizes: dict[str, int] = {}
        for stage in dict.fromkeys(task.stage for task in done.missing):
            for part in parts(stage, self._settings.machine.max_array):
                for array in arrays(part, set(done.missing), where):
                    self._say_progress(done, array)
                    submission = self._submit(array, dependency(array, sizes))
                    assert submission.job is not None
                    sizes[submission.job] = len(array.elements)
                    where |= {task: Address(submission.job, number) for number, task in array.tasks.items()}
                    done.submitted.append((array, submission))

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
        except client.NoJobId:
            raise  # it may be queued: the next `kd run` looks for its comment
        except (UserError, client.SubmitLimit):
            self._records.remove(submission)  # Slurm refused it
            raise
        self._records.write(submission)
        return submission

    def _sbatch(self, arguments: Sequence[str], submission: Submission) -> str:
        """Submit, and again if the controller does not answer and the job is not in the queue. Return the job id."""
        for attempt in range(1, TRIES + 1):
            try:
                return client.submit(arguments)
            except client.SubmitLimit:
                raise
            except (TransientError, client.NoJobId) as error:
                if attempt == TRIES:
                    raise
                time.sleep(PAUSE_SECONDS)
                row = next((row for row in client.queue() if row.comment == submission.comment), None)
                if row is not None:
                    return row.array
                if isinstance(error, client.NoJobId):
                    raise  # it was accepted: submitting again would queue it twice
        raise AssertionError

    def _write(self, script: Script) -> Path:
        path = self._records.folder / script.name
        if not path.exists():
            write_text(path, script.text)
        (self._records.folder / "output").mkdir(exist_ok=True)
        return path

    # --- output ----------------------------------------------------------------------------------------------------

    def _tell(self, done: _Round, todo: Sequence[Task]) -> None:
        for array, submission in done.submitted:
            after = re.sub("afterok:|:", " ", submission.dependency.replace("aftercorr:", "each its own of ")).strip()
            tasks = _tasks(len(array.elements))
            self._console.print(
                Text(
                    f"  job {submission.job}: {array.part.stage.name}, {tasks}" + (f", after {after}" if after else "")
                ),
                soft_wrap=True,
            )
        number = sum(len(array.elements) for array, _ in done.submitted)
        queued = len(todo) - len(done.missing)
        self._say(f"Submitted {number} tasks in {len(done.submitted)} jobs; {queued} were already queued.")
        others = set(done.known.active()) - {str(task.relative) for task in todo}
        if others:
            self._say(f"{len(others)} more tasks of this run are queued, for other settings or stages.")
        self._say(f"Scripts and Slurm's messages: {self._records.folder}. State: kd status, with the same arguments.")

    def _say_progress(self, done: _Round, array: Array) -> None:
        now = time.monotonic()
        if now - self._said >= PROGRESS_SECONDS:
            if self._said:
                submitted = len(done.missing) - len(done.left())
                self._say(f"Submitting {array.part.stage.name}: {submitted} of {len(done.missing)} tasks are queued.")
            self._said = now

    def _say(self, text: str) -> None:
        self._console.print(Text(f"{datetime.now():%H:%M:%S} {text}"), soft_wrap=True)


def _tasks(number: int) -> str:
    return f"{number} task{'s' if number != 1 else ''}"
