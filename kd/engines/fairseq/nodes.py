"""Implement the rendezvous of a training's nodes through small files in the task's folder on the shared file system.

The first node runs the task. The others wait for it and run the same torchrun; the first node's outcome is the task's.
Each node writes a random number, which tells its files from those of an earlier attempt.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kd.base.errors import TransientError
from kd.base.files import write_json

ARRIVAL_SECONDS = 600.0  # until all nodes have joined, after the first one has measured its batches
VERDICT_SECONDS = 60.0  # in which a node that failed learns the reason from the others
POLL_SECONDS = 0.2
FOLDER = "nodes"


class Meeting:
    """One node's part in the rendezvous. `out` is the task's folder, on a file system that all nodes share."""

    def __init__(self, out: Path, rank: int, nodes: int, patience: float = ARRIVAL_SECONDS) -> None:
        self._out = out
        self._folder = out / FOLDER
        self._rank = rank
        self._nodes = nodes
        self._patience = patience
        self._word = secrets.token_hex(8)
        self._words: dict[str, str] = {}  # of all other nodes, as the first node read them

    def open(self) -> None:
        """Remove the files of an earlier attempt (called on the first node)."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def invite(self, facts: Mapping[str, Any]) -> None:
        """Wait for the other nodes and send them `facts` (on the first node); TransientError if one does not join."""
        deadline = time.monotonic() + self._patience
        while True:
            self._words = {}
            for rank in range(1, self._nodes):
                with contextlib.suppress(OSError, ValueError):
                    self._words[str(rank)] = _read(self._folder / f"here-{rank}.json")["word"]
            missing = [rank for rank in range(1, self._nodes) if str(rank) not in self._words]
            if not missing:
                break
            if time.monotonic() > deadline:
                raise TransientError(f"Node {missing[0]} of {self._nodes} did not join within {self._patience:.0f} s.")
            time.sleep(POLL_SECONDS)
        write_json(self._folder / "run.json", {"words": self._words, **facts})

    def join(self, over: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        """Wait for the first node's facts and return them (called on other nodes); None if `over` returns True before.

        Raises:
            TransientError: The facts do not arrive in time.
        """
        deadline = time.monotonic() + self._patience
        here = self._folder / f"here-{self._rank}.json"
        while time.monotonic() < deadline:
            if over():
                return None
            with contextlib.suppress(OSError, ValueError):
                facts = _read(self._folder / "run.json")
                if facts["words"].get(str(self._rank)) == self._word:
                    return facts
            # Repeated, since the first node may have removed it together with the files of an earlier attempt.
            if self._out.is_dir():
                with contextlib.suppress(OSError, ValueError):
                    if not here.is_file() or _read(here)["word"] != self._word:
                        write_json(here, {"word": self._word})
            time.sleep(POLL_SECONDS)
        raise TransientError(f"The first node did not start the training within {self._patience:.0f} s.")

    def end(self, status: int, message: str = "") -> None:
        """Record how this node's part ended."""
        end = {"word": self._word, "status": status, "message": message}
        with contextlib.suppress(OSError):
            if self._folder.is_dir():
                write_json(self._folder / f"end-{self._rank}.json", end)

    def verdict(self, rank: int, seconds: float = VERDICT_SECONDS) -> tuple[int, str] | None:
        """Return another node's exit status and message; None if it does not record them in time."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, ValueError):
                end = _read(self._folder / f"end-{rank}.json")
                if self._rank != 0 or end["word"] == self._words.get(str(rank)):
                    return int(end["status"]), str(end["message"])
            if time.monotonic() > deadline:
                return None
            time.sleep(POLL_SECONDS)

    def died(self) -> tuple[int, str] | None:
        """Return the exit status and message of a failed node; None if no other node has failed.

        The first node checks all others; they check the first.
        """
        for rank in range(1, self._nodes) if self._rank == 0 else (0,):
            end = self.verdict(rank, 0.0)
            if end is not None and end[0] != 0:
                return end
        return None

    def close(self) -> None:
        """Remove the files at the end of the training (called on the first node)."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8")))
