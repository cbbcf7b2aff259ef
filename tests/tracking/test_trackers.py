"""Trackers show each point of metrics.jsonl once, for any number of restarts; read back by their own readers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kd import cli, tracking
from kd.base.errors import StopRequested, UserError
from kd.tracking.follower import Follower, point

ROOT = Path(__file__).parents[2]
KINDS = ("tensorboard", "wandb", "mlflow")


def lines(updates: range) -> list[dict[str, Any]]:
    """Lines as a training writes them: one an update, a validation at each tenth."""
    found = []
    for update in updates:
        cost = {"target_tokens": update * 1000, "seconds": update * 36.0, "devices": 2}
        train = {"split": "train", "update": update, "epoch": 1, "loss": 8 / update, "gnorm": None, "lr": 1e-4 * update}
        found.append({**train, **cost})
        if update % 10 == 0:
            found.append(
                {"split": "dev", "update": update, "epoch": 1, "loss": 9 / update, "bleu": 1.5 * update, **cost}
            )
    return found


def write(path: Path, entries: list[dict[str, Any]], tail: str = "") -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + tail)


def expected(updates: int) -> dict[str, list[tuple[int, float]]]:
    """The curves of that many updates."""
    every, tenth = range(1, updates + 1), range(10, updates + 1, 10)
    return {
        "train/loss": [(update, 8 / update) for update in every],
        "train/lr": [(update, 1e-4 * update) for update in every],
        "dev/loss": [(update, 9 / update) for update in tenth],
        "dev/bleu": [(update, 1.5 * update) for update in tenth],
    }


ATTEMPTS = """
import json, os, pathlib, sys
from kd import tracking

kind, run, metrics, upto, how = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), *sys.argv[4:]
told = tracking.facts({kind: True}, run, "demo", "lineage")
tracking.prepare({kind: True}, run, "demo")
with tracking.follower(told, "teacher.en-de/member-1", {"model": {"width": 128}}, metrics) as follower:
    follower.look()
    follower.look()
    if how == "killed":
        os.kill(os.getpid(), 9)
"""


def attempt(python: Path, kind: str, run: Path, metrics: Path, how: str) -> None:
    """A process that follows a file as it is, and ends or is killed."""
    done = subprocess.run(
        [str(python), "-c", ATTEMPTS, kind, str(run), str(metrics), "", how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (-9 if how == "killed" else 0), done.stderr
    assert "Tracking by" not in done.stdout, done.stdout


def read(python: Path, kind: str, run: Path) -> dict[str, list[tuple[int, float]]]:
    """All curves of the only training, by the tracker's own reader: fails where there is more than one training."""
    done = subprocess.run(
        [str(python), str(Path(__file__).with_name("readers.py")), kind, str(run / "tracking" / kind)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    curves = json.loads(done.stdout.split("\n")[-2])
    return {name: [(int(step), value) for step, value in points] for name, points in curves.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_neither_lost_nor_repeated(kind: str, with_extras: Path, tmp_path: Path) -> None:
    metrics, run = tmp_path / "metrics.jsonl", tmp_path / "run"
    write(metrics, lines(range(1, 26)), tail='{"split": "tr')  # cut short
    attempt(with_extras, kind, run, metrics, "killed")
    # Resumed from update 20: what came after it is done again, and written anew.
    write(metrics, lines(range(1, 21)))
    attempt(with_extras, kind, run, metrics, "killed")
    write(metrics, lines(range(1, 41)))
    attempt(with_extras, kind, run, metrics, "ended")
    found = read(with_extras, kind, run)
    for name, points in expected(40).items():
        assert [update for update, _ in found[name]] == [update for update, _ in points]
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in points])
    tokens, hours = ("target_tokens", "gpu_hours") if kind == "wandb" else ("cost/target_tokens", "cost/gpu_hours")
    assert dict(found[tokens])[40] == 40_000
    assert dict(found[hours])[40] == pytest.approx(40 * 36 * 2 / 3600)
    assert "train/gnorm" not in found  # was null


def test_new_lines_are_passed_on(tmp_path: Path) -> None:
    shown: list[int] = []

    class Recorder:
        def write(self, point: Any) -> None:
            shown.append(point.update)

        def flush(self) -> None:
            pass

        close = flush

    metrics = tmp_path / "metrics.jsonl"
    follower = Follower(metrics, {"recorder": Recorder})
    follower.look()
    write(metrics, lines(range(1, 4)), tail='{"split":')
    follower.look()
    assert shown == [1, 2, 3]
    write(metrics, lines(range(1, 6)))
    follower.look()
    assert shown == [1, 2, 3, 4, 5]


def test_a_tracker_that_fails_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def full() -> Any:
        raise OSError(28, "No space left on device")

    write(tmp_path / "metrics.jsonl", lines(range(1, 4)))
    with Follower(tmp_path / "metrics.jsonl", {"tensorboard": full}) as follower:
        follower.look()
        follower.look()
    assert caplog.text.count("No space left on device") == 1


def test_times_exclude_interruptions() -> None:
    first, last = (point(entry, began=1e9) for entry in (lines(range(1, 2))[0], lines(range(5, 6))[0]))
    assert (first.time, last.time) == (1e9 + 36, 1e9 + 180)


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path / "metrics.jsonl", lines(range(1, 4)))
    told = tracking.facts(dict.fromkeys(KINDS, False), tmp_path, "demo", "lineage")
    with tracking.follower(told, "teacher/member-1", {}, tmp_path / "metrics.jsonl") as follower:
        follower.look()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_missing_package_is_one_sentence_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(tracking.PACKAGES, "wandb", "wandb_not_installed")  # whoever runs this may have it
    settings = [f"run.dir={tmp_path}/run", f"store.dir={tmp_path}/store", "tracking.trackers.wandb=true"]
    assert cli.main(["run", "recipe=demo", *settings]) == 2
    assert capsys.readouterr().err == (
        "kd: tracking.trackers.wandb is true, but the package wandb_not_installed is not installed. "
        "Type: pip install 'kd[wandb]', or set tracking.trackers.wandb=false.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_signal_is_not_reported_as_a_trackers_failure(tmp_path: Path) -> None:
    def asked_to_end() -> Any:
        raise StopRequested(signal.SIGUSR1)

    with pytest.raises(StopRequested), Follower(tmp_path / "metrics.jsonl", {"tensorboard": asked_to_end}) as follower:
        follower.look()


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UserError, match="no tracker called aim"):
        tracking.wanted({"aim": True})
