"""The report's JSON, read back to the last bit."""

import dataclasses
import json

import pytest

from kd.base.records import plain, record
from kd.models.systems import SystemKind
from kd.report.data import ReportData
from kd.report.training import CurvePoint


def test_json_gives_the_same_report_back(report: ReportData) -> None:
    assert ReportData.from_dict(json.loads(report.to_json())) == report


def test_numbers_are_unrounded_and_text_is_itself(report: ReportData) -> None:
    values = json.loads(report.to_json())
    assert values["systems"][0]["scores"][0]["value"] == 27.412
    assert values["systems"][3]["system"]["role"] == "student"
    assert values["examples"][3]["source"] == "Lines\u2028and\x00controls"


def test_empty_report_survives() -> None:
    report = ReportData("title", "2026-11-21")
    assert ReportData.from_dict(json.loads(report.to_json())) == report


def test_what_is_no_number_becomes_null() -> None:
    values = plain(CurvePoint(1, float("nan"), float("-inf")))
    assert (values["update"], values["dev_loss"], values["dev_bleu"]) == (1, None, None)


def test_whole_floats_may_be_written_as_integers() -> None:
    point = record(CurvePoint, {"update": 1, "dev_loss": 3}, "point")
    assert (point, type(point.dev_loss)) == (CurvePoint(1, 3.0), float)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], 0, "format 0"),
        (["sistems"], [], "report.sistems is unknown"),
        (["systems", 0, "scores", 0, "vlaue"], 3.0, r"report\.systems\[0\]\.scores\[0\]\.vlaue is unknown"),
        (["title"], 3, r"report\.title: Expected `str`, got `int`"),
        (["systems", 0, "system", "role"], "tutor", r"report\.systems\[0\]\.system\.role: Invalid enum value 'tutor'"),
        (["systems", 0, "scores", 0, "interval"], [1.0], r"scores\[0\]\.interval: Expected `array` of length 2"),
        (["selections", 0, "lists"], None, r"report\.selections\[0\]\.lists: Expected `int`, got `null`"),
        (["selections", 0, "lists"], True, r"lists: Expected `int`, got `bool`"),
        (["flow", 0], {"stage": "x"}, r"report\.flow\[0\]: .*missing required field `entered`"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    report: ReportData, path: list, value: object, message: str
) -> None:
    values = json.loads(report.to_json())
    place = values
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        ReportData.from_dict(values)


def test_rows_are_found_by_name_and_pair(report: ReportData) -> None:
    student = report.system("student")
    assert student is not None and student.kind is SystemKind.student
    assert report.system("student", "en-sv") is None
    assert report.metrics() == ["BLEU", "chrF2"]


def test_signatures_that_differ_are_all_stated(report: ReportData) -> None:
    first = report.systems[0]
    other = dataclasses.replace(first, scores=[dataclasses.replace(first.scores[0], signature="another")])
    joined = dataclasses.replace(report, systems=[first, other]).signatures()["BLEU"]
    assert joined == f"{first.scores[0].signature} / another"
