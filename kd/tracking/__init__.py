"""Shows trainings in other people's tools: TensorBoard, Weights & Biases, MLflow; off to the side of what is made.

The training engine knows nothing of them: a `Follower` replays `metrics.jsonl`, which is whole and free of doubles
whatever was killed when. docs/tracking.md is the user's side.
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

# Kind -> the package that it needs; kd/tracking/KIND.py is what uses that.
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
FOLDER = "tracking"  # within a run's folder


def wanted(trackers: Mapping[str, bool]) -> list[str]:
    """The kinds that are switched on; raises UserError for one that is unknown or whose package is not installed."""
    for kind, switched_on in trackers.items():
        if kind not in PACKAGES:
            raise UserError(f"There is no tracker called {kind}.", f"tracking.trackers knows {', '.join(PACKAGES)}.")
        if switched_on and importlib.util.find_spec(PACKAGES[kind]) is None:
            raise UserError(
                f"tracking.trackers.{kind} is true, and the package {PACKAGES[kind]} is not installed.",
                f"Install it by pip install 'kd[{kind}]', or set tracking.trackers.{kind}=false.",
            )
    return [kind for kind, switched_on in trackers.items() if switched_on]


def facts(trackers: Mapping[str, bool], run: Path, recipe: str, lineage: str) -> dict[str, Any]:
    """What a task is told: what to follow with, and where; plain values. `lineage`: whose longer work is the same."""
    return {"trackers": dict(trackers), "folder": str(run / FOLDER), "project": recipe, "lineage": lineage}


def prepare(trackers: Mapping[str, bool], run: Path, recipe: str) -> None:
    """Makes, before several trainings begin at once, what they share; raises UserError as `wanted` does."""
    for kind in wanted(trackers):
        _module(kind).prepare(run / FOLDER / kind, recipe)


def follower(told: Mapping[str, Any], name: str, settings: Mapping[str, Any], metrics: Path) -> Follower:
    """Follows the training called `name` (stage/task) by what `facts` says; raises UserError as `wanted` does.

    With nothing to follow with, it does nothing.
    """
    kinds = wanted(told.get("trackers", {}))
    if not kinds:
        return Follower(metrics, {})
    folder, project = Path(told["folder"]), str(told["project"])
    # Another training at the same place in the run, with changed settings, is another subject.
    subject = Subject(name, project, digest([str(folder), name, told["lineage"]]), dict(settings))
    return Follower(metrics, {kind: partial(_open, kind, folder / kind, subject) for kind in kinds})


def _open(kind: str, folder: Path, subject: Subject) -> Tracker:
    tracker: Tracker = _module(kind).open_tracker(folder, subject)
    return tracker


def _module(kind: str) -> Any:
    return importlib.import_module(f"kd.tracking.{kind}")
