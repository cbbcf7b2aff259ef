"""Charts hold the data they were given, and their pictures can be drawn whatever the data is."""

import dataclasses
import json
import resource
import struct
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from kd.base.errors import UserError
from kd.models.systems import SystemKind
from kd.report.data import ReportData
from kd.report.figures import charts
from kd.report.figures.curves import MEASURES, axes, learning_curve
from kd.report.figures.drawing import Figure, pictures
from kd.report.figures.scatter import Mark, marks, pareto, quality_and_speed
from kd.report.training import Curve, CurvePoint

BLEU = MEASURES[0]


def values(spec: dict) -> list[dict]:
    return spec["data"]["values"]


def test_every_section_has_its_figures(figures: Mapping[str, Figure]) -> None:
    along = [
        f"{measure}-{axis}" for axis in ("updates", "tokens", "hours") for measure in ("bleu", "loss", "train-loss")
    ]
    assert list(figures) == ["speed", *along, "ranks-1", "gains-1"]


def test_twins_for_papers_are_written(figures: Mapping[str, Figure], tmp_path: Path) -> None:
    figures["speed"].write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speed.png", "speed.svg", "speed.vl.json"]
    assert (tmp_path / "speed.svg").read_text("utf-8").startswith("<svg")
    content = (tmp_path / "speed.png").read_bytes()
    width = struct.unpack(">I", content[16:20])[0]  # of a PNG's first chunk
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and width > 1100  # 300 dots an inch in a column of 9 cm
    assert json.loads((tmp_path / "speed.vl.json").read_text("utf-8")) == figures["speed"].spec


def test_curves_stand_against_updates_tokens_and_gpu_hours(report: ReportData) -> None:
    assert [axis.label for axis in axes(report.curves)] == ["updates", "target tokens", "GPU hours"]
    last = [
        next(
            each["x"]
            for each in reversed(values(learning_curve(report.curves, BLEU, axis)))
            if each["training"] == "student"
        )  # type: ignore[arg-type]
        for axis in axes(report.curves)
    ]
    assert last == [5000, 5000 * 873, pytest.approx(500 * 2 / 3600)]  # two devices for 500 seconds


def test_a_training_on_cpu_has_no_gpu_hours(report: ReportData) -> None:
    curves = [dataclasses.replace(curve, device="cpu") for curve in report.curves]
    assert [axis.label for axis in axes(curves)] == ["updates", "target tokens", "hours"]


def test_lines_without_tokens_and_time_have_updates() -> None:
    curve = Curve("student", SystemKind.student, [CurvePoint(100, 3.0, 12.0), CurvePoint(200, 2.5, 14.0)])
    (axis,) = axes([curve])
    assert [value["y"] for value in values(learning_curve([curve], BLEU, axis))] == [12.0, 14.0]  # type: ignore[arg-type]


@pytest.mark.parametrize(("bleu", "top"), [(0.77, 1.54), (0.0, 1)])
def test_a_single_checkpoint_stands_amid_its_axes(bleu: float, top: float) -> None:
    curve = Curve("student", SystemKind.student, [CurvePoint(20, 8.8, bleu)])
    spec = learning_curve([curve], BLEU, axes([curve])[0])
    assert spec is not None
    encoding = spec["layer"][0]["encoding"]
    assert encoding["x"]["scale"]["domain"] == [0, 40] and encoding["y"]["scale"]["domain"] == [0, top]
    assert encoding["x"]["axis"]["tickMinStep"] == 1  # no half updates
    assert ">20<" in pictures("one", spec).svg  # a tick where the checkpoint is


def test_diverged_training_leaves_a_gap() -> None:
    points = [CurvePoint(10, None, 0.0), CurvePoint(20, float("nan"), 1.0), CurvePoint(30, float("inf"), 2.0)]
    data = ReportData("t", "2026-11-21", curves=[Curve("price in $ and $", SystemKind.student, points)])
    drawn = {name: spec for name, spec in charts(data) if spec}
    assert list(drawn) == ["bleu-updates"]  # there is no loss that is a number
    assert "price in $ and $" in pictures("gap", drawn["bleu-updates"]).svg


def test_pareto_line_is_what_nothing_dominates() -> None:
    points = {"a": (10, 30.0), "b": (20, 29.0), "slow and bad": (15, 28.0), "fast": (90, 20.0), "twin": (90, 19.0)}
    found = [Mark(name, SystemKind.student, speed, quality) for name, (speed, quality) in points.items()]
    assert [mark.name for mark in pareto(found)] == ["a", "b", "fast"]
    # Of errors fewer are better: the fastest of the two best stands first.
    assert [mark.name for mark in pareto(found, higher_is_better=False)] == ["twin"]


def test_names_of_systems_meet_neither_each_other_nor_marks(report: ReportData) -> None:
    crowd = [dataclasses.replace(row, sentences_per_second=100.0 + number) for number, row in enumerate(report.systems)]
    spec = quality_and_speed(crowd, "BLEU")
    assert spec is not None
    texts = [layer for layer in spec["layer"] if layer["mark"]["type"] == "text"]
    assert len(texts) == len(crowd) == len(marks(crowd, "BLEU"))
    assert len({(layer["mark"]["dx"], layer["mark"]["dy"]) for layer in texts}) > 1


def test_fewer_than_two_speeds_are_no_figure(report: ReportData) -> None:
    assert quality_and_speed(report.systems[:3], "BLEU") is None  # the ensemble alone has a speed


def test_where_addresses_are_limited_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = SimpleNamespace(getrlimit=lambda _: (8_000_000_000, -1), RLIMIT_AS=resource.RLIMIT_AS, RLIM_INFINITY=-1)
    monkeypatch.setattr("kd.report.figures.drawing.resource", limited)
    with pytest.raises(UserError, match=r"ulimit -v allows 8 GB"):
        pictures("x", {})
