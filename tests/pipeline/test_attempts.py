"""When another attempt at a task is of no use."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import StopRequested, TransientError, UserError
from kd.base.progress import Progress
from kd.pipeline import attempts
from kd.pipeline.failures import failure_message
from kd.pipeline.store import Store
from tests.pipeline import dummies


class Cut:
    """Makes the dummies end as by a signal after so many lines of this attempt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines = 0
        self.error = TransientError("cut")
        original = Progress.update
        seen = [0]

        def counted(progress: Any, what: str, done: float = 0, *more: Any, **named: Any) -> None:
            progress._written = 0.0  # tell each line
            original(progress, what, done, *more, **named)
            seen[0] = seen[0] + 1 if what == "writing" else 0
            if seen[0] >= self.lines:
                raise self.error

        monkeypatch.setattr(Progress, "update", counted)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Cut:
    monkeypatch.setenv(attempts.SUBMISSION, "one")
    return Cut(monkeypatch)


def attempt(store: Store, kind: str = "resume") -> str:
    """Begins a task of 100 lines; returns what it ended with."""
    task = dummies.only(kind, steps=100)
    with pytest.raises((TransientError, UserError)) as caught:
        dummies.run(task, store)
    return type(caught.value).__name__


def test_a_task_that_comes_further_is_begun_again_and_again(tmp_path: Path, cut: Cut) -> None:
    cut.lines = 2
    assert [attempt(Store(tmp_path)) for _ in range(5)] == ["TransientError"] * 5


def test_one_that_does_not_fails_after_two_in_a_row(tmp_path: Path, cut: Cut) -> None:
    store, cut.lines = Store(tmp_path), 3
    assert attempt(store) == "TransientError"
    cut.lines = 0  # it is cut before its first line
    assert attempt(store) == "TransientError"
    cut.lines = 1
    assert attempt(store) == "TransientError"
    cut.lines = 0
    assert [attempt(store) for _ in range(2)] == ["TransientError", "UserError"]
    told = failure_message(store.paths(dummies.only("resume", steps=100)))
    assert told is not None and "machine.resources.light.hours" in told


def test_what_begins_anew_each_time_never_comes_further(tmp_path: Path, cut: Cut) -> None:
    store = Store(tmp_path)
    cut.lines = 5
    assert attempt(store, "write") == "TransientError"
    cut.lines = 9
    assert attempt(store, "write") == "UserError"


def test_a_new_submission_counts_anew(tmp_path: Path, cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    for submission in ("one", "two", "three"):
        monkeypatch.setenv(attempts.SUBMISSION, submission)
        assert attempt(store, "write") == "TransientError"
    monkeypatch.delenv(attempts.SUBMISSION)  # of the local launcher: whoever types `kd run` again wants it again
    assert [attempt(store, "write") for _ in range(4)] == ["TransientError"] * 4


def test_giving_way_to_others_does_not_count(tmp_path: Path, cut: Cut) -> None:
    cut.error = StopRequested(signal.SIGTERM)
    assert [attempt(Store(tmp_path), "write") for _ in range(4)] == ["StopRequested"] * 4
    cut.error = StopRequested(signal.SIGUSR1)
    assert [attempt(Store(tmp_path), "write") for _ in range(2)] == ["StopRequested", "UserError"]


@pytest.mark.parametrize("spoilt", [b"\xff\xfe\x00", b"[{", b'{"started": 1}', b"[1, 2]"])
def test_a_record_that_the_disk_has_spoilt_is_begun_anew(tmp_path: Path, spoilt: bytes) -> None:
    store, task = Store(tmp_path), dummies.only()
    paths = store.paths(task)
    paths.attempts.parent.mkdir(parents=True)
    paths.attempts.write_bytes(spoilt)
    dummies.run(task, store)
    assert paths.manifest()["attempts"] == 1
