"""Write MLflow's file store: plain files, without a server or a database (cluster file systems corrupt databases).

`mlflow ui` shows the files, and `mlflow migrate-filestore` converts them to a database.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Since 3.17 MLflow refuses its file store unless this variable is set before the import.
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from kd.tracking.follower import Point, Subject

_ID = "kd.id"  # tag that identifies the runs of earlier attempts
_LONGEST = 500  # characters of a parameter's value, the limit of old versions of MLflow
_AT_ONCE = 900  # metrics per call, the limit of MLflow


class StoredRun:
    """A run of the experiment named after the recipe."""

    def __init__(self, folder: Path, subject: Subject) -> None:
        self._client = _client(folder)
        experiment = _experiment(self._client, subject.project)
        for earlier in self._client.search_runs([experiment], f"tags.`{_ID}` = '{subject.id}'"):
            shutil.rmtree(folder / experiment / earlier.info.run_id)
        stage = subject.name.partition("/")[0]
        tags = {"mlflow.runName": subject.name, "stage": stage, _ID: subject.id}
        self._id = self._client.create_run(experiment, tags=tags).info.run_id
        parameters = [Param(name, str(value)[:_LONGEST]) for name, value in _flat(subject.settings)]
        self._client.log_batch(self._id, params=parameters)
        self._waiting: list[Metric] = []

    def write(self, point: Point) -> None:
        """Add a point; axes other than updates and time become curves."""
        named = point.values | {f"cost/{name}": value for name, value in point.axes.items()}
        milliseconds = round(point.time * 1000)
        self._waiting += [Metric(name, value, milliseconds, point.update) for name, value in named.items()]
        if len(self._waiting) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write all points that are waiting."""
        waiting, self._waiting = self._waiting, []
        while waiting:
            self._client.log_batch(self._id, metrics=waiting[:_AT_ONCE])
            waiting = waiting[_AT_ONCE:]

    def close(self) -> None:
        """Mark the run as finished."""
        self.flush()
        self._client.set_terminated(self._id)


def prepare(folder: Path, project: str) -> None:
    """Create the experiment in advance; otherwise trainings that start at the same time would each create one."""
    _experiment(_client(folder), project)


def open_tracker(folder: Path, subject: Subject) -> StoredRun:
    """Delete the runs of earlier attempts, and start a new one."""
    return StoredRun(folder, subject)


def _client(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=folder.absolute().as_uri())


def _experiment(client: Any, project: str) -> str:
    found = client.get_experiment_by_name(project)
    return str(found.experiment_id) if found else str(client.create_experiment(project))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
