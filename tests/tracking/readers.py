"""Prints the curves that a tracker's own reader finds in a folder, as JSON: name -> list of (update, value)."""

import json
import os
import sys
from pathlib import Path


def tensorboard(folder: Path) -> dict:
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    runs = EventMultiplexer(size_guidance={"scalars": 0}).AddRunsFromDirectory(str(folder)).Reload()
    (run,) = runs.Runs()
    assert run == "teacher.en-de/member-1"
    tags = runs.GetAccumulator(run).Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in runs.Scalars(run, tag)] for tag in tags}


def wandb(folder: Path) -> dict:
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, curves = DataStore(), {}
    data.open_for_scan(str(path))
    while (record := data.scan_data()) is not None:
        parsed = wandb_internal_pb2.Record()
        parsed.ParseFromString(record)
        if parsed.WhichOneof("record_type") == "run":
            assert parsed.run.display_name == "teacher.en-de/member-1"
            assert parsed.run.project == "demo"
        row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in parsed.history.item}
        for name, value in row.items():
            curves.setdefault(name, []).append((row["_step"], value))
    return curves


def mlflow(folder: Path) -> dict:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=folder.as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert run.data.params == {"model.width": "128"}
    assert run.info.status == "FINISHED"
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: [(metric.step, metric.value) for metric in history] for name, history in histories.items()}


if __name__ == "__main__":
    reader = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}[sys.argv[1]]
    print(json.dumps(reader(Path(sys.argv[2]))))
