"""How the nodes of one training find each other: small files in the task's folder, which all of them see.

The first node works on the task; the others wait for it and run the same torchrun, and its end is the task's. Each says
a number of its own, so that what an earlier attempt left is never taken for this one's.
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

ARRIVAL_SECONDS = 600.0  # for all nodes to be there, once the first one has measured its batches
VERDICT_SECONDS = 60.0  # for a node that failed to hear from the others why
POLL_SECONDS = 0.2
FOLDER = "nodes"


class Meeting:
    """One node's view on the others. `out`: the task's folder, on a file system that all of them share."""

    def __init__(self, out: Path, rank: int, nodes: int, patience: float = ARRIVAL_SECONDS) -> None:
        self._out = out
        self._folder = out / FOLDER
        self._rank = rank
        self._nodes = nodes
        self._patience = patience
        self._word = secrets.token_hex(8)
        self._words: dict[str, str] = {}  # of all the others, as the first node heard them

    def open(self) -> None:
        """The first node: forgets what an earlier attempt left."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def invite(self, facts: Mapping[str, Any]) -> None:
        """The first node: waits for the others and tells them what to run. Raises TransientError if one stays away."""
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
                raise TransientError(f"Node {missing[0]} of {self._nodes} did not come within {self._patience:.0f} s.")
            time.sleep(POLL_SECONDS)
        write_json(self._folder / "run.json", {"words": self._words, **facts})

    def join(self, over: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        """The others: waits for the first node's word and returns its facts; None where `over` says it has finished.

        Raises: TransientError if it does not come.
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
            # Again and again: the first node may have swept it away with an earlier attempt's.
            if self._out.is_dir():
                with contextlib.suppress(OSError, ValueError):
                    if not here.is_file() or _read(here)["word"] != self._word:
                        write_json(here, {"word": self._word})
            time.sleep(POLL_SECONDS)
        raise TransientError(f"The first node did not say what to run within {self._patience:.0f} s.")

    def end(self, status: int, message: str = "") -> None:
        """Says how this node's part ended."""
        end = {"word": self._word, "status": status, "message": message}
        with contextlib.suppress(OSError):
            if self._folder.is_dir():
                write_json(self._folder / f"end-{self._rank}.json", end)

    def verdict(self, rank: int, seconds: float = VERDICT_SECONDS) -> tuple[int, str] | None:
        """How another node's part ended, status and message; None where it does not say so in time."""
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
        """Status and message of another node whose part has failed; None as long as there is none.

        The first looks at all others, these look at the first.
        """
        for rank in range(1, self._nodes) if self._rank == 0 else (0,):
            end = self.verdict(rank, 0.0)
            if end is not None and end[0] != 0:
                return end
        return None

    def close(self) -> None:
        """The first node: takes the files away; the training is over."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8")))
