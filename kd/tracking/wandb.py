"""Write runs for Weights & Biases offline: `wandb sync` uploads the folders later, from a node with a network.

A training has the same id in all attempts. Each attempt replays all updates, so the folders of earlier attempts are
deleted.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import wandb

from kd.tracking.follower import Point, Subject


class OfflineRun:
    """A run in `FOLDER/wandb/offline-run-…-ID`."""

    def __init__(self, folder: Path, subject: Subject) -> None:
        for earlier in (folder / "wandb").glob(f"offline-run-*-{subject.id}"):
            shutil.rmtree(earlier)
        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project=subject.project,
            group=subject.name.partition("/")[0],
            name=subject.name,
            id=subject.id,
            config=dict(subject.settings),
            settings=wandb.Settings(
                mode="offline",
                root_dir=str(folder),
                console="off",
                silent=True,
                # Otherwise it records the computer, the checkout and the command line.
                x_disable_stats=True,
                x_disable_machine_info=True,
                disable_git=True,
                disable_code=True,
            ),
        )
        for axis in ("target_tokens", "gpu_hours", "epoch"):
            self._run.define_metric(axis, hidden=True)

    def write(self, point: Point) -> None:
        """Add a point; values of the training and of the validation at the same update become one row."""
        self._run.log({**point.values, **point.axes, "_timestamp": point.time}, step=point.update)

    def flush(self) -> None:
        """Do nothing: the process of wandb writes continuously."""

    def close(self) -> None:
        """Write the remaining points and close the run."""
        self._run.finish()


def prepare(folder: Path, project: str) -> None:
    """Do nothing: trainings share only the folder."""
    folder.mkdir(parents=True, exist_ok=True)


def open_tracker(folder: Path, subject: Subject) -> OfflineRun:
    """Delete the folders of earlier attempts, and start a new run."""
    return OfflineRun(folder, subject)
