"""Leases, among real processes that are really killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import pytest

from kd.base import lease
from kd.base.lease import Lease, LeaseHeld

FORK = multiprocessing.get_context("fork")


def hold(path: Path, ready: Event) -> None:
    Lease.acquire(path)
    ready.set()
    time.sleep(60)


def killed_holder(path: Path) -> int:
    """Leave a lease whose holder was killed; return the holder's pid."""
    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(path, ready))
    process.start()
    assert ready.wait(10)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.pid


def disguise(path: Path, *, age: float, **changes: object) -> None:
    """Make the lease look like one of another holder that gave its last sign `age` seconds ago."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    os.utime(path, (time.time() - age, time.time() - age))


def enter(path: Path, meet: Barrier, inside: Path, slow: bool) -> None:
    if slow:
        real = lease.is_free

        def judged_together(path: Path) -> bool:
            verdict = real(path)
            if path.name == "lease" and not hasattr(judged_together, "met"):
                judged_together.met = True  # type: ignore[attr-defined]
                meet.wait(20)
            return verdict

        lease.is_free = judged_together
    else:
        meet.wait(20)
    try:
        held = Lease.acquire(path)
    except LeaseHeld:
        return
    (inside / str(os.getpid())).touch()
    time.sleep(0.2)
    assert held.still_ours()


def contest(path: Path, inside: Path, *, slow: bool, processes: int = 8) -> int:
    inside.mkdir()
    meet = FORK.Barrier(processes)
    runners = [FORK.Process(target=enter, args=(path, meet, inside, slow)) for _ in range(processes)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join(30)
    assert [runner.exitcode for runner in runners] == [0] * processes
    return len(list(inside.iterdir()))


def test_it_is_exclusive_among_many_processes_at_once(tmp_path: Path) -> None:
    for number in range(3):
        assert contest(tmp_path / f"lease-{number}", tmp_path / f"inside-{number}", slow=False) == 1


def test_of_many_that_find_a_dead_holder_at_once_one_takes_over(tmp_path: Path) -> None:
    killed_holder(tmp_path / "lease")
    # Every one of them has judged the holder dead before any acts: what a race would be.
    assert contest(tmp_path / "lease", tmp_path / "inside", slow=True) == 1


def test_it_is_taken_over_at_once_from_a_killed_holder(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    pid = killed_holder(path)
    gone = lease.read(path)
    assert gone is not None and gone.pid == pid
    assert not lease.is_held(path)
    with Lease.acquire(path) as held:
        assert held.abandoned is not None
        assert held.abandoned.started == gone.started
        assert held.abandoned.last_seen >= gone.started - 1
        assert lease.is_held(path)
    assert list(tmp_path.iterdir()) == []


def test_a_recycled_pid_is_no_holder(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    held = Lease.acquire(path)
    disguise(path, age=0, token="other", process_start="1")  # this pid lives, and began at another time
    assert not lease.is_held(path)
    held.release()


@pytest.mark.parametrize(
    ("job", "restarts", "age", "held"),
    [
        ("41", "1", lease.REQUEUED_SECONDS + 5, False),
        ("41", "1", lease.REQUEUED_SECONDS - 10, True),  # a node that Slurm cannot reach: the holder may still run
        ("41", "0", lease.REQUEUED_SECONDS + 5, True),  # another process of the same job
        ("42", "1", lease.REQUEUED_SECONDS + 5, True),
        ("", "", lease.REQUEUED_SECONDS + 5, True),
        ("42", "0", lease.STALE_SECONDS + 5, False),
    ],
)
def test_a_requeued_job_takes_over_earlier_from_its_own_killed_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, restarts: str, age: float, held: bool
) -> None:
    path = tmp_path / "lease"
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "here")
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)  # as in the first attempt of a job
    killed_holder(path)
    disguise(path, age=age, host="elsewhere")
    for name, value in (("SLURM_JOB_ID", job), ("SLURM_RESTART_COUNT", restarts)):
        monkeypatch.setenv(name, value)
    assert lease.is_held(path) is held


def test_it_is_taken_over_from_another_host_only_after_silence(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    killed_holder(path)
    disguise(path, age=lease.STALE_SECONDS - 20, host="elsewhere")
    with pytest.raises(LeaseHeld) as error:
        Lease.acquire(path)
    assert error.value.holder is not None and error.value.holder.host == "elsewhere"
    disguise(path, age=lease.STALE_SECONDS + 20, host="elsewhere")
    Lease.acquire(path).release()


def test_a_living_holder_keeps_it_however_silent(tmp_path: Path) -> None:
    # Stopped (Ctrl-Z), or starved for minutes: it would go on writing when it wakes.
    path = tmp_path / "lease"
    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(path, ready))
    process.start()
    assert ready.wait(10) and process.pid
    os.kill(process.pid, signal.SIGSTOP)
    disguise(path, age=10 * lease.STALE_SECONDS)
    assert lease.is_held(path)
    with pytest.raises(LeaseHeld):
        Lease.acquire(path)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    Lease.acquire(path).release()


def test_a_holder_gives_signs_and_notices_that_it_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    path, lost = tmp_path / "lease", threading.Event()
    held = Lease.acquire(path, on_lost=lost.set)
    os.utime(path, (1, 1))
    for _ in range(100):
        if path.stat().st_mtime > 1:
            break
        time.sleep(0.05)
    assert path.stat().st_mtime > 1
    assert held.still_ours() and not lost.is_set()
    disguise(path, age=0, token="other")
    assert lost.wait(5)
    assert not held.still_ours()
    os.utime(path, (1, 1))
    time.sleep(0.2)
    assert path.stat().st_mtime == 1, "it must not keep another's lease alive"
    held.release()
    assert path.exists(), "it must not let go of another's lease"


def test_what_a_taker_that_was_killed_left_does_not_block_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    killed_holder(path)
    (tmp_path / "lease.taking").write_text(path.read_text())
    with pytest.raises(LeaseHeld):
        Lease.acquire(path)
    Lease.acquire(path).release()


def test_an_unreadable_lease_is_respected_while_it_is_young(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    path.write_text('{"token": "cut o')
    with pytest.raises(LeaseHeld):
        Lease.acquire(path)
    os.utime(path, (1, 1))
    Lease.acquire(path).release()


def test_a_holder_in_another_pid_namespace_cannot_be_observed(tmp_path: Path) -> None:
    # As inside a container with its own process ids: our pid means nothing there.
    path = tmp_path / "lease"
    held = Lease.acquire(path)
    code = f"from pathlib import Path; from kd.base import lease; print(lease.is_held(Path({str(path)!r})))"
    told = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(lease.__file__).parents[2])},
    )
    held.release()
    assert (told.stdout, told.stderr) == ("True\n", "")
