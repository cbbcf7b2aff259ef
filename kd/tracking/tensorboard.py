"""Write TensorBoard's event files; `tensorboard --logdir RUN/tracking/tensorboard` shows them.

The writer is TensorBoard's own: torch.utils.tensorboard and tensorboardX import torch, which is not needed here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from kd.tracking.follower import Point, Subject


class Events:
    """A folder of event files for one training, as `STAGE/TASK` below TensorBoard's logdir."""

    def __init__(self, folder: Path) -> None:
        if folder.is_dir():  # files of an earlier attempt
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        self._writer = EventFileWriter(str(folder))

    def write(self, point: Point) -> None:
        """Add a point. TensorBoard has updates and wall time as axes; other axes become curves."""
        named = point.values | {f"cost/{name}": value for name, value in point.axes.items()}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in named.items()]
        self._writer.add_event(Event(wall_time=point.time, step=point.update, summary=Summary(value=values)))

    def flush(self) -> None:
        """Write all points to disk."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def prepare(folder: Path, project: str) -> None:
    """Do nothing: trainings share only the folder."""
    folder.mkdir(parents=True, exist_ok=True)


def open_tracker(folder: Path, subject: Subject) -> Events:
    """Delete the files of earlier attempts, and start a new one."""
    return Events(folder / subject.name)
