"""Weights & Biases, offline: compute nodes reach no network, so a run is a folder that `wandb sync` uploads later.

A training keeps its id over all attempts; of its earlier attempts' folders none is left, for each begins at update 0.
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
                # It would look at the computer, the checkout and the command line, which are none of its business.
                x_disable_stats=True,
                x_disable_machine_info=True,
                disable_git=True,
                disable_code=True,
            ),
        )
        for axis in ("target_tokens", "gpu_hours", "epoch"):
            self._run.define_metric(axis, hidden=True)

    def write(self, point: Point) -> None:
        """Adds a point; a training's and a validation's of the same update become one row."""
        self._run.log({**point.values, **point.axes, "_timestamp": point.time}, step=point.update)

    def flush(self) -> None:
        """Its own process writes as it goes."""

    def close(self) -> None:
        """Writes what is left."""
        self._run.finish()


def prepare(folder: Path, project: str) -> None:
    """Trainings share nothing but the folder."""
    folder.mkdir(parents=True, exist_ok=True)


def open_tracker(folder: Path, subject: Subject) -> OfflineRun:
    """Begins anew."""
    return OfflineRun(folder, subject)
