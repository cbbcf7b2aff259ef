"""Run tasks as processes on this computer, up to a configured number at once.

A failed task does not stop tasks that do not depend on it; all failures are reported at the end.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from io import FileIO
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kd.base import lease, progress
from kd.base.errors import EXIT_TRANSIENT, UserError, exit_of
from kd.base.faults import disk_fault
from kd.base.processes import die_with_parent
from kd.base.text import duration, last_lines
from kd.base.world import GPUS, PROCESSES
from kd.launch.environment import command, environment
from kd.launch.launcher import LOG_HEAD, Failure, Interrupted, Launcher, blocked
from kd.launch.order import Rules
from kd.pipeline.failures import failure_message
from kd.pipeline.model import Task
from kd.pipeline.run import Run, ensure_writable
from kd.pipeline.store import Store

POLL_SECONDS = 0.1
OTHERS_SECONDS = 1.0  # between two checks of the work of other processes: each is a request to a shared file system
RETRIES = 2  # of a task that ended with a fault that may pass
TERMINATE_SECONDS = 60.0  # to write a checkpoint before it is killed: more than a task gives its own workers
NAMED = 3  # tasks that the message about Ctrl-C names


@dataclass
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    log: FileIO
    slot: int
    gpus: list[int]
    began: float
    earlier_failure: int | None  # modification time of the failure record of an earlier attempt
    told: int = 0  # messages of the task that were passed on


class LocalLauncher(Launcher):
    """Run `processes` tasks at a time, with `threads // processes` threads each.

    A task gets one of this computer's `gpus` GPUs, or the number that `resources` (machine.resources) states for its
    class.
    """

    def __init__(
        self,
        run: Run,
        store: Store,
        frozen: str,
        *,
        processes: int,
        threads: int,
        gpus: int,
        refresh: float,
        resources: Mapping[str, Any] | None = None,
        command: Callable[[Task, str, Path], list[str]] = command,
    ) -> None:
        self._run = run
        self._store = store
        self._frozen = frozen
        self._processes = processes
        self._threads = max(1, threads // processes)
        self._rules = Rules(slots=processes, gpus=gpus, gpus_of=lambda task: self._takes(task, "gpus"))
        self._refresh = refresh
        self._resources = resources or {}
        self._command = command
        self._retries: dict[Task, int] = {}
        self._looked = 0.0
        self._listened = 0.0
        self._console = Console(stderr=True, highlight=False)

    def launch(self, tasks: Sequence[Task]) -> list[Failure]:
        """Run tasks whose outputs are missing, upstream first; return the failures. Raise Interrupted on a stop."""
        waiting = {task: None for task in tasks if not self._store.paths(task).is_published()}
        total, done = len(waiting), 0
        running: list[_Running] = []
        failures: list[Failure] = []
        elsewhere: set[Task] = set()  # tasks that another `kd run` works on
        began = time.monotonic()
        with (
            _StopRequests() as stop,
            self._display(lambda: self._lines(running, elsewhere, done, total, began)) as display,
        ):
            try:
                while (waiting or running or elsewhere) and not stop.count:
                    self._drop_blocked(waiting, failures)
                    self._start_ready(waiting, running, elsewhere, failures)
                    time.sleep(POLL_SECONDS)
                    for item in [item for item in running if item.process.poll() is not None]:
                        running.remove(item)
                        item.log.close()
                        done += self._finish(item, waiting, elsewhere, failures)
                    self._pass_on(running)
                    done += self._look_at_others(waiting, elsewhere)
                    display.refresh()
            finally:
                if stop.count and running:
                    self._say(_stopping([item.task.full_name for item in running]))
                _terminate(running, stop)
        if stop.count:
            raise Interrupted
        return failures

    # --- scheduling ----------------------------------------------------------------------------------------------

    def _start_ready(
        self, waiting: dict[Task, None], running: list[_Running], elsewhere: set[Task], failures: list[Failure]
    ) -> None:
        unfinished = {*waiting, *elsewhere, *(item.task for item in running)}
        for task, gpus in self._rules.startable(
            list(waiting), lambda: {item.task: item.gpus for item in running}, unfinished
        ):
            del waiting[task]
            try:
                running.append(self._start(task, gpus, running))
            except OSError as error:  # no room for its log, for instance
                fault = disk_fault(error, self._run.folder)
                status = exit_of(fault) if fault else 1
                failures.append(Failure(task, str(fault or error), self._run.log(task), status))

    def _takes(self, task: Task, what: str) -> int:
        found = self._resources.get(task.stage.kind.resources)
        return int(found[what]) if found else 0

    def _start(self, task: Task, gpus: list[int], running: list[_Running]) -> _Running:
        slot = min(set(range(self._processes)) - {item.slot for item in running})
        path = self._run.log(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("ab", buffering=0)
        arguments = self._command(task, self._frozen, self._run.folder)
        log.write(f"{LOG_HEAD} {datetime.now():%Y-%m-%d %H:%M:%S} {shlex.join(arguments)}\n".encode())
        world = {GPUS: str(len(gpus)), PROCESSES: str(max(1, self._takes(task, "processes")))}
        threads = self._threads * (self._processes if task.stage.kind.exclusive else 1)
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(threads, gpus, network=task.stage.kind.network) | world,
            preexec_fn=partial(_in_child, os.getpid()),  # noqa: PLW1509 - no threads here
        )
        self._say(f"started {task.full_name}")
        return _Running(task, process, log, slot, gpus, time.monotonic(), _written(self._store.paths(task).failure))

    def _finish(self, item: _Running, waiting: dict[Task, None], elsewhere: set[Task], failures: list[Failure]) -> int:
        task, status = item.task, item.process.returncode
        paths = self._store.paths(task)
        if paths.is_published():  # even if the process failed after that
            self._link(task)
            note = paths.manifest().get("facts", {}).get("note", "")
            took = duration(time.monotonic() - item.began)
            self._say(f"done    {task.full_name} in {took}" + (f": {note}" if note else ""))
            return 1
        if status == EXIT_TRANSIENT and lease.is_held(paths.lease):
            self._say(f"waiting for {task.full_name}: another process works on it")
            elsewhere.add(task)
            return 0
        message = self._message(item)
        if status == EXIT_TRANSIENT and self._retries.setdefault(task, 0) < RETRIES:
            self._retries[task] += 1
            self._say(f"again   {task.full_name}: {message}")
            waiting[task] = None
            return 0
        failures.append(Failure(task, message, self._run.log(task), status))
        took = duration(time.monotonic() - item.began)
        self._say(f"failed  {task.full_name} after {took}: {_first_sentence(message)}")
        return 0

    def _message(self, item: _Running) -> str:
        status = item.process.returncode
        if status < 0:
            cause = f"it was ended by signal {-status} ({signal.strsignal(-status)})"
            return f"{cause}; was there too little memory?" if -status == signal.SIGKILL else cause
        paths = self._store.paths(item.task)
        told = failure_message(paths) if _written(paths.failure) != item.earlier_failure else None
        return told or _last_line(self._run.log(item.task)) or self._no_room() or f"it ended with status {status}"

    def _no_room(self) -> str:
        """Return the message for a full disk, to which neither the record nor the log can be written."""
        try:
            ensure_writable(self._store.root, "store.dir")
            ensure_writable(self._run.folder, "run.dir")
        except UserError as error:
            return str(error)
        return ""

    def _pass_on(self, running: list[_Running]) -> None:
        """Print the messages that tasks have written since the last check."""
        if time.monotonic() - self._listened < OTHERS_SECONDS:
            return
        self._listened = time.monotonic()
        for item in running:
            snapshot = progress.read(self._store.paths(item.task).progress)
            for line in snapshot.said[item.told :] if snapshot else []:
                self._say(line)
                item.told += 1

    def _look_at_others(self, waiting: dict[Task, None], elsewhere: set[Task]) -> int:
        """Drop tasks that another process has finished, and take back tasks that it abandoned."""
        if time.monotonic() - self._looked < OTHERS_SECONDS:
            return 0
        self._looked = time.monotonic()
        for task in [task for task in elsewhere if not lease.is_held(self._store.paths(task).lease)]:
            elsewhere.remove(task)
            waiting[task] = None
        found = [task for task in waiting if self._store.paths(task).is_published()]
        for task in found:
            del waiting[task]
            self._link(task)
        return len(found)

    def _link(self, task: Task) -> None:
        with contextlib.suppress(OSError):  # only a view of the store; the next `kd run` makes the link
            self._run.link(task, self._store)

    def _drop_blocked(self, waiting: dict[Task, None], failures: list[Failure]) -> None:
        for failure in blocked(list(waiting), failures):
            del waiting[failure.task]
            failures.append(failure)

    # --- showing -------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that was closed; the tasks matter more
            self._console.print(Text(f"{datetime.now():%H:%M:%S} {text}"), soft_wrap=True)

    def _lines(self, running: list[_Running], elsewhere: set[Task], done: int, total: int, began: float) -> list[str]:
        lines = []
        for task in [*(item.task for item in running), *elsewhere]:
            snapshot = progress.read(self._store.paths(task).progress)
            lines.append(f"{task.full_name}: {snapshot.line() if snapshot else 'starting'}")
        return [*lines, f"{done} of {total} tasks done after {duration(time.monotonic() - began)}"]

    def _display(self, lines: Callable[[], list[str]]) -> _Display:
        return _Display(self._console, lines, self._refresh)


class _Display:
    """Lines that are updated in a terminal, or printed at intervals in a log file."""

    def __init__(self, console: Console, lines: Callable[[], list[str]], seconds: float) -> None:
        self._console = console
        self._lines = lines
        self._seconds = seconds
        self._shown = time.monotonic()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> _Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            with contextlib.suppress(OSError):  # a terminal that was closed
                self._live.stop()

    def refresh(self) -> None:
        """Show the lines if they are due."""
        now = time.monotonic()
        if now - self._shown < (0.5 if self._live else self._seconds):
            return
        self._shown = now
        with contextlib.suppress(OSError):
            self._show()

    def _show(self) -> None:
        if self._live:
            self._live.update(Text("\n".join(self._lines())), refresh=True)
        else:
            stamp = f"{datetime.now():%H:%M:%S}"
            for line in self._lines():
                self._console.print(Text(f"{stamp}   {line}"), soft_wrap=True)


class _StopRequests:
    """Count signals that ask to stop, so that no signal interrupts between starting a process and recording it."""

    def __init__(self) -> None:
        self.count = 0
        self._previous: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> _StopRequests:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def _stopping(tasks: Sequence[str]) -> str:
    """Return the message for a first Ctrl-C: which tasks are stopping, how long it may take, how to kill them."""
    shown = ", ".join(tasks[:NAMED]) + (" …" if len(tasks) > NAMED else "")
    number = f"{len(tasks)} task{'s' if len(tasks) > 1 else ''}"
    return (
        f"Stopping {number} ({shown}). Each saves its work, which may take up to {TERMINATE_SECONDS:.0f} s. "
        "Press Ctrl-C again to kill them."
    )


def _terminate(running: list[_Running], stop: _StopRequests) -> None:
    """Ask the running tasks to stop; kill them after TERMINATE_SECONDS, or when asked to stop again."""
    requests, deadline = stop.count, time.monotonic() + TERMINATE_SECONDS
    for item in running:
        item.process.terminate()
    while any(item.process.poll() is None for item in running):
        if time.monotonic() > deadline or stop.count > requests:
            for item in running:
                item.process.kill()
        time.sleep(POLL_SECONDS)
    for item in running:
        item.log.close()


def _first_sentence(message: str) -> str:
    """Return the first sentence of a message; the rest is printed at the end of the run."""
    return message.partition("\n")[0].partition(". ")[0].rstrip(".")


def _in_child(parent: int) -> None:
    # Ctrl-C and a closed terminal reach the whole process group; the launcher turns them into SIGTERM, so that tasks
    # save their work.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # If `kd run` is killed outright, its tasks have to end too, or the next one finds them at work.
    die_with_parent(parent, signal.SIGTERM)


def _written(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _last_line(log: Path) -> str:
    """Return the last line of a task's log; empty if the task wrote none."""
    line = "".join(last_lines(log, 1)).strip()
    return "" if line.startswith(f"{LOG_HEAD} ") else line.removeprefix("kd: ")
