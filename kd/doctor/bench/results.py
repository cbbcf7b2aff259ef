"""Define the results of `kd doctor bench=true` and their JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from kd.base.files import write_text
from kd.base.records import plain, record, text

SCHEMA = 1  # of the file; raised whenever a key changes its meaning


class State(StrEnum):
    """The outcome of a measurement."""

    measured = "measured"
    not_measured = "not measured"  # it does not apply here, or there was no time
    failed = "failed"


@dataclass(frozen=True)
class Measurement:
    """One measurement.

    Attributes:
        name: Its name, such as `ensemble`.
        state: Its outcome.
        reason: One sentence, if it was not measured or failed.
        seconds: Its duration, with the start of its processes.
        values: The values that its function returned.
    """

    name: str
    state: State
    reason: str = ""
    seconds: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """All measurements of one computer.

    Attributes:
        schema: SCHEMA.
        kd, torch: Versions.
        date: Of the start, ISO 8601.
        host: Name of the computer.
        machine: Name of the machine's description (conf/machine/).
        device: cpu, cuda or rocm.
        name: Name of the device.
        count: GPUs; 0 on a CPU.
        miniature: Whether the models were tiny ones, so that no number says anything about speed.
        seconds: Duration.
        measurements: In the order in which they ran.
    """

    schema: int
    kd: str
    torch: str
    date: str
    host: str
    machine: str
    device: str
    name: str
    count: int
    miniature: bool
    seconds: float
    measurements: Sequence[Measurement]

    def write(self, path: Path) -> None:
        """Write the JSON file."""
        write_text(path, text(plain(self)))

    @staticmethod
    def read(content: Any, where: str) -> Results:
        """Build results from the content of a JSON file; raises ValueError if it is of another schema."""
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError(f"{where} is not a file of schema {SCHEMA}")
        return record(Results, content, where)
