"""Send learning curves to TensorBoard, Weights & Biases or MLflow, without any effect on the results.

The training engine is not involved: a `Follower` replays `metrics.jsonl`, which is complete and without duplicates even
after crashes. docs/tracking.md is for users.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.pipeline.fingerprint import digest
from kd.tracking.follower import Follower, Subject, Tracker

# Kind -> the package that kd/tracking/KIND.py needs.
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
FOLDER = "tracking"  # within a run's folder


def wanted(trackers: Mapping[str, bool]) -> list[str]:
    """Return the kinds that are switched on; raise UserError for an unknown one or a missing package."""
    for kind, switched_on in trackers.items():
        if kind not in PACKAGES:
            raise UserError(f"There is no tracker called {kind}.", f"There are: {', '.join(PACKAGES)}.")
        if switched_on and importlib.util.find_spec(PACKAGES[kind]) is None:
            raise UserError(
                f"tracking.trackers.{kind} is true, but the package {PACKAGES[kind]} is not installed.",
                f"Type: pip install 'kd[{kind}]', or set tracking.trackers.{kind}=false.",
            )
    return [kind for kind, switched_on in trackers.items() if switched_on]


def facts(trackers: Mapping[str, bool], run: Path, recipe: str, lineage: str) -> dict[str, Any]:
    """Return the settings of the trackers for one task, as plain values. `lineage` is that of the task."""
    return {"trackers": dict(trackers), "folder": str(run / FOLDER), "project": recipe, "lineage": lineage}


def prepare(trackers: Mapping[str, bool], run: Path, recipe: str) -> None:
    """Create resources shared by several trainings, before they start; raises UserError like `wanted`."""
    for kind in wanted(trackers):
        _module(kind).prepare(run / FOLDER / kind, recipe)


def follower(told: Mapping[str, Any], name: str, settings: Mapping[str, Any], metrics: Path) -> Follower:
    """Return a follower for the training called `name` (stage/task); it does nothing if no tracker is switched on.

    Args:
        told: The result of `facts`.
        name: stage/task.
        settings: The training's settings, which trackers show.
        metrics: The training's metrics.jsonl.

    Raises:
        UserError: As in `wanted`.
    """
    kinds = wanted(told.get("trackers", {}))
    if not kinds:
        return Follower(metrics, {})
    folder, project = Path(told["folder"]), str(told["project"])
    # A training with changed settings is another subject, even at the same place in the run.
    subject = Subject(name, project, digest([str(folder), name, told["lineage"]]), dict(settings))
    return Follower(metrics, {kind: partial(_open, kind, folder / kind, subject) for kind in kinds})


def _open(kind: str, folder: Path, subject: Subject) -> Tracker:
    tracker: Tracker = _module(kind).open_tracker(folder, subject)
    return tracker


def _module(kind: str) -> Any:
    return importlib.import_module(f"kd.tracking.{kind}")
