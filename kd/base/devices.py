"""Find the GPUs that this process may use and read their power: NVIDIA's by NVML, AMD's by `rocm-smi`.

NVML lists all GPUs of a computer and ignores CUDA_VISIBLE_DEVICES, so this module reads that variable.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from kd.base.errors import TransientError

NVML = "nvml"
ROCM_SMI = "rocm-smi"
_COMMAND_SECONDS = 10.0  # time limit of rocm-smi
_FRESH_SECONDS = 0.5  # for which an answer of rocm-smi, which is about all GPUs, is reused


class Gpu(Protocol):
    """The readings of a GPU that the meter needs; a value that cannot be read is None."""

    name: str

    def watts(self) -> float | None:
        """Return the current power in watts."""

    def joules(self) -> float | None:
        """Return the energy used since a fixed time in the past."""

    def utilisation(self) -> float | None:
        """Return the share of the last sample period in which the GPU was computing, 0 to 1."""


def given(device: str, environment: Mapping[str, str]) -> tuple[list[Gpu], str]:
    """Return the GPUs that this process may use and the source of their readings; no GPUs if they cannot be read."""
    try:
        if device == "rocm":
            return _amd(environment), ROCM_SMI
        return _nvidia(environment), NVML
    except TransientError:  # a signal to the task
        raise
    except Exception:  # no driver, no library, no permission: not measured
        return [], ""


# --- NVIDIA ----------------------------------------------------------------------------------------------------------


class NvidiaGpu:
    """A GPU by its NVML handle. NVML's units: milliwatts, millijoules, per cent."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        name = nvml.nvmlDeviceGetName(handle)
        self.name = name.decode() if isinstance(name, bytes) else str(name)

    def watts(self) -> float | None:
        """Return the power of the whole board in watts (nvmlDeviceGetPowerUsage)."""
        return self._asked(lambda: self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000)

    def joules(self) -> float | None:
        """Return the joules since the driver was loaded (nvmlDeviceGetTotalEnergyConsumption; from Volta on)."""
        return self._asked(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000)

    def utilisation(self) -> float | None:
        """Return the share of the last sample period with a kernel running (nvmlDeviceGetUtilizationRates)."""
        return self._asked(lambda: self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100)

    def _asked(self, question: Callable[[], float]) -> float | None:
        try:
            return question()
        except self._nvml.NVMLError:
            return None


def _nvidia(environment: Mapping[str, str]) -> list[Gpu]:
    import pynvml

    pynvml.nvmlInit()
    count = pynvml.nvmlDeviceGetCount()
    handles = []
    for name in _visible(environment, ("CUDA_VISIBLE_DEVICES",), count):
        handle = _nvidia_handle(pynvml, name, count)
        if handle is None:
            break  # CUDA ignores all entries after an invalid one too
        handles.append(handle)
    # The energy of two slices of one GPU (MIG) cannot be measured separately.
    known = {str(pynvml.nvmlDeviceGetUUID(handle)): handle for handle in handles}
    return [NvidiaGpu(pynvml, handle) for handle in known.values()]


def _nvidia_handle(nvml: Any, name: str, count: int) -> Any:
    """Return the handle for an entry of CUDA_VISIBLE_DEVICES: an index, or a UUID (a prefix is enough).

    The index is NVML's, by position on the bus; CUDA's is the same if all GPUs are of one kind, or with
    CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    if name.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(name)) if int(name) < count else None
    if name.startswith("MIG-"):
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(name))
    for index in range(count):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = nvml.nvmlDeviceGetUUID(handle)
        if (uuid.decode() if isinstance(uuid, bytes) else str(uuid)).startswith(name):
            return handle
    return None


def _visible(environment: Mapping[str, str], variables: Sequence[str], count: int) -> list[str]:
    """Return the entries of the first of these variables that is set; without any, all GPUs."""
    for variable in variables:
        if variable in environment:
            entries = [entry.strip() for entry in environment[variable].split(",")]
            known = [entry for entry in entries if entry]
            return known[: known.index("-1")] if "-1" in known else known
    return [str(number) for number in range(count)]


# --- AMD -------------------------------------------------------------------------------------------------------------


class RocmSmi:
    """Read `rocm-smi --json`, and reuse its output for a moment."""

    def __init__(self, command: str) -> None:
        self._command = [command, "--showpower", "--showuse", "--showproductname", "--json"]
        self._asked = -1e9
        self._answer: dict[str, dict[str, str]] = {}

    def cards(self) -> dict[str, dict[str, str]]:
        """Return the values of each card: card0, card1, and so on."""
        if time.monotonic() - self._asked > _FRESH_SECONDS:
            done = subprocess.run(self._command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True)
            answer = json.loads(done.stdout)
            self._answer = {name: card for name, card in answer.items() if name.startswith("card")}
            self._asked = time.monotonic()
        return self._answer


class AmdGpu:
    """A GPU by its name in `rocm-smi`. In a module with two (MI250X), the first reports the power of both."""

    def __init__(self, smi: RocmSmi, card: str) -> None:
        self._smi = smi
        self._card = card
        series = (self._read(label) for label in ("card series", "card model"))
        self.name = next((name for name in series if name), "AMD GPU")

    def watts(self) -> float | None:
        """Read `Average Graphics Package Power (W)`, on newer GPUs `Current Socket Graphics Package Power (W)`."""
        return _number(self._read("graphics package power (w)"))

    def joules(self) -> float | None:
        """Return None: rocm-smi has no counter of energy."""
        return None

    def utilisation(self) -> float | None:
        """`GPU use (%)`."""
        share = _number(self._read("gpu use (%)"))
        return None if share is None else share / 100

    def _read(self, label: str) -> str | None:
        facts = self._smi.cards().get(self._card, {})
        return next((value for key, value in facts.items() if label in key.lower()), None)


def _amd(environment: Mapping[str, str]) -> list[Gpu]:
    command = shutil.which("rocm-smi")
    if command is None:
        return []
    smi = RocmSmi(command)
    cards = sorted(smi.cards(), key=lambda card: int(card.removeprefix("card")))
    names = _visible(environment, ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"), len(cards))
    numbers = [int(name) for name in names if name.isdecimal() and int(name) < len(cards)]
    gpus = [AmdGpu(smi, cards[number]) for number in dict.fromkeys(numbers)]
    return [gpu for gpu in gpus if gpu.watts() is not None]


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:  # `N/A`
        return None
