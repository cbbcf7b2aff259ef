"""The options and the arithmetic of `kd scaling`; trainings on several devices run in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.planning.scaling import Point, ScalingRun, compared, measure, parse_scaling, plot
from kd.recipe import compose
from kd.run import commands


def test_numbers_are_separated_from_overrides() -> None:
    scaling, rest = parse_scaling(["recipe=x", "devices=4,1,2,2", "updates=20", "decode.beam=3"])
    assert (scaling.unit, scaling.numbers, scaling.updates, scaling.stage) == ("devices", (1, 2, 4), 20, "teacher")
    assert rest == ["recipe=x", "decode.beam=3"]
    assert parse_scaling(["nodes=[1,8]", "stage=student"])[0] == ScalingRun("nodes", (1, 8), "student")


@pytest.mark.parametrize(
    "wrong", [[], ["devices=1", "nodes=2"], ["devices=0"], ["nodes=two"], ["devices=1", "updates=2"]]
)
def test_impossible_scaling_runs_are_refused(wrong: list[str]) -> None:
    with pytest.raises(UserError):
        parse_scaling(["recipe=x", *wrong])


def test_speedup_is_relative_to_one_device_and_efficiency_per_device() -> None:
    points = compared([Point(1, 100.0, 500.0), Point(2, 180.0, 500.0), Point(8, 400.0, 500.0)])
    assert [point.speedup for point in points] == [1.0, 1.8, 4.0]
    assert [point.efficiency for point in points] == [1.0, 0.9, 0.5]


def test_without_one_device_speedup_is_relative_to_the_smallest_number() -> None:
    points = compared([Point(2, 180.0, 500.0), Point(4, 270.0, 500.0)])
    assert [point.speedup for point in points] == [1.0, 1.5]
    assert [point.efficiency for point in points] == [1.0, 0.75]
    assert compared([]) == []


def test_scaling_runs_are_beside_the_run_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    (tmp_path / "it's, here").mkdir()
    monkeypatch.chdir(tmp_path / "it's, here")
    monkeypatch.setattr(commands, "run", lambda request: begun.append(compose.compose(request).run.dir) or 0)
    _, queued, folder = measure(ScalingRun("devices", (1, 2)), compose.parse_request(["recipe=demo"]))
    assert queued == [1, 2] and folder == tmp_path / "it's, here" / "runs" / "demo.scaling"
    assert begun == [str(folder / "devices-1"), str(folder / "devices-2")]


def test_the_plot_is_written_as_png_and_svg(tmp_path: Path) -> None:
    points = compared([Point(1, 100.0, 500.0), Point(2, 180.0, 500.0)])
    plot(ScalingRun("devices", (1, 2)), points, tmp_path)
    assert (tmp_path / "scaling.png").read_bytes().startswith(bytes([0x89]) + b"PNG")
    drawn = (tmp_path / "scaling.svg").read_text("utf-8")
    assert "parallel efficiency" in drawn
    assert drawn.count("circle") or drawn.count("<path") > 4
