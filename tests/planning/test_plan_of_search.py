"""Forecasts of a search: each cell by its own shape and data, the student by the largest cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from planning.test_forecast import ASSUMED, BIG, work_in

from kd.planning.forecast import Forecast
from kd.planning.gather import forecast
from kd.stages.train import LARGEST

SEARCH = [*BIG[:3], "student=from_search", *BIG[4:], "chain=search", "search.changes.max_update=10000"]
SEARCH += ["student.distill.alpha=0", "student.distill.stored=false"]  # the teachers would cost the same in every cell


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Forecast:
    """6 and 12 encoder layers, 1 and 2 decoder layers, four sorts of data, three seeds."""
    with pytest.MonkeyPatch.context() as patch:
        work_in(tmp_path_factory.mktemp("place"), patch)
        return forecast([*SEARCH, *ASSUMED])


def seconds(planned: Forecast, stage: str) -> dict[str, float]:
    [found] = [each for each in planned.stages if each.stage.spec.name == stage]
    return {each.task.name: each.seconds.value or 0.0 for each in found.tasks}


def test_each_cell_is_forecast_by_its_own_shape(planned: Forecast) -> None:
    found = seconds(planned, "search")
    assert len(found) == 2 * 2 * 4 * 3
    one, other = found["6-1-512-gold-seed1"], found["12-2-512-gold-seed1"]
    assert one == found["6-1-512-best-seed3"]
    # Twice the encoder and a decoder layer more cost more, the output layer the same; validation is a part of both.
    assert 1.2 * one < other < 2.2 * one


def test_the_student_is_forecast_as_the_largest_cell_with_a_note(planned: Forecast) -> None:
    [student] = [each for each in planned.stages if each.stage.spec.name == "student"]
    [train] = [part for part in student.work if part.name == "train"]
    assert LARGEST in train.amount.source
    # Ten times the updates of a cell of that shape, and as many validations more.
    assert student.tasks[0].seconds.value == pytest.approx(10 * seconds(planned, "search")["12-2-512-gold-seed1"])
    assert student.tasks[0].kept.value == max(
        each.kept.value or 0.0 for stage in planned.stages if stage.stage.spec.name == "search" for each in stage.tasks
    )


def test_every_stage_of_a_search_has_a_forecast(planned: Forecast) -> None:
    stages = {each.stage.spec.name: each for each in planned.stages}
    for name in ("search", "search_export", "search_translate", "search_speed", "search_evaluate", "choose"):
        assert not any("has no forecast" in each.seconds.source for each in stages[name].tasks), name


def test_a_search_translates_dev_and_the_chosen_student_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(tmp_path, monkeypatch)
    found = forecast([*SEARCH, *ASSUMED, "split.dev=300", "split.test=900", "evaluate.robustness.enabled=false"])
    amounts = {each.stage.spec.name: each.work[0].amount.value for each in found.stages if each.work}
    assert (amounts["search_translate"], amounts["translate"]) == (300, 900)
    cells = next(len(each.tasks) for each in found.stages if each.stage.spec.name == "search_translate")
    assert amounts["search_evaluate"] == 300 * cells
