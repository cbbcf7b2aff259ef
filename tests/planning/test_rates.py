"""Times from the nearest observation of the same machine, scaled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kd.base.estimate import Estimate
from kd.pipeline.forecast import Work
from kd.pipeline.model import Task
from kd.planning.assumptions import Assumptions
from kd.planning.rates import BYTES, START, Hardware, Observation, Rates
from tests.pipeline.dummies import entry, plan

HERE = Hardware("here", "cpu", 1)
SEEN = Observation("train", 1000.0, 2.0, 50.0, 40.0, "here", "cpu", 1, "a probe")


@pytest.fixture
def task() -> Task:
    return next(plan(entry("teacher")).tasks())


def part(amount: float = 4000.0, cost: float | None = 2.0, name: str = "train") -> Work:
    return Work(name, "target tokens", Estimate(amount, "config"), cost)


def test_time_is_proportional_to_amount_and_cost(task: Task) -> None:
    rates = Rates([SEEN], Assumptions({}))
    time = rates.time(task, part(), HERE)
    assert time.seconds.value == 200.0 and time.cpu_seconds == 160.0 and time.seconds.source == "a probe"
    scaled = rates.time(task, part(cost=6.0), HERE).seconds
    assert scaled.value == 600.0 and "scaled by 3" in scaled.source


def test_the_measurement_nearest_in_cost_is_used_and_the_longest_of_equals(task: Task) -> None:
    other = replace(SEEN, cost=40.0, seconds=9000.0, source="far")
    longer = replace(SEEN, amount=10_000.0, seconds=400.0, source="a run")
    time = Rates([other, SEEN, longer], Assumptions({})).time(task, part(), HERE)
    assert time.seconds.value == 160.0 and time.seconds.source == "a run"


def test_measurements_of_other_machines_are_used_for_sizes_only(task: Task) -> None:
    rates = Rates([SEEN, replace(SEEN, name=BYTES + "train", seconds=7.0)], Assumptions({}))
    for place in (Hardware("there", "cpu", 1), Hardware("here", "cuda", 1)):
        time = rates.time(task, part(), place)
        assert time.seconds.value is None and "not measured" in time.seconds.source
    assert rates.bytes_left("train", part(2000.0)).value == 14.0


def test_equal_threads_are_preferred(task: Task) -> None:
    rates = Rates([replace(SEEN, threads=8, seconds=10.0), SEEN], Assumptions({}))
    assert rates.time(task, part(1000.0), HERE).seconds.value == 50.0
    assert rates.time(task, part(1000.0), Hardware("here", "cpu", 8)).seconds.value == 10.0
    assert rates.time(task, part(1000.0), Hardware("here", "cpu", 3)).seconds.value is not None


def test_assumptions_override_measurements_and_are_marked(task: Task) -> None:
    rates = Rates([SEEN], Assumptions({"tokens_per_second.teacher": 100.0}))
    time = rates.time(task, part(), HERE).seconds
    assert time.value == 40.0 and time.source == "assumed by you (assume.tokens_per_second.teacher=100)"
    rates = Rates([SEEN], Assumptions({"tflops.train": 2e-9}))  # 2,000 operations a second
    sharing = replace(part(), flops="train")
    assert rates.time(task, sharing, HERE).seconds.value == pytest.approx(4.0)


def test_an_unknown_amount_has_no_time(task: Task) -> None:
    unknown = replace(part(), amount=Estimate(None, "set assume.pairs.en-de=NUMBER"))
    time = Rates([SEEN], Assumptions({})).time(task, unknown, HERE).seconds
    assert time.value is None and "assume.pairs" in time.source


def test_an_unmeasured_start_takes_no_time(task: Task) -> None:
    assert Rates([], Assumptions({})).start("train", HERE).seconds.value == 0.0
    seen = replace(SEEN, name=START + "train", seconds=6.0)
    assert Rates([seen], Assumptions({})).start("train", HERE).seconds.value == 6.0
