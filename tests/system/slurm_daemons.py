"""The processes, network namespaces and links of a test's Slurm, written down so that all are gone afterwards.

A watcher of its own ends them when the process that started them has died without doing so, however it died.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RECORD = "cluster.json"


@dataclass
class Record:
    """The processes, namespaces and links of the cluster in one folder; recorded on disk before they exist."""

    root: Path
    processes: dict[str, tuple[int, str]] = field(default_factory=dict)  # by name: process id and start time
    namespaces: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def save(self) -> None:
        """Write the record."""
        content = {"processes": self.processes, "namespaces": self.namespaces, "links": self.links}
        (self.root / RECORD).write_text(json.dumps(content), "utf-8")

    @classmethod
    def load(cls, root: Path) -> Record:
        """Read the record."""
        content = json.loads((root / RECORD).read_text("utf-8"))
        processes = {name: (pid, started) for name, (pid, started) in content["processes"].items()}
        return cls(root, processes, content["namespaces"], content["links"])

    def spawn(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a daemon in the foreground of a session of its own; its output goes to NAME.out."""
        with (self.root / f"{name}.out").open("ab") as log:
            process = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes[name] = (process.pid, started_at(process.pid))
        self.save()
        return process

    def end(self, name: str, seconds: float = 5.0) -> None:
        """End a daemon by SIGTERM and, if it is still there after a while, by SIGKILL."""
        pid, started = self.processes.pop(name)
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + seconds
            with contextlib.suppress(ProcessLookupError):
                if started_at(pid) == started:  # the number may be another's by now
                    os.kill(pid, number)
            while started_at(pid) == started and time.monotonic() < deadline:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                time.sleep(0.02)
        self.save()

    def end_all(self) -> None:
        """End the daemons, last first, then other processes in the namespaces (of jobs), and remove the namespaces."""
        for name in reversed(list(self.processes)):
            self.end(name)
        for namespace in self.namespaces:
            listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
            for pid in listed.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
        for link in self.links:
            subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
        self.namespaces, self.links = [], []
        self.save()


def started_at(pid: int) -> str:
    """Return the start time of a process in ticks since boot; empty if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def watch(root: Path) -> subprocess.Popen[bytes]:
    """Start the watcher of the cluster in `root`, which cleans up once its standard input is closed."""
    return subprocess.Popen([sys.executable, __file__, str(root)], stdin=subprocess.PIPE, start_new_session=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    Record.load(Path(sys.argv[1])).end_all()
