"""Work over processes: in order, lazily; what goes wrong is told as it was, and no process is left, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from kd.base.errors import TransientError, UserError
from kd.base.processes import AHEAD, Tick, Workers, share
from kd.corpora.index import Damaged


@dataclass
class Context:
    """Made once in each process."""

    number: int
    uses: int = 0


def begin(log: Path, number: int) -> Context:
    if number < 0:
        raise UserError(f"{number} cannot be shared.", "Take another number.")
    with log.open("a") as handle:
        handle.write(f"{os.getpid()}\n")
    return Context(number)


def square(context: Context, number: int, tick: Tick) -> int:
    time.sleep(0.02 * (number % 3))
    tick(number)
    context.uses += 1
    return number * number + context.number


def count_uses(context: Context, number: int, tick: Tick) -> int:
    context.uses += 1
    return context.uses


def tick_and_wait(sign: Path, _: object, number: int, tick: Tick) -> int:
    """End once the parent has heard of it."""
    tick(number)
    for _ in range(600):
        if sign.exists():
            return number
        time.sleep(0.1)
    raise TimeoutError


def fail(_: object, number: int, tick: Tick) -> int:
    raise Damaged(f"{number} is broken.")


def refuse(_: object, number: int, tick: Tick) -> int:
    if number == 99:
        raise UserError("99 cannot be squared.", "Take another number.")
    return number


def describe(_: object, item: object, tick: Tick) -> str:
    return repr(item)


class Unreadable(Exception):
    """One that cannot be made again out of its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_unreadable(_: object, item: int, tick: Tick) -> None:
    raise Unreadable(item, item)


def end(how: Callable[[], None], _: object, item: int, tick: Tick) -> int:
    if item == 2:
        how()
    return item


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(300)


def mark(folder: Path) -> None:
    (folder / str(os.getpid())).touch()


def sleep(folder: Path, _: object, item: int, tick: Tick) -> None:
    mark(folder)
    time.sleep(300)


def compute(folder: Path, _: object, item: int, tick: Tick) -> None:
    """Busy in C code that never lets another thread of the process on, nor looks at signals."""
    mark(folder)
    ctypes.PyDLL(None).sleep(300)


def sleep_from_the_third(folder: Path, _: object, item: int, tick: Tick) -> int:
    mark(folder)
    if item > 2:
        time.sleep(300)
    return item


# --- results -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order_and_each_map_counts_its_own_progress(processes: int, tmp_path: Path) -> None:
    told: list[int] = []
    with Workers(processes, begin, tmp_path / "log", 1000) as workers:
        assert list(workers.map(square, range(20), told.append)) == [1000 + n * n for n in range(20)]
        assert told == sorted(told)
        assert told[-1] == 190
        told.clear()
        again = workers.map(square, (n for n in (3, 2, 1)), told.append)
        assert list(again) == [1009, 1004, 1001]
        assert told[-1] == 6, "counted anew"
        assert list(workers.map(square, [])) == []
    pids = (tmp_path / "log").read_text().split()
    assert len(pids) == len(set(pids)) <= processes, "the context is made once in each process"


def test_a_context_keeps_its_state_from_item_to_item(tmp_path: Path) -> None:
    with Workers(1, begin, tmp_path / "log", 0) as workers:
        assert list(workers.map(count_uses, range(3))) == [1, 2, 3]
        assert list(workers.map(count_uses, range(2))) == [4, 5], "in the next map as well"


@pytest.mark.parametrize("processes", [1, 2])
def test_no_item_is_taken_for_the_end(processes: int) -> None:
    with Workers(processes, share, None) as workers:
        assert list(workers.map(describe, [None, 0, "", None])) == ["None", "0", "''", "None"]


def test_progress_is_told_from_inside_an_item(tmp_path: Path) -> None:
    def go_on(done: int) -> None:
        if done == 12:
            (tmp_path / "go on").touch()

    with Workers(2, share, None) as workers:
        assert list(workers.map(partial(tick_and_wait, tmp_path / "go on"), [5, 7], go_on)) == [5, 7]


def test_items_are_read_no_earlier_than_they_are_needed(tmp_path: Path) -> None:
    asked = 0

    def work() -> Iterator[int]:
        nonlocal asked
        for number in range(50):
            asked += 1
            yield number

    with Workers(2, begin, tmp_path / "log", 0) as workers:
        assert next(workers.map(square, work())) == 0
        assert asked <= AHEAD * 2


# --- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_raised_unchanged(processes: int, tmp_path: Path) -> None:
    with pytest.raises(Damaged) as caught, Workers(processes, share, None) as workers:
        list(workers.map(fail, [1, 2, 3]))
    assert str(caught.value) == "1 is broken. Remove the folder and run the stage again."
    with pytest.raises(UserError, match="99 cannot be squared"), Workers(processes, share, None) as workers:
        list(workers.map(refuse, [1, 99, 2]))
    with (
        pytest.raises(UserError, match="-1 cannot be shared"),
        Workers(processes, begin, tmp_path / "log", -1) as workers,
    ):
        list(workers.map(square, [1, 2]))
    with pytest.raises(ZeroDivisionError), Workers(processes, share, None) as workers:
        list(workers.map(refuse, (1 // n for n in (1, 0))))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_is_a_passing_fault(number: signal.Signals) -> None:
    with pytest.raises(TransientError, match=r"memory.*launcher\.threads"), Workers(2, share, None) as workers:
        list(workers.map(partial(end, partial(send, number)), [1, 2, 3]))


@pytest.mark.parametrize(
    ("how", "told"),
    [(partial(os._exit, 1), "ended with status 1"), (partial(send, signal.SIGSEGV), "ended by SIGSEGV")],
)
def test_a_process_that_died_of_a_bug_is_no_passing_fault(how: Callable[[], None], told: str) -> None:
    with pytest.raises(RuntimeError, match=told), Workers(2, share, None) as workers:
        list(workers.map(partial(end, how), [1, 2, 3]))


def test_what_cannot_be_read_back_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="cannot be read") as caught, Workers(2, share, None) as workers:
        list(workers.map(raise_unreadable, [1]))
    assert "missing 1 required positional argument" in str(caught.value.__cause__)


# --- nobody is left behind -----------------------------------------------------------------------------------------


def test_a_map_that_is_left_early_ends_its_processes(tmp_path: Path) -> None:
    with Workers(2, share, None) as workers:
        for result in workers.map(partial(sleep_from_the_third, tmp_path), range(1, 9)):
            if result == 2:
                break
        _wait_for(lambda: [pid for pid in _marks(tmp_path) if not _lives(pid)], 2)
        assert list(workers.map(refuse, [1, 2])) == [1, 2], "another map begins anew"
    with pytest.raises(KeyError), Workers(2, share, None) as workers:
        for _ in workers.map(partial(sleep_from_the_third, tmp_path), range(1, 9)):
            raise KeyError
    assert not [pid for pid in _marks(tmp_path) if _lives(pid)]


TASK = """
import sys
from functools import partial
from pathlib import Path
from kd import cli
from kd.run import task as module
from kd.base.processes import Workers, share
sys.path.insert(0, {tests!r})
from base import test_processes

def task(*_):
    with Workers(2, share, None) as workers:
        list(workers.map(partial(test_processes.{work}, Path({folder!r})), [1, 2, 3]))

if __name__ == "__main__":
    if {is_task}:
        module.task = task  # the rest is `kd task`, its handling of signals included
        sys.exit(cli.main(["task", "--config", "x", "stage", "task"]))
    task()
"""


@pytest.mark.parametrize(
    ("is_task", "work", "number", "status"),
    [
        (True, "sleep", signal.SIGTERM, 75),
        (True, "sleep", signal.SIGINT, 130),
        (True, "sleep", signal.SIGKILL, -signal.SIGKILL),
        (True, "compute", signal.SIGTERM, 75),
        (True, "compute", signal.SIGKILL, -signal.SIGKILL),
        (False, "sleep", signal.SIGTERM, -signal.SIGTERM),
        (False, "sleep", signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_processes_end_with_their_parent(
    is_task: bool, work: str, number: signal.Signals, status: int, tmp_path: Path
) -> None:
    parent, errors = _start(tmp_path, is_task, work)
    pids = _wait_for(lambda: _marks(tmp_path / "pids"), 2)
    (os.killpg if number == signal.SIGINT else os.kill)(parent.pid, number)  # Ctrl-C reaches all of them
    assert parent.wait(timeout=20) == status
    _wait_for(lambda: [pid for pid in pids if not _lives(pid)], 2)
    assert "Traceback" not in errors.read_text("utf-8")


@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])  # seconds, while Python begins and imports
def test_an_interrupt_while_processes_begin_is_the_parents_business(after: float, tmp_path: Path) -> None:
    parent, errors = _start(tmp_path, True, "sleep")
    (pid,) = _wait_for(lambda: _spawned(parent.pid), 1)[:1]
    time.sleep(after)
    os.kill(pid, signal.SIGINT)
    assert pid in _wait_for(lambda: _marks(tmp_path / "pids"), 2)
    parent.terminate()
    assert parent.wait(timeout=20) == 75
    assert "Traceback" not in errors.read_text("utf-8")


def _start(folder: Path, is_task: bool, work: str) -> tuple[subprocess.Popen[bytes], Path]:
    (folder / "pids").mkdir()
    script, errors = folder / "script.py", folder / "errors"
    tests = str(Path(__file__).parents[1])
    script.write_text(TASK.format(tests=tests, folder=str(folder / "pids"), is_task=is_task, work=work), "utf-8")
    with errors.open("wb") as file:
        # Tests that run in the background of a shell inherit an ignored SIGINT.
        return subprocess.Popen(
            [sys.executable, str(script)],
            stderr=file,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
        ), errors


def _marks(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def _spawned(parent: int) -> list[int]:
    """Workers, whether they have begun or not."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text("utf-8").split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _wait_for(look: Callable[[], list[int]], count: int) -> list[int]:
    deadline = time.monotonic() + 60
    while len(found := look()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
