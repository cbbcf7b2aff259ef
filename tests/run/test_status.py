"""States of submitted tasks in `kd status`, from artifacts, records and the queue."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from kd.base import lease
from kd.base.errors import UserError
from kd.launch.slurm import queue
from kd.launch.slurm.launcher import SlurmLauncher
from kd.pipeline.plan import Plan
from kd.run import status as standing_module
from kd.run.status import FOLDED, State, TaskStates, last_lines, rows, summary
from tests.launch.chain import Chain
from tests.launch.slurm_stub import Stub, settings
from tests.pipeline import dummies
from tests.pipeline.dummies import entry, plan

CHAIN = (
    {"name": "first", "workers": 2, "steps": 1},
    {"name": "second", "steps": 1, "inputs": {"many": {"x": "first"}}},
    {"name": "third", "steps": 1, "inputs": {"one": {"x": "second"}}},
)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    return Stub(tmp_path / "stub").install(monkeypatch)


def dummies_chain() -> Plan:
    """A plan of one task whose stage has a long name."""
    return plan(entry("a-stage-with-quite-a-long-name"))


def told(chain: Chain) -> dict[str, tuple[str, str]]:
    """Task -> state and what is said about it."""
    known = queue.with_accounts(queue.read(chain.run), list(chain.plan.tasks()))
    standing = TaskStates(chain.run, chain.store, known)
    states = {task.full_name: standing.of(task) for task in chain.plan.tasks()}
    return {name: (state.word, state.about) for name, state in states.items()}


def submit(chain: Chain) -> None:
    """Queue the chain: jobs 101, 102, 103."""
    SlurmLauncher(settings(chain), chain.store, lambda _: []).launch(list(chain.plan.tasks()))


def test_queued_tasks_are_shown_with_job_and_reason(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    assert {word for word, _ in told(chain).values()} == {"missing"}
    submit(chain)
    assert told(chain)["second/worker-0"] == ("queued", "job 102_0, waits for its inputs")
    stub.change_states("PENDING", "RUNNING")
    assert told(chain)["first/worker-1"] == ("running", "job 101_1 on , 0:00 of 1:00")


def test_names_are_not_broken_in_a_narrow_terminal() -> None:
    line = standing_module.Line(list(dummies_chain().tasks()), State("queued", about="job 101_0, waits for its inputs"))
    console = Console(width=40, file=io.StringIO(), force_terminal=True, color_system=None)
    standing_module._print([line], console)
    text = console.file.getvalue()
    assert text.split("\n")[:2] == [
        "a-stage-with-quite-a-long-name/worker-0: queued",
        "    job 101_0, waits for its inputs",
    ]


def test_failed_tasks_and_the_tasks_cancelled_with_them_are_shown(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, {**CHAIN[0], "mishap": "user"}, *CHAIN[1:])
    submit(chain)
    with pytest.raises(UserError):
        dummies.run(chain.plan.task("first", "worker-1"), chain.store)
    stub.change_states("PENDING", "CANCELLED")
    states = told(chain)
    assert states["first/worker-1"][0] == "failed" and "The user erred." in states["first/worker-1"][1]
    assert states["first/worker-0"] == ("cancelled", "job 101_0: cancelled")
    assert states["third/worker-0"] == ("cancelled", "not started, because first/worker-0 did not finish")
    # Long afterwards, when Slurm has forgotten the jobs, the chain still tells.
    (stub.folder / "queue").unlink()
    assert told(chain)["third/worker-0"] == states["third/worker-0"]


def test_a_worker_without_heartbeat_is_shown(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    task = chain.plan.task("first", "worker-1")
    held = chain.store.paths(task).lease
    with lease.Lease.acquire(held):
        assert told(chain)["first/worker-1"] == ("running", "")
        plain = {**json.loads(held.read_text("utf-8")), "host": "node7"}  # whose processes cannot be seen from here
        held.write_text(json.dumps(plain), "utf-8")
        assert told(chain)["first/worker-1"] == ("running", "")
        before = held.stat().st_mtime - 60
        os.utime(held, (before, before))
        about = told(chain)["first/worker-1"][1]
        assert re.fullmatch(r"no heartbeat from node7 for 6\d s; after 120 s another process takes over", about)


def test_jobs_that_slurm_ended_are_shown_with_its_reason(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, CHAIN[0])
    submit(chain)
    stub.change_states("PENDING", "OUT_OF_MEMORY")
    assert told(chain)["first/worker-0"] == ("failed", "job 101_0: out of memory")


def test_accounting_is_asked_about_finished_jobs(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, CHAIN[0])
    submit(chain)
    (stub.folder / "queue").unlink()
    assert told(chain)["first/worker-0"] == ("missing", "")
    lines = "101_0|TIMEOUT|2026-11-21T18:00:00|n1|01:00:00|01:00:00\\n101_1|CANCELLED by 7|Unknown|None|0|1"
    (stub.folder / "bin" / "sacct").write_text(f'#!/bin/bash\nprintf "{lines}\\n"\n')
    assert told(chain)["first/worker-0"] == ("failed", "job 101_0: timeout")
    assert told(chain)["first/worker-1"] == ("cancelled", "job 101_1: cancelled")
    # As a real sacct tells of elements that were never begun, together (tests/system has one).
    lines = "101_[0-1%%2]|CANCELLED by 0|2026-11-21T22:08:13|None assigned|00:00:00|Partition_Limit"
    (stub.folder / "bin" / "sacct").write_text(f'#!/bin/bash\nprintf "{lines}\\n"\n')
    assert told(chain)["first/worker-1"] == ("cancelled", "job 101_1: cancelled")


def test_a_failed_task_is_shown_with_the_last_lines_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log, 2) == []
    log.write_bytes(b"one\ntwo\n10%\r20%\rthree \xe2\x80\xa8still\n")
    assert last_lines(log, 2) == ["two", "three \u2028still"]


def test_a_large_stage_with_equal_states_is_one_line(tmp_path: Path, stub: Stub) -> None:
    large = {"name": "large", "workers": 7, "steps": 1}
    chain = Chain(tmp_path, large, {**large, "name": "mixed"}, {"name": "small", "workers": 6, "steps": 1})
    dummies.run(chain.plan.task("mixed", "worker-3"), chain.store)
    standing = TaskStates(chain.run, chain.store, queue.Queue([], []))
    states = {task: standing.of(task) for task in chain.plan.tasks()}
    assert summary(states.values()) == "1 of 20 tasks done, 19 missing"
    lines = [line.cells()[:3] for line in rows(states, FOLDED)]
    assert lines[0] == ("large", "7 tasks", "missing")
    assert [stage for stage, _, _ in lines] == ["large", *["mixed"] * 7, *["small"] * 6]
    assert lines[4] == ("mixed", "worker-3", "done")
    assert len(rows(states, len(states))) == 20
    # What holds of all is kept; a reason that differs is the first one's.
    large = {
        task: State("done", "1 s", f"{task.name}; made elsewhere") for task in states if task.stage.name == "large"
    }
    assert rows(large, FOLDED)[0].cells()[2:] == ("done", "", "made elsewhere")
    failed = {task: State("failed", about=task.name[-1]) for task in large}
    assert rows(failed, FOLDED)[0].cells()[2:] == ("failed", "", "worker-0: 0")
    console = Console(file=io.StringIO(), width=200)
    standing_module._print(rows(states, FOLDED), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue().removesuffix("\n").split("\n")
    assert len(text) == 15 and all(line == line.rstrip() for line in text)
