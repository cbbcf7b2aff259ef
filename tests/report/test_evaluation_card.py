"""The evaluation card: it fits its published JSON Schema and has the report's numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest

from kd.report.data import ReportData
from kd.report.evaluation_card import evaluation_card, schema, to_json
from kd.report.systems import Comparison, PairedScore

SCHEMA = Path(__file__).parents[2] / "docs" / "evaluation-card.schema.json"


def content(report: ReportData) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_json(evaluation_card(report)))
    return found


@pytest.fixture
def tested(report: ReportData) -> ReportData:
    comparisons = [
        Comparison("student", "control", "BLEU", 0.013),
        Comparison("student int8", "teacher ensemble", "chrF2", 0.048),
    ]
    return dataclasses.replace(report, comparisons=comparisons)


def test_the_published_schema_is_the_one_of_this_version() -> None:
    assert json.loads(SCHEMA.read_text("utf-8")) == schema()


def test_a_card_fits_its_schema(tested: ReportData) -> None:
    validate = fastjsonschema.compile(json.loads(SCHEMA.read_text("utf-8")))
    validate(content(tested))
    validate(content(ReportData("empty", "2026-11-21")))
    for key in ("systems", "control", "energy", "weaknesses"):
        incomplete = {name: value for name, value in content(tested).items() if name != key}
        with pytest.raises(fastjsonschema.JsonSchemaValueException, match=key):
            validate(incomplete)
    with pytest.raises(fastjsonschema.JsonSchemaValueException, match="p_value"):
        validate({**content(tested), "tests": [{**content(tested)["tests"][0], "p_value": 2.0}]})


def test_it_has_the_numbers_of_the_report(tested: ReportData) -> None:
    card = content(tested)
    student = next(each for each in card["systems"] if each["name"] == "student int8")
    assert (student["role"], student["training"], student["number_format"]) == ("student", "student", "int8")
    assert student["scores"][0]["value"] == 25.71 and student["sentences_per_second"] == 611.0
    assert card["energy"] == {"kwh": 4.25, "kg_co2e": 1.275, "tasks_without_meter": 6}
    assert card["leakage"]["corpora"] == [{"pair": "en-de", "mode": "remove", "removed": 17}]
    assert [each["counts"]["empty"] for each in card["weaknesses"]] == list(range(7))
    first, second = card["tests"]
    assert (first["gain"], first["p_value"]) == (pytest.approx(25.94 - 24.31), 0.013)
    assert (second["against"], second["gain"]) == ("teacher ensemble", pytest.approx(49.7 - 53.0))


def test_one_seed_has_no_standard_deviation_and_several_have(tested: ReportData) -> None:
    [control] = content(tested)["control"]
    assert (control["seeds"], control["standard_deviation"]) == (1, None)
    assert control["gain"] == pytest.approx(25.94 - 24.31)
    paired = [PairedScore("student", "control", f"student {n}", f"control {n}", "BLEU", 20.0 + n, 20.0) for n in (1, 3)]
    [control] = content(dataclasses.replace(tested, paired=paired))["control"]
    assert (control["seeds"], control["gain"]) == (2, 2.0)
    assert control["standard_deviation"] == pytest.approx(2**0.5)  # of 1 and 3, n - 1
