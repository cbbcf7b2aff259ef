"""TensorBoard's event files, by TensorBoard's own writer: `tensorboard --logdir RUN/tracking/tensorboard` shows them.

torch.utils.tensorboard and tensorboardX write the same files and load torch, which the task beside a training does not.
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
        if folder.is_dir():  # of an earlier attempt
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        self._writer = EventFileWriter(str(folder))

    def write(self, point: Point) -> None:
        """Adds a point. TensorBoard knows updates and wall time as axes; the others are curves of their own."""
        named = point.values | {f"cost/{name}": value for name, value in point.axes.items()}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in named.items()]
        self._writer.add_event(Event(wall_time=point.time, step=point.update, summary=Summary(value=values)))

    def flush(self) -> None:
        """Writes to disk what is still on its way."""
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()


def prepare(folder: Path, project: str) -> None:
    """Trainings share nothing but the folder."""
    folder.mkdir(parents=True, exist_ok=True)


def open_tracker(folder: Path, subject: Subject) -> Events:
    """Begins anew."""
    return Events(folder / subject.name)
