"""A disk that really is full: a small file system of one's own or, where none may be mounted, a limit on file sizes."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BYTES = 256 * 1024
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


@dataclass(frozen=True)
class SmallDisk:
    """A folder that holds no more than `BYTES`, for what `run` starts."""

    folder: Path

    @property
    def mounts(self) -> bool:
        """Whether a small file system can be mounted; else no single file can be larger than `BYTES`."""
        return subprocess.run([*NAMESPACE, "sh", "-c", self._mount()], capture_output=True).returncode == 0

    @property
    def reason(self) -> str:
        """What the system calls it."""
        return os.strerror(errno.ENOSPC if self.mounts else errno.EFBIG)

    def run(self, code: str, *arguments: str, full: bool = False) -> subprocess.CompletedProcess[str]:
        """Run Python code with the disk in place, `full` at once or not; `saved`, beside it, then has its files."""
        self.folder.mkdir(exist_ok=True)
        saved = self.folder.with_name("saved")
        python = shlex.join([sys.executable, "-c", code, *arguments])
        folder, copied = shlex.quote(str(self.folder)), shlex.quote(str(saved))
        if self.mounts:
            fill = f"cat /dev/zero > {folder}/filling 2> /dev/null; " if full else ""
            script = f"{self._mount()} || exit 99; {fill}{python}; status=$?; cp -a {folder} {copied}; exit $status"
            command = [*NAMESPACE, "sh", "-c", script]
        else:
            blocks = 0 if full else BYTES // 512
            script = f"(ulimit -f {blocks}; {python}); status=$?; cp -a {folder} {copied}; exit $status"
            command = ["sh", "-c", script]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)

    def _mount(self) -> str:
        self.folder.mkdir(exist_ok=True)
        return f"mount -t tmpfs -o size={BYTES} tmpfs {shlex.quote(str(self.folder))}"
