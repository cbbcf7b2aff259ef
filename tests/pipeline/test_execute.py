"""One task: published when it is whole, resumed or begun anew when it is not, with a record of what happened."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kd.base import progress
from kd.base.errors import IncompleteArtifact, StopRequested, TransientError, UserError
from kd.base.lease import Lease
from kd.pipeline import execute as execute_module
from kd.pipeline.failures import failed_since, failure_message
from kd.pipeline.model import Job, Task
from kd.pipeline.store import Store
from tests.pipeline.dummies import Resume, Write, entry, only, plan, run
from tests.pipeline.small_disk import SmallDisk

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def kill_after_a_line(task: Task, store: Store) -> None:
    """Start a slow task in a separate process, and kill it once it has written something."""
    process = FORK.Process(target=run, args=(task, store))
    process.start()
    lines = store.paths(task).partial / "lines"
    for _ in range(1000):
        if lines.exists() and lines.read_text():
            break
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert 0 < lines.read_text().count("\n") < task.stage.config.steps


def test_what_is_published_is_whole_and_nothing_else_is_left(store: Store) -> None:
    task = only(steps=2)
    assert run(task, store) is True
    paths = store.paths(task)
    assert names(paths.final.parent) == {"worker-0", "worker-0.lineage"}
    assert names(paths.final) == {"lines", "manifest.json"}
    assert (paths.final / "lines").read_text() == "0 text worker-0\n1 text worker-0\n"
    assert run(task, store) is False


def test_the_manifest(store: Store) -> None:
    chain = plan(entry("a", steps=2), entry("b", inputs={"many": {"first": "a"}}, steps=1, text="t"))
    for task in chain.tasks():
        run(task, store)
    a, b = chain.tasks()
    manifest = store.paths(b).manifest()
    content = b"0 t worker-0\n"
    assert manifest["files"] == {"lines": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    assert manifest["bytes"] == len(content)
    assert manifest["inputs"] == {"many": [f"a/worker-0@{a.fingerprint}"]}
    assert (manifest["counts"], manifest["dropped"], manifest["facts"]) == ({"lines": 1}, {"empty": 0}, {"saw": 0})
    assert (manifest["stage"], manifest["task"], manifest["kind"]) == ("b", "worker-0", "write")
    assert (manifest["fingerprint"], manifest["lineage"]) == (b.fingerprint, b.lineage)
    assert (manifest["threads"], manifest["device"], manifest["machine"]) == (1, "cpu", "here")
    assert manifest["settings"]["text"] == "t"
    assert manifest["attempts"] == 1 and 0 <= manifest["seconds"] < 10
    assert set(manifest["versions"]) >= {"kd", "python", "torch", "fairseq", "ctranslate2", "sacrebleu"}


def test_what_is_not_whole_is_not_published(store: Store) -> None:
    task = only(mishap="check")
    with pytest.raises(IncompleteArtifact):
        run(task, store)
    paths = store.paths(task)
    assert not paths.final.exists() and not paths.lease.exists() and not paths.progress.exists()
    assert failure_message(paths) == "3 of 3 lines"
    (healed,) = plan(entry("stage")).tasks()  # the mishap is no part of the fingerprint
    assert run(healed, store) is True
    assert failure_message(paths) is None


def test_a_bugs_traceback_is_recorded_and_a_users_mistake_has_none(store: Store) -> None:
    with pytest.raises(RuntimeError):
        run(only(mishap="bug"), store)
    paths = store.paths(only())
    record = json.loads(paths.failure.read_text())
    assert (record["message"], record["kind"]) == ("a bug", "RuntimeError")
    assert 'raise RuntimeError("a bug")' in record["traceback"]
    with pytest.raises(UserError):
        run(only(mishap="user"), store)
    record = json.loads(paths.failure.read_text())
    assert record["message"] == "The user erred. Mend it." and "traceback" not in record


def test_a_resumable_kind_goes_on_with_what_is_there(store: Store) -> None:
    slow = only("resume", steps=20, seconds=0.05)
    kill_after_a_line(slow, store)
    paths = store.paths(slow)
    before = (paths.partial / "lines").read_text()
    inode = (paths.partial / "lines").stat().st_ino
    assert run(only("resume", steps=20), store) is True
    after = (paths.final / "lines").read_text()
    assert (paths.final / "lines").stat().st_ino == inode and after.startswith(before)
    assert [line.split()[0] for line in after.split("\n")[:-1]] == [str(step) for step in range(20)]


def test_another_begins_anew(store: Store) -> None:
    slow = only(steps=20, seconds=0.05)
    kill_after_a_line(slow, store)
    (store.paths(slow).partial / "rubbish").touch()
    assert run(only(steps=20), store) is True
    assert names(store.paths(slow).final) == {"lines", "manifest.json"}


def test_attempts_and_their_seconds_are_counted(store: Store) -> None:
    slow = only("resume", steps=20, seconds=0.05)
    paths = store.paths(slow)
    kill_after_a_line(slow, store)
    # The killed attempt lived until its lease's last sign of life: say it was 100 s.
    attempts = json.loads(paths.attempts.read_text())
    attempts[0]["started"] -= 100
    paths.attempts.write_text(json.dumps(attempts))
    with pytest.raises(UserError):
        run(only("resume", steps=20, mishap="user"), store)
    run(only("resume", steps=20), store)
    manifest = paths.manifest()
    assert manifest["attempts"] == 3
    assert 100 <= manifest["seconds"] < 110
    assert manifest["cpu_seconds"] is None  # what was killed cannot say
    assert not paths.attempts.exists()


def test_cpu_seconds_are_those_of_all_attempts_and_of_processes_that_they_start(store: Store) -> None:
    with pytest.raises(IncompleteArtifact):
        run(only(mishap="check"), store)
    paths = store.paths(only())
    attempts = json.loads(paths.attempts.read_text())
    attempts[0]["cpu_seconds"] += 100
    paths.attempts.write_text(json.dumps(attempts))
    run(only(mishap="busy", seconds=0.2), store)
    manifest = paths.manifest()
    assert 100.5 <= manifest["cpu_seconds"] < 110


def test_one_whose_input_is_missing_says_which(store: Store) -> None:
    chain = plan(entry("a"), entry("b", inputs={"many": {"x": "a"}}))
    with pytest.raises(UserError, match="b/worker-0 needs a/worker-0, which is missing"):
        run(chain.task("b", "worker-0"), store)


def test_one_that_another_works_on_is_for_later(store: Store) -> None:
    task = only()
    with Lease.acquire(store.paths(task).lease), pytest.raises(TransientError, match=f"process {os.getpid()} on "):
        run(task, store)
    assert failure_message(store.paths(task)) is None


def test_one_that_was_replaced_publishes_nothing_and_leaves_the_other_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = only()
    paths = store.paths(task)

    def replaced(*_: object, **__: object) -> dict[str, str]:
        holder = json.loads(paths.lease.read_text())
        paths.lease.write_text(json.dumps({**holder, "token": "other"}))
        paths.progress.write_text("the other's")
        return {}

    monkeypatch.setattr(execute_module, "manifest", replaced)
    with pytest.raises(TransientError, match="taken over"):
        run(task, store)
    assert not paths.final.exists() and not paths.failure.exists()
    assert paths.progress.read_text() == "the other's" and paths.lease.exists() and paths.partial.exists()


# --- earlier outputs to resume from -----------------------------------------------------------------------------------


def test_kin_is_the_same_work_gone_less_or_further(store: Store) -> None:
    published, left_off, held, other = (
        only("resume", steps=2),
        only("resume", steps=30, seconds=0.05),
        only("resume", steps=40, seconds=0.05),
        only("resume", text="another work", steps=2),
    )
    run(published, store)
    run(other, store)
    os.utime(store.paths(published).final, (1, 1))
    kill_after_a_line(left_off, store)
    kill_after_a_line(held, store)
    task = only("resume", steps=9)
    with Lease.acquire(store.paths(held).lease):
        assert store.resumable_from(task) == [store.paths(left_off).partial, store.paths(published).final]
    assert store.resumable_from(task)[0] == store.paths(held).partial, "newest first"
    run(task, store)
    assert store.paths(task).manifest()["facts"] == {"saw": 3}


def test_a_kind_that_does_not_resume_is_shown_no_kin(store: Store) -> None:
    run(only(steps=2), store)
    run(only(steps=3), store)
    assert store.paths(only(steps=3)).manifest()["facts"] == {"saw": 0}


# --- disks ---------------------------------------------------------------------------------------------------------


CODE = """
import sys
from pathlib import Path
from kd.base.errors import UserError
from kd.pipeline.store import Store
from tests.pipeline.dummies import only, run
try:
    run(only(sys.argv[2], text="x" * 1000, steps=1000), Store(Path(sys.argv[1])))
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_told_in_a_sentence_and_recorded(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk")
    told = disk.run(CODE, str(disk.folder / "store"), "write")
    task = only(text="x" * 1000, steps=1000)
    folder = Store(disk.folder / "store").paths(task).final.parent
    assert told.stdout.startswith(f"Writing to {folder} failed: {disk.reason}.") and told.stderr == ""
    saved = Store(tmp_path / "saved" / "store").paths(task)
    assert failure_message(saved) == told.stdout.rstrip("\n")
    assert not saved.final.exists() and not saved.partial.exists() and not saved.lease.exists()


def test_on_a_full_disk_what_can_be_gone_on_with_is_kept(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk")
    told = disk.run(CODE, str(disk.folder / "store"), "resume")
    assert disk.reason in told.stdout and told.stderr == ""
    saved = Store(tmp_path / "saved" / "store").paths(only("resume", text="x" * 1000, steps=1000))
    assert (saved.partial / "lines").stat().st_size > 100_000


def test_a_disk_full_before_the_lease_is_told_too(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk")
    told = disk.run(CODE, str(disk.folder / "store"), "write", full=True)
    assert disk.reason in told.stdout and told.stderr == ""


def test_the_manifest_says_how_much_memory_it_took(store: Store) -> None:
    task = only(steps=1)
    run(task, store)
    peak = store.paths(task).manifest()["peak_memory"]
    assert 1 << 20 < peak < 1 << 36  # bytes


def test_memory_of_processes_that_were_waited_for_counts() -> None:
    program = """
import subprocess, sys
from kd.base.usage import peak_memory
before = peak_memory()
subprocess.run([sys.executable, "-c", "x = bytearray(range(200)) * 1_000_000"], check=True)
assert before < 200_000_000 < peak_memory(), (before, peak_memory())
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# --- faults of the file system, and damaged records ------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_a_passing_fault_of_a_file_system_is_retried(
    store: Store, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = only(kind="resume")

    def fail(_: object, job: Job[Any]) -> None:
        (job.out / "lines").write_text("0 text worker-0\n")
        raise OSError(number, "x", str(job.out / "lines"))

    with monkeypatch.context() as patch, pytest.raises(TransientError, match=r"Reading or writing .*/lines failed: "):
        patch.setattr(Write, "run", fail)
        run(task, store)
    paths = store.paths(task)
    assert failure_message(paths) is None and not paths.lease.exists()
    assert (paths.partial / "lines").exists(), "its work is kept"
    assert run(task, store) is True


@pytest.mark.parametrize("error", [UserError("The user erred.", "Mend it."), RuntimeError("a bug")])
def test_an_error_while_the_lease_is_released_replaces_no_other(
    store: Store, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = only()
    unlink = Path.unlink

    def read_only(path: Path, missing_ok: bool = False) -> None:
        if path in (store.paths(task).lease, store.paths(task).progress):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        unlink(path, missing_ok)

    def fail(*_: object) -> None:
        monkeypatch.setattr(Path, "unlink", read_only)
        raise error

    monkeypatch.setattr(Write, "run", fail)
    with pytest.raises(type(error)) as caught:
        run(task, store)
    assert caught.value is error


DAMAGED = [
    b"",
    b"{",
    b"\xff",
    b"null",
    b"5",
    b"[5]",
    b'[{"started": "x", "cpu_before": 0}]',
    b'{"what": 5}',
    b'{"token": 5}',
    b'{"joules": "x"}',
    b'{"time": 5, "message": {}}',
    b"[" * 200_000,
    b"9" * 5000,
]


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_records_beside_a_task_do_not_stop_it(store: Store, content: bytes) -> None:
    task = only(kind="resume", steps=2)
    paths = store.paths(task)
    paths.final.parent.mkdir(parents=True)
    for path in (paths.attempts, paths.progress, paths.failure, paths.energy, paths.lineage, paths.lease):
        path.write_bytes(content)
    os.utime(paths.lease, (0, 0))  # its holder has long stopped touching it
    (store.root / ".files.json").write_bytes(content)
    assert progress.read(paths.progress) is None
    failure_message(paths)
    assert not failed_since(paths, 0.0)
    assert run(task, store) is True
    assert paths.manifest()["attempts"] == 1


def test_temporary_files_of_a_killed_attempt_are_removed_by_the_next(store: Store) -> None:
    task = only(steps=1)
    folder = store.paths(task).final.parent
    folder.mkdir(parents=True)
    old, new = folder / ".worker-0.lineage.0a1b2c3d", folder / ".worker-0.lease.0a1b"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    run(task, store)
    assert not old.exists() and new.exists(), "a new one may belong to a live process"


def test_what_a_killed_attempt_left_half_written_is_not_published(store: Store) -> None:
    task = only(kind="resume", steps=2)
    paths = store.paths(task)
    (paths.partial / "data").mkdir(parents=True)
    left = (".manifest.json.0a1b2c3d", ".shards.jsonl.43c4320f", "data/.index.json.ffffffff", "data/model.pt.tmp")
    for name in (*left, ".gitattributes"):
        (paths.partial / name).touch()
    run(task, store)
    assert [name for name in left if (paths.final / name).exists()] == []
    assert (paths.final / ".gitattributes").exists(), "a hidden file of the output itself"


def journal_of(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().split("\n")[:-1]]


@pytest.mark.parametrize("kind", [Write, Resume])
@pytest.mark.parametrize("stop", [StopRequested(signal.SIGUSR1), KeyboardInterrupt(), OSError(errno.EIO, "I/O error")])
def test_a_stop_during_the_check_repeats_no_work(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Write], stop: BaseException
) -> None:
    """A corpus is read for hours, and read again to check it."""
    task = only(kind.name, journal=str(tmp_path / "journal"))

    def stopped(*_: Any) -> Any:
        raise stop

    for module, name in ((kind, "check"), (execute_module, "manifest"), (execute_module, "rename_folder")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, stopped)
            with pytest.raises((type(stop), TransientError)):
                run(task, store)
    assert run(task, store) is True
    assert journal_of(tmp_path / "journal") == ["begin", "end"]
    assert names(store.paths(task).final) == {"lines", "manifest.json"}
    assert set(store.paths(task).manifest()["files"]) == {"lines"}


@pytest.mark.parametrize("error", [IncompleteArtifact("lacks a line"), KeyError("a bug")])
def test_work_that_its_check_refused_is_repeated(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    task = only(journal=str(tmp_path / "journal"))

    def refuse(*_: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Write, "check", refuse)
        with pytest.raises(type(error)):
            run(task, store)
    assert run(task, store) is True
    assert journal_of(tmp_path / "journal") == ["begin", "end", "begin", "end"]
