"""Measure the energy of a task's GPUs: sample their power in a thread and add it up to kWh over all attempts.

With the machine's PUE and carbon intensity it becomes kg CO2e, the columns of OLMo's energy table (Groeneveld et al.,
2024, arXiv:2402.00838, section on power consumption and carbon footprint): kWh * PUE * kg CO2e per kWh.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from kd.base.devices import Gpu, given
from kd.base.errors import TransientError
from kd.base.files import DamagedFile, read_object, write_text

SAMPLE_SECONDS = 1.0
SAVE_SECONDS = 10.0  # of its record that a killed attempt loses
NOT_MEASURED = "not measured"
JOULES = 3.6e6  # in a kWh


@dataclass
class Spent:
    """The energy measured so far, over all attempts at a task and all its GPUs on this node."""

    source: str = NOT_MEASURED
    gpus: list[str] = field(default_factory=list)
    joules: float = 0.0
    seconds: float = 0.0  # measured
    busy: float = 0.0  # seconds times utilisation (0 to 1), mean over the GPUs
    busy_seconds: float = 0.0  # in which utilisation could be read

    @classmethod
    def load(cls, path: Path) -> Spent:
        """Read the record of earlier attempts at `path`; an empty one if it is missing or damaged."""
        try:
            found = cls(**read_object(path))
        except (OSError, DamagedFile, TypeError):
            return cls()
        numbers = (found.joules, found.seconds, found.busy, found.busy_seconds)
        valid = isinstance(found.source, str) and isinstance(found.gpus, list)
        return found if valid and all(isinstance(each, int | float) for each in numbers) else cls()


class Counter:
    """Count the joules that one GPU used, sample by sample, and how busy it was.

    Add the differences of the GPU's own counter if it has one (NVML's total energy, since Volta); otherwise integrate
    the power by the trapezoid rule.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self._last: tuple[float, float | None, float | None] | None = None  # seconds, watts, counted joules

    def sample(self, now: float) -> tuple[float, float | None]:
        """Return the joules since the last sample, and the utilisation (0 to 1) if it can be read."""
        watts, counted, busy = self.gpu.watts(), self.gpu.joules(), self.gpu.utilisation()
        before, self._last = self._last, (now, watts, counted)
        return (_between(before, (now, watts, counted)), busy) if before else (0.0, busy)


def _between(
    before: tuple[float, float | None, float | None], after: tuple[float, float | None, float | None]
) -> float:
    if before[2] is not None and after[2] is not None and after[2] >= before[2]:  # less: the driver was reloaded
        return after[2] - before[2]
    if before[1] is None or after[1] is None:
        return 0.0
    return (before[1] + after[1]) / 2 * (after[0] - before[0])


class Meter:
    """Context manager that measures, and adds to the record at `path` of earlier attempts at the same task.

    A measurement error never stops the task; the record is then incomplete or empty.
    """

    def __init__(
        self, path: Path, gpus: Sequence[Gpu], source: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.spent = Spent.load(path)
        self._path = path
        self._counters = [Counter(gpu) for gpu in gpus]
        self._clock = clock
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._sampled: float | None = None
        self._saved = 0.0
        if gpus:
            self.spent.source = source
            self.spent.gpus = [gpu.name for gpu in gpus]

    def __enter__(self) -> Meter:
        if self._counters:
            self.sample()
            self._thread = threading.Thread(target=self._run, name="energy", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        self._over.set()
        self._thread.join(5 * SAMPLE_SECONDS)  # a driver that hangs must not delay the task
        if not self._thread.is_alive():
            self.sample()
            self._save()

    def sample(self) -> None:
        """Read all GPUs once."""
        now = self._clock()
        readings = [reading for counter in self._counters if (reading := _tried(counter, now)) is not None]
        elapsed = now - self._sampled if self._sampled is not None else 0.0
        self._sampled = now
        self.spent.joules += sum(joules for joules, _ in readings)
        self.spent.seconds += elapsed
        busy = [share for _, share in readings if share is not None]
        if busy:
            self.spent.busy += sum(busy) / len(busy) * elapsed
            self.spent.busy_seconds += elapsed
        if now - self._saved >= SAVE_SECONDS:
            self._saved = now
            self._save()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.sample()

    def _save(self) -> None:
        with contextlib.suppress(OSError):
            write_text(self._path, json.dumps(asdict(self.spent)), durable=False)


def _tried(counter: Counter, now: float) -> tuple[float, float | None] | None:
    try:
        return counter.sample(now)
    except TransientError:  # a signal to the task
        raise
    except Exception:  # drivers raise anything
        return None


def measuring(path: Path, *, uses_gpus: bool, machine: Mapping[str, Any]) -> Meter:
    """Return a meter of the GPUs that this process may use; of no GPU if the task does not compute on them."""
    device = str(machine.get("device", "cpu"))
    gpus, source = given(device, os.environ) if uses_gpus and device != "cpu" else ([], NOT_MEASURED)
    return Meter(path, gpus, source)


def record(spent: Spent, machine: Mapping[str, Any], nodes: int = 1) -> dict[str, Any]:
    """Return the manifest's entry `energy`, from the record of the first of `nodes` nodes.

    Keys:
        kwh: Energy of the GPUs over all attempts; on several nodes, the first node's energy times the number of nodes,
            as in OLMo's table.
        gpu_utilisation: Mean, 0 to 1.
        pue, carbon_intensity: The machine's values; carbon intensity in kg CO2e per kWh.
        kg_co2e: kwh * pue * carbon_intensity.

    Unknown values are None.
    """
    measured = spent.source != NOT_MEASURED
    kwh = spent.joules / JOULES * nodes if measured else None
    pue, intensity = machine.get("pue"), machine.get("carbon_intensity")
    emitted = kwh * pue * intensity if kwh is not None and pue is not None and intensity is not None else None
    return {
        "kwh": kwh,
        "source": spent.source,
        "gpus": spent.gpus * nodes,
        "gpu_utilisation": spent.busy / spent.busy_seconds if spent.busy_seconds else None,
        "pue": pue,
        "carbon_intensity": intensity,
        "kg_co2e": emitted,
    }
