"""The process that a probe measures in: it never outlives the command that wants to know."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path


def test_it_ends_with_the_command_that_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "request.json")  # to which nothing is written: it waits, as a long measurement would
    probe = [sys.executable, "-P", "-m", "kd.planning.probe_worker", str(tmp_path)]
    start = f"import os, subprocess; subprocess.run([*{probe!r}, str(os.getpid())])"
    with subprocess.Popen([sys.executable, "-c", start]) as command:
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
        while not (found := children.read_text("ascii").split()):
            time.sleep(0.05)
        while (writer := opened(tmp_path / "request.json")) is None:  # nobody reads yet
            assert command.poll() is None
            time.sleep(0.05)
        command.kill()
    deadline = time.monotonic() + 30
    while (alive := Path(f"/proc/{found[0]}").exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.close(writer)
    assert not alive


def opened(pipe: Path) -> int | None:
    """The end of a pipe that is written to; None while nobody reads."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        assert error.errno == errno.ENXIO
        return None
