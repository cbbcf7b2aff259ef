"""Stopping a run from a real terminal: Ctrl-C once and twice, a closed terminal, the death of the parent alone."""

from __future__ import annotations

import os
import pty
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.launch.chain import Chain

SLOW = {"name": "a", "kind": "resume", "workers": 2, "steps": 400, "seconds": 0.05}
CTRL_C = b"\x03"


class Terminal:
    """A pseudo-terminal in which a chain is launched in the foreground."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.output = b""
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            for number in (signal.SIGINT, signal.SIGHUP):  # a test in the background of a shell ignores them
                signal.signal(number, signal.SIG_DFL)
            command = chain.launch_command()
            os.execvpe(command[0], command, {**os.environ, "TERM": "dumb"})
        os.set_blocking(self._terminal, False)

    def press(self, keys: bytes) -> None:
        """Type keys."""
        os.write(self._terminal, keys)

    def close(self) -> None:
        """Close the terminal, as its window would be: the foreground processes get SIGHUP."""
        os.close(self._terminal)
        self._terminal = -1

    def read(self) -> str:
        """Return all output so far."""
        with suppress(OSError):  # nothing to read, or nobody has it open any more
            while self._terminal >= 0 and (chunk := os.read(self._terminal, 65536)):
                self.output += chunk
        return self.output.decode("utf-8", "replace")

    def wait(self, seconds: float) -> int:
        """Return the exit code of the process; minus the number of the signal that killed it."""
        status: list[int] = []

        def ended() -> bool:
            self.read()
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                status.append(os.waitstatus_to_exitcode(code))
            return bool(pid)

        wait_for(ended, seconds)
        return status[0]

    def end(self) -> None:
        """Kill what is left."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        if self._terminal >= 0:
            self.close()


@contextmanager
def terminal(chain: Chain) -> Iterator[Terminal]:
    found = Terminal(chain)
    try:
        wait_for(lambda: bool(found.read()) and all(path.exists() for path in lines(chain)))
        yield found
    finally:
        found.end()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines(chain: Chain) -> list[Path]:
    return [chain.store.paths(task).partial / "lines" for task in chain.plan.tasks()]


def leases(chain: Chain) -> list[Path]:
    return [path for task in chain.plan.tasks() if (path := chain.store.paths(task).lease).exists()]


def test_ctrl_c_says_at_once_what_is_stopped_and_keeps_the_work(tmp_path: Path) -> None:
    chain = Chain(tmp_path, SLOW)
    with terminal(chain) as shell:
        shell.press(CTRL_C)
        assert shell.wait(60) == 130
        told = " ".join(shell.read().split())
        assert "Stopping 2 tasks (a/worker-0, a/worker-1)" in told
        assert "may take up to 60 s" in told and "Press Ctrl-C again to kill them." in told
    assert not leases(chain) and all(path.exists() for path in lines(chain)) and chain.told("end") == []


def test_the_message_comes_before_the_first_task_has_stopped(tmp_path: Path) -> None:
    """Tasks that ignore SIGTERM: they never stop by themselves, so the message cannot wait for them."""
    chain = Chain(tmp_path, {**SLOW, "mishap": "deaf"})
    with terminal(chain) as shell:
        shell.press(CTRL_C)
        wait_for(lambda: "Press Ctrl-C again" in " ".join(shell.read().split()))
        assert len(leases(chain)) == 2, "both still run"
        shell.press(CTRL_C)
        assert shell.wait(60) == 130


def test_a_closed_terminal_stops_the_tasks_and_keeps_the_work(tmp_path: Path) -> None:
    chain = Chain(tmp_path, SLOW)
    with terminal(chain) as shell:
        shell.close()
        assert shell.wait(60) == 130
    assert not leases(chain) and all(path.exists() for path in lines(chain)) and chain.told("end") == []


def test_tasks_end_when_the_parent_alone_is_killed(tmp_path: Path) -> None:
    chain = Chain(tmp_path, SLOW)
    with terminal(chain) as shell:
        os.kill(shell.pid, signal.SIGKILL)
        assert shell.wait(60) == -signal.SIGKILL
        wait_for(lambda: not leases(chain))
    assert all(path.exists() for path in lines(chain)) and chain.told("end") == []
