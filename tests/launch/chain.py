"""A chain of dummies given as JSON; `python -m tests.launch.chain` runs one of its tasks, or all, as `kd` would."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from kd.base.errors import EXIT_TRANSIENT, EXIT_USER, TransientError, UserError
from kd.launch.environment import THREADS
from kd.launch.launcher import Failure, Interrupted, exit_status
from kd.launch.local import LocalLauncher
from kd.pipeline.execute import execute
from kd.pipeline.model import Task
from kd.pipeline.plan import Plan
from kd.pipeline.run import Run
from kd.pipeline.store import Store
from tests.pipeline.dummies import entry, plan

ROOT = Path(__file__).parents[2]


class Chain:
    """A folder with a chain, its store, its run and its journal."""

    def __init__(self, folder: Path, *entries: dict[str, Any]) -> None:
        self.folder = folder
        self.spec, self.journal = folder / "chain.json", folder / "journal"
        self.store, self.run = Store(folder / "store"), Run(folder / "run")
        if entries:
            self.spec.write_text(json.dumps(entries))

    @property
    def plan(self) -> Plan:
        """The plan, made anew."""
        return plan(*(entry(**{"journal": str(self.journal), **item}) for item in json.loads(self.spec.read_text())))

    def launcher(self, **settings: Any) -> LocalLauncher:
        """A launcher of this chain."""
        given = {"processes": 2, "threads": 2, "gpus": 0, "refresh": 60.0, "command": self.command, **settings}
        return LocalLauncher(self.run, self.store, "hash", **given)

    def launch(self, **settings: Any) -> list[Failure]:
        """Run the chain from this process."""
        return self.launcher(**settings).launch(list(self.plan.tasks()))

    def command(self, task: Task, _frozen: str, _run: Path) -> list[str]:
        """What runs a task of this chain."""
        return [*self._python(), "task", str(self.folder), task.stage.name, task.name]

    def launch_command(self) -> list[str]:
        """What runs the chain from a process of its own."""
        return [*self._python(), "launch", str(self.folder)]

    def told(self, what: str) -> list[str]:
        """The tasks whose `begin` or `end` stands in the journal, in order."""
        if not self.journal.exists():
            return []
        return [line.split()[1] for line in self.journal.read_text().split("\n")[:-1] if line.split()[0] == what]

    def spans(self) -> dict[str, tuple[float, float, int]]:
        """Task -> when it began, when it ended, its threads."""
        lines = [line.split() for line in self.journal.read_text().split("\n")[:-1]]
        ends = {name: float(moment) for what, name, _, moment in lines if what == "end"}
        return {
            name: (float(moment), ends[name], int(threads)) for what, name, threads, moment in lines if what == "begin"
        }

    @staticmethod
    def _python() -> list[str]:
        return ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.launch.chain"]


def _end(_number: int, _frame: FrameType | None) -> None:
    raise TransientError("asked to end")


def main(verb: str, folder: str, *names: str) -> int:
    """What the processes of this module do."""
    chain = Chain(Path(folder))
    if verb == "launch":
        try:
            return exit_status(chain.launch())
        except Interrupted:
            return 130
    task = chain.plan.task(*names)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if task.stage.config.mishap == "deaf" else _end)
    try:
        execute(task, chain.store, threads=int(os.environ[THREADS]), device="cpu", machine={})
    except UserError as error:
        print(f"kd: {error}", file=sys.stderr)
        return EXIT_USER
    except TransientError as error:
        print(f"kd: {error}", file=sys.stderr)
        return EXIT_TRANSIENT
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
