"""What a task says of how far it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base import progress
from kd.base.progress import Progress, Snapshot


@pytest.mark.parametrize(
    ("snapshot", "line"),
    [
        (Snapshot("starting"), "starting"),
        (Snapshot("reading", 1234, unit="lines"), "reading, 1,234 lines"),
        (
            Snapshot("training", 50, 1000, "updates", 12.34, 77, {"loss": "3.21"}),
            "training, 50/1,000 updates, loss 3.21, 12 updates/s, 1 min 17 s left",
        ),
        (Snapshot("training", 1, 3, per_second=0.25), "training, 1/3, 0.25 steps/s"),
    ],
)
def test_lines(snapshot: Snapshot, line: str) -> None:
    assert snapshot.line() == line


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_rate_and_time_left_follow_from_what_was_done_here(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress"
    reporter = Progress(path)
    reporter.update("writing", 100, 400, "lines")  # 100 were there when this attempt began
    clock.now += 10
    reporter.update("writing", 150, 400, "lines")
    # By hand: 50 lines in 10 s are 5 a second; 250 are left, which takes 50 s.
    assert progress.read(path) == Snapshot("writing", 150, 400, "lines", 5.0, 50.0, {})


def test_seldom_written_but_for_beginnings_and_ends(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress"
    reporter = Progress(path)

    def shown() -> tuple[str, float]:
        snapshot = progress.read(path)
        assert snapshot
        return snapshot.what, snapshot.done

    reporter.update("writing", 1, 9)
    reporter.update("writing", 2, 9)
    assert shown() == ("writing", 1)
    reporter.update("writing", 9, 9)
    assert shown() == ("writing", 9)
    reporter.update("checking")
    assert shown() == ("checking", 0)


def test_more_than_all_is_no_time_before_now(tmp_path: Path, clock: Clock) -> None:
    reporter = Progress(tmp_path / "progress")
    reporter.update("writing", 0, 10)
    clock.now += 10
    reporter.update("writing", 20, 10)
    snapshot = progress.read(tmp_path / "progress")
    assert snapshot and snapshot.seconds_left == 0


def test_work_goes_on_where_progress_cannot_be_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Progress(tmp_path / "file" / "progress").update("writing", 1, 2)
    assert progress.read(tmp_path / "file" / "progress") is None


def test_what_is_no_snapshot_is_none(tmp_path: Path) -> None:
    for content in ("", "[]", '{"what": "x", "unknown": 1}'):
        (tmp_path / "progress").write_text(content)
        assert progress.read(tmp_path / "progress") is None


def test_the_log_has_a_line_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kd")
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    told = Progress(tmp_path / "progress.json")
    for second in range(150):
        now[0] = 1000.0 + second
        told.update("training", second, 1000, "updates", notes={"epoch": "2", "dev BLEU": "31.20"})
    assert [line.split(" ", 2)[2] for line in caplog.messages] == [
        f"training, {done}/1,000 updates, epoch 2, dev BLEU 31.20, 1 updates/s, {left} left"
        for done, left in ((60, "15 min 40 s"), (120, "14 min 40 s"))
    ]
