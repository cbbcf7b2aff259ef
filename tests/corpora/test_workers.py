"""Work over processes comes back in order, fails as it failed, and leaves no process behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from kd.corpora.index import Damaged
from kd.corpora.workers import Tick, Workers
from kd.errors import TransientError


def square(item: int, tick: Tick) -> int:
    time.sleep(0.02 * (item % 3))
    tick(item)
    return item * item


def fail(item: int, tick: Tick) -> int:
    raise Damaged(f"{item} is broken.")


def die(item: int, tick: Tick) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def sleep(folder: Path, item: int, tick: Tick) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(300)


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order(processes: int) -> None:
    told: list[int] = []
    with Workers(processes) as workers:
        assert list(workers.map(square, range(1, 10), told.append)) == [n * n for n in range(1, 10)]
        assert told[-1] == 45
        assert list(workers.map(square, range(1, 4), told.append)) == [1, 4, 9]
        assert told[-1] == 6, "counted anew"


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_told_as_it_was(processes: int) -> None:
    with pytest.raises(Damaged) as caught, Workers(processes) as workers:
        list(workers.map(fail, [1, 2, 3], lambda _: None))
    assert str(caught.value) == "1 is broken. Remove the folder and run the stage again."


def test_a_killed_process_is_a_passing_fault() -> None:
    with pytest.raises(TransientError, match="memory"), Workers(2) as workers:
        list(workers.map(die, [1, 2, 3], lambda _: None))


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
from kd import cli, runs
from kd.corpora.workers import Workers
sys.path.insert(0, {tests!r})
from test_workers import sleep

def task(*_):
    with Workers(2) as workers:
        list(workers.map(partial(sleep, Path({folder!r})), [1, 2, 3], lambda _: None))

if __name__ == "__main__":
    runs.task = task  # what follows is `kd task`, its handling of signals included
    sys.exit(cli.main(["task", "--config", "x", "stage", "task"]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_killed_task_leaves_no_process(number: signal.Signals, status: int, tmp_path: Path) -> None:
    marks = tmp_path / "pids"
    marks.mkdir()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), folder=str(marks)), "utf-8")
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    pids = _wait_for(lambda: [int(path.name) for path in marks.iterdir()], 2)
    process.send_signal(number)
    assert process.wait(timeout=20) == status
    _wait_for(lambda: [pid for pid in pids if not _lives(pid)], 2)


def _wait_for(look: partial[list[int]] | object, count: int) -> list[int]:
    deadline = time.monotonic() + 60
    while len(found := look()) < count:  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
