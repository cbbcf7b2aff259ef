"""Energy: what the GPUs that a task was given took, over all its attempts; formulas worked out by hand."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd.base import devices, energy
from kd.pipeline.execute import execute
from kd.pipeline.store import Store
from tests.pipeline.dummies import KINDS, Resume, only, run

FORK = multiprocessing.get_context("fork")
ROOT = Path(__file__).parents[2]


class NVMLError(Exception):
    """As pynvml's, which each call may raise."""


class FakeNvml(SimpleNamespace):
    """The module pynvml: its names, its units. Readings are given one after the other; None is "not supported"."""

    def __init__(self, power: list[list[int]], counted: list[list[int | None]], busy: list[list[int | None]]) -> None:
        readings = {"power": power, "counted": counted, "busy": busy}
        series = {name: [iter(values) for values in lists] for name, lists in readings.items()}

        def read(name: str, handle: int) -> int:
            value = next(series[name][handle])
            if value is None:
                raise NVMLError("Not Supported")
            return value

        super().__init__(
            NVMLError=NVMLError,
            nvmlInit=lambda: None,
            nvmlDeviceGetCount=lambda: len(power),
            nvmlDeviceGetHandleByIndex=lambda index: index,
            nvmlDeviceGetUUID=lambda handle: f"GPU-{'abcdefgh'[handle] * 4}-{handle}",
            nvmlDeviceGetHandleByUUID=lambda uuid: ("mig", uuid),
            nvmlDeviceGetDeviceHandleFromMigDeviceHandle=lambda handle: int(handle[1][-1]),
            nvmlDeviceGetName=lambda handle: f"GPU number {handle}",
            nvmlDeviceGetPowerUsage=lambda handle: read("power", handle),
            nvmlDeviceGetTotalEnergyConsumption=lambda handle: read("counted", handle),
            nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=read("busy", handle), memory=0),
        )


def sampled(nvml: FakeNvml, path: Path, at: list[float]) -> energy.Spent:
    """What a meter adds up that samples all GPUs at these seconds."""
    times = iter(at)
    count = nvml.nvmlDeviceGetCount()
    meter = energy.Meter(
        path, [devices.NvidiaGpu(nvml, handle) for handle in range(count)], "nvml", lambda: next(times)
    )
    for _ in at:
        meter.sample()
    meter._save()
    return meter.spent


def test_power_is_integrated_by_trapezoids(tmp_path: Path) -> None:
    nvml = FakeNvml([[100_000, 300_000, 300_000]], [[None] * 3], [[0, 50, 100]])
    spent = sampled(nvml, tmp_path / "energy", [0, 10, 20])
    assert spent.joules == (100 + 300) / 2 * 10 + 300 * 10  # watts and seconds: 5,000 J
    assert spent.busy / spent.busy_seconds == 0.75  # half busy for 10 s, all of it for 10
    assert energy.record(spent, {})["kwh"] == 5000 / 3_600_000


def test_a_gpu_that_counts_is_believed(tmp_path: Path) -> None:
    # Its power jumps between samples, unseen; millijoules. Before the last sample the driver was loaded anew.
    nvml = FakeNvml([[100_000] * 3], [[1_000_000, 9_000_000, 20_000]], [[100] * 3])
    assert sampled(nvml, tmp_path / "energy", [0, 10, 20]).joules == 8000 + 100 * 10


def test_several_gpus_are_added_up_and_their_utilisation_is_a_mean(tmp_path: Path) -> None:
    nvml = FakeNvml([[200_000] * 2, [50_000] * 2], [[None] * 2] * 2, [[90] * 2, [None] * 2])
    spent = sampled(nvml, tmp_path / "energy", [0, 4])
    assert (spent.joules, spent.gpus) == (200 * 4 + 50 * 4, ["GPU number 0", "GPU number 1"])
    assert spent.busy / spent.busy_seconds == pytest.approx(0.9)


def test_attempts_are_added_up_but_not_the_time_between(tmp_path: Path) -> None:
    for begin in (0, 1000):
        nvml = FakeNvml([[360_000] * 2], [[None] * 2], [[40] * 2])
        spent = sampled(nvml, tmp_path / "energy", [begin, begin + 100])
    assert (spent.joules, spent.seconds) == (72_000, 200)
    machine = {"pue": 1.25, "carbon_intensity": 0.4}
    record = energy.record(spent, machine)
    assert record == {
        "kwh": 0.02,
        "source": "nvml",
        "gpus": ["GPU number 0"],
        "gpu_utilisation": pytest.approx(0.4),
        **machine,
        "kg_co2e": pytest.approx(0.02 * 1.25 * 0.4),
    }


def test_the_columns_are_those_of_olmo_s_table() -> None:
    # Groeneveld et al. (2024), OLMo-7B on A100s: 104 MWh, PUE 1.1, 0.610 kg CO2e/kWh, 70 tCO2eq.
    spent = energy.Spent("nvml", ["A100"], joules=104_000 * 3.6e6, seconds=1)
    record = energy.record(spent, {"pue": 1.1, "carbon_intensity": 0.610})
    assert round(record["kg_co2e"] / 1000) == 70


def test_nodes_are_multiplied() -> None:
    record = energy.record(energy.Spent("nvml", ["A", "A"], joules=3.6e6, seconds=1), {}, nodes=3)
    assert (record["kwh"], len(record["gpus"]), record["kg_co2e"]) == (3, 6, None)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("1,-1,0", [1]),
        ("0,7,1", [0]),  # CUDA sees none after one that is not there
        ("GPU-bbbb-1", [1]),
        ("GPU-cc,GPU-a", [2, 0]),  # the beginning of a UUID will do
        ("GPU-nobody,0", []),
        ("MIG-whatever-1,MIG-whatever-1", [1]),  # slices of one GPU
    ],
)
def test_only_the_gpus_that_were_given(
    visible: str | None, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([[]] * 3, [[]] * 3, [[]] * 3))  # type: ignore[arg-type]
    found, source = devices.given("cuda", {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert [gpu.name for gpu in found] == [f"GPU number {number}" for number in expected]
    assert source == "nvml"


def test_a_computer_without_driver_measures_nothing(tmp_path: Path) -> None:
    # The real binding, and no library below it.
    with energy.measuring(tmp_path / "energy", uses_gpus=True, machine={"device": "cuda"}) as meter:
        pass
    assert energy.record(meter.spent, {})["source"] == "not measured"


# --- rocm-smi --------------------------------------------------------------------------------------------------------


@pytest.fixture
def rocm_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that answers as rocm-smi does; of the two halves of an MI250X the first tells of power."""
    answer = {
        "card0": {"Average Graphics Package Power (W)": "410.0", "GPU use (%)": "99", "Card series": "MI250X"},
        "card1": {"Average Graphics Package Power (W)": "N/A", "GPU use (%)": "99", "Card series": "MI250X"},
        "card2": {"Current Socket Graphics Package Power (W)": "90.0", "GPU use (%)": "0", "Card Series": "MI300A"},
        "system": {"Driver version": "6.3.6"},
    }
    command = tmp_path / "bin" / "rocm-smi"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    yield


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, [("MI250X", 410, 0.99), ("MI300A", 90, 0.0)]),
        ({"ROCR_VISIBLE_DEVICES": "2"}, [("MI300A", 90, 0.0)]),
        ({"HIP_VISIBLE_DEVICES": "1"}, []),
    ],
)
def test_amd_gpus_are_read_from_rocm_smi(
    rocm_smi: None, environment: Mapping[str, str], expected: list[tuple[str, float, float]]
) -> None:
    found, source = devices.given("rocm", environment)
    assert [(gpu.name, gpu.watts(), gpu.utilisation()) for gpu in found] == expected
    assert source == "rocm-smi"


# --- tasks -----------------------------------------------------------------------------------------------------------


class Train(Resume):
    """A dummy that computes on GPUs, as far as its class says."""

    name = "train-dummy"
    resources = "train"
    uses_gpus = True


@pytest.fixture(autouse=True)
def kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "train-dummy", Train())


def test_a_run_on_cpu_says_not_measured(tmp_path: Path) -> None:
    store, task = Store(tmp_path), only("train-dummy", steps=1)
    run(task, store)
    told = store.paths(task).manifest()["energy"]
    assert told == {
        "kwh": None,
        "source": "not measured",
        "gpus": [],
        "gpu_utilisation": None,
        "pue": None,
        "carbon_intensity": None,
        "kg_co2e": None,
    }


class Heater:
    """A GPU that draws 1 kW."""

    name = "heater"

    def watts(self) -> float:
        return 1000.0

    def joules(self) -> None:
        return None

    def utilisation(self) -> float:
        return 1.0


def on_gpu(task: Any, store: Store) -> bool:
    return execute(task, store, threads=1, device="cuda", machine={"pue": 2.0, "carbon_intensity": 0.5})


def test_what_a_killed_attempt_took_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "given", lambda *_: ([Heater()], "nvml"))
    monkeypatch.setattr(energy, "SAMPLE_SECONDS", 0.02)
    monkeypatch.setattr(energy, "SAVE_SECONDS", 0.0)
    store, task = Store(tmp_path), only("train-dummy", steps=8, seconds=0.1)
    process = FORK.Process(target=on_gpu, args=(task, store))
    process.start()
    lines, deadline = store.paths(task).partial / "lines", time.monotonic() + 30
    while not (lines.exists() and lines.read_text().count("\n") >= 4):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    before = json.loads(store.paths(task).energy.read_text())["joules"]
    assert before > 200  # four steps of 0.1 s at 1 kW, less what a busy computer delays
    on_gpu(task, store)
    told = store.paths(task).manifest()["energy"]
    assert told["kwh"] * 3.6e6 > before + 200
    assert told["kg_co2e"] == pytest.approx(told["kwh"] * 2.0 * 0.5)
    assert (told["gpus"], told["gpu_utilisation"]) == (["heater"], pytest.approx(1.0))
    assert not store.paths(task).energy.exists()
    assert on_gpu(task, store) is False


def test_light_work_on_a_machine_with_gpus_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "given", lambda *_: pytest.fail("asked for GPUs"))
    on_gpu(only("resume", steps=1), Store(tmp_path))


def test_the_real_binding_reads_a_library(tmp_path: Path) -> None:
    # NVIDIA's own Python binding over a library with NVML's entry points: names and types are checked by neither of us.
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", str(tmp_path / "libnvidia-ml.so.1"), str(Path(__file__).with_name("nvml.c"))],
        check=True,
    )
    program = """
import json, pathlib, sys, time
from kd.base import energy
with energy.measuring(pathlib.Path(sys.argv[1]), uses_gpus=True, machine={"device": "cuda"}) as meter:
    began = time.monotonic()
    time.sleep(1.5)
    slept = time.monotonic() - began
print(json.dumps([energy.record(meter.spent, {}), slept, meter.spent.seconds]))
"""
    for visible, watts, names, busy in (
        ("0,1", 400, ["NVIDIA A100-SXM4-40GB", "Tesla P100-PCIE-16GB"], 0.5),
        ("GPU-aaaa", 300, ["NVIDIA A100-SXM4-40GB"], 0.8),
    ):
        environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": visible}
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / visible)],
            env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        told, slept, measured = json.loads(done.stdout)
        assert told["kwh"] * 3.6e6 == pytest.approx(watts * measured, rel=0.02)
        assert slept <= measured < slept + 1
        assert (told["gpus"], told["source"]) == (names, "nvml")
        assert told["gpu_utilisation"] == pytest.approx(busy)
