"""A task that crashes at any file operation, or whose disk fails there, ends bit for bit as if it never had.

A preloaded library (crash_shim.c) fails the n-th operation of the task, which runs in a process forked from one that
has imported kd (crash_server.py). Most runs try a few operations of each series, drawn by a seed that is printed;
`make chaos` tries all, or every n-th by KD_CHAOS=n.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from runs_of_tiny import Workplace

from kd.base.hashing import sha256
from kd.pipeline.store import ArtifactPaths
from kd.run.verify import check
from tests.moments import random_moments

pytestmark = pytest.mark.system
SHIM, SERVER = Path(__file__).with_name("crash_shim.c"), Path(__file__).with_name("crash_server.py")
SECONDS = 900  # limit of one run of a task
FAULTS = ("kill", "half", "enospc", "eio")
PUBLISHING = 25  # operations at the end of a task: check, manifest, flush, rename
EVERY = int(os.environ.get("KD_CHAOS") or 0)  # 0: a sample; n: every n-th operation


@dataclass(frozen=True)
class Series:
    """A task whose operations are failed one at a time; `pattern`: its files that are compared."""

    name: str
    stage: str
    task: str = "all"
    pattern: str = "**/*"
    last: bool = False  # only the operations that publish it


SERIES = [
    Series("shard", "shard.en-xx"),
    Series("encode", "encode.en-xx"),
    # checkpoint_*.pt hold times, which differ between two uninterrupted trainings as well
    Series("train", "teacher.en-xx", "member-1", "model.pt"),
    Series("decode", "decode.en-xx", "worker-0"),
    Series("select", "select.en-xx", "worker-0"),
    Series("publish", "select.en-xx", "worker-0", last=True),
]


@dataclass
class Ended:
    """A run of a task."""

    status: int  # negative for a signal
    output: str
    operations: int


@dataclass
class Victim:
    """A workplace in which one task is run again and again.

    Attributes:
        place: The workplace.
        series: The task.
        frozen: The hash of the task's config.
        server: The process that runs the task.
    """

    place: Workplace
    series: Series
    frozen: str
    server: subprocess.Popen[str]

    @property
    def paths(self) -> ArtifactPaths:
        """The artifact of the task."""
        return ArtifactPaths((self.place.run / self.series.stage / self.series.task).resolve())

    def remove(self) -> None:
        """Remove the artifact and everything beside it."""
        folder = self.paths.final.parent
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        folder.mkdir()

    def run(self, fault: str = "count", at: int = 0) -> Ended:
        """Runs the task in a process group of its own, with a fault at an operation or without any."""
        counter, log = self.place.folder / "counter", self.place.folder / "log"
        counter.write_bytes(bytes(8))
        arguments = ["task", "--config", self.frozen, "--run", str(self.place.run), self.series.stage, self.series.task]
        settings = {"CRASH_HOW": fault, "CRASH_AT": str(at)}
        request = json.dumps({"arguments": arguments, "settings": settings, "log": str(log)})
        assert self.server.stdin and self.server.stdout
        print(request, file=self.server.stdin, flush=True)
        assert select.select([self.server.stdout], [], [], SECONDS)[0], f"{fault} at {at} takes more than {SECONDS} s"
        status = int(self.server.stdout.readline())
        operations = int.from_bytes(counter.read_bytes(), sys.byteorder)
        return Ended(status, log.read_text("utf-8", "replace"), operations)

    def hashes(self) -> dict[str, str]:
        """Return the hashes of the files that must not differ."""
        found = self.paths.final
        return {
            str(path.relative_to(found)): sha256(path)
            for path in sorted(found.glob(self.series.pattern))
            if path.is_file() and not path.is_symlink() and path.name != "manifest.json"
        }


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that fails operations."""
    built = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(built), str(SHIM), "-ldl"], check=True)
    return built


@pytest.fixture
def copied(workplace: Workplace) -> tuple[Workplace, str]:
    """A copy of the finished run, with its frozen config."""
    before = set((workplace.run / "configs").glob("*.json"))
    workplace.kd("run", "upto=select")
    (frozen,) = set((workplace.run / "configs").glob("*.json")) - before
    return workplace, frozen.stem


@contextmanager
def running_server(place: Workplace, shim: Path) -> Iterator[subprocess.Popen[str]]:
    """Run crash_server.py with the library."""
    counter = place.folder / "counter"
    counter.write_bytes(bytes(8))
    settings = {"CRASH_ROOT": str(place.store), "CRASH_COUNTER": str(counter), "LD_PRELOAD": str(shim)}
    environment = {**os.environ, **settings, "KD_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SERVER)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment, start_new_session=True) as server:
        try:
            yield server
        finally:
            server.kill()


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
def test_a_task_survives_a_fault_at_any_operation(series: Series, copied: tuple[Workplace, str], shim: Path) -> None:
    place, frozen = copied
    with running_server(place, shim) as server:
        victim = Victim(place, series, frozen, server)
        victim.remove()
        whole = victim.run()
        assert whole.status == 0, whole.output
        expected = victim.hashes()
        assert expected and whole.operations > PUBLISHING
        trials = list(points(series, whole.operations))
        for fault, at in trials:
            fail_and_repeat(victim, fault, at, expected)
    print(f"{series.name}: {len(trials)} trials, all equal, of {whole.operations} operations")


def points(series: Series, operations: int) -> Iterator[tuple[str, int]]:
    """Yield the faults to try: one operation for each kind of fault, or every `EVERY`-th from a random one on."""
    first = operations - PUBLISHING if series.last else 1
    moments = random_moments()
    for fault in FAULTS:
        yield from (
            ((fault, at) for at in range(first + moments.randint(0, EVERY - 1), operations + 1, EVERY))
            if EVERY
            else [(fault, moments.randint(first, operations))]
        )


def fail_and_repeat(victim: Victim, fault: str, at: int, expected: dict[str, str]) -> None:
    """Run a task with a fault, then without; the second one must give the expected files."""
    where = f"{victim.series.name}: {fault} at operation {at}"
    victim.remove()
    done = victim.run(fault, at)
    report = f"{where}: status {done.status}\n{done.output}"
    if fault in ("kill", "half") and done.operations >= at:
        assert done.status == -signal.SIGKILL, report
    elif fault == "enospc":
        assert done.status in (0, 2), report
    else:
        assert done.status in (0, 75), report
    assert "Traceback" not in done.output, report
    if victim.paths.is_published():
        assert check([victim.paths]) == [], f"{where}: a published artifact is complete"
    again = victim.run()
    assert again.status == 0, f"{where}, then\n{again.output}"
    assert victim.hashes() == expected, where
