"""Which systems a model card compares with, and which one its p-values are against."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd.base.progress import Progress
from kd.base.records import plain
from kd.models.systems import System, SystemRole
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import ReleaseConfig
from kd.stages.release import Release, _baseline, _beside

TEACHERS = [System(SystemRole.teacher, "big", str(number), pair="en-de") for number in (1, 2)]
ENSEMBLE = replace(TEACHERS[0], member=None, ensemble=True)
STUDENTS = [System(SystemRole.student, "small", str(number), pair="en-de") for number in (1, 2)]
CONTROLS = [System(SystemRole.control, "gold", str(number), pair="en-de") for number in (1, 2)]
OPUS = System(SystemRole.external, "opus-mt", engine="")
ALL = [*TEACHERS, ENSEMBLE, *STUDENTS, *CONTROLS, OPUS]


def export(system: System) -> System:
    return replace(system, format="int8", engine="ctranslate2")


def test_an_export_is_compared_by_roles_whatever_the_names() -> None:
    found = _beside(export(STUDENTS[1]), ALL)
    assert [each.name for each in found] == ["big-ensemble", "big-1", "small-2", "gold-2", "opus-mt"]
    assert [each.name for each in _beside(ENSEMBLE, ALL)] == ["big-1", "small-1", "gold-1", "opus-mt"]


def test_a_student_of_several_pairs_is_compared_with_one_of_a_single_pair() -> None:
    shared = System(SystemRole.student, "multi")
    found = _beside(export(shared), [shared, STUDENTS[0], ENSEMBLE])
    assert [each.name for each in found] == ["big-ensemble", "multi", "small-1"]


@pytest.mark.parametrize(
    ("system", "tested", "expected"),
    [
        (export(STUDENTS[0]), ["gold-1", "big-ensemble"], "big-ensemble"),
        (export(STUDENTS[0]), ["gold-1"], "gold-1"),
        (STUDENTS[0], ["gold-1", "big-ensemble"], "gold-1"),
        (ENSEMBLE, ["gold-1", "big-ensemble"], "gold-1"),
        (export(STUDENTS[0]), [], None),
    ],
)
def test_p_is_against_the_teacher_for_exports(system: System, tested: list[str], expected: str | None) -> None:
    evaluation: dict[str, Any] = {"systems": plain(ALL), "significance": {name: [] for name in tested}}
    assert _baseline(system, evaluation) == expected


def test_a_package_has_a_card_with_the_scores_of_the_model_that_it_was_made_from(tmp_path: Path) -> None:
    student = replace(STUDENTS[0], label="student", member=None)
    package = replace(student, format="argos", engine="argos")
    made, judged, out = tmp_path / "made", tmp_path / "judged", tmp_path / "out"
    for folder in (made, judged, out):
        folder.mkdir()
    description = {"format": 1, "engine": "argos", "compute_type": "int8", "source_languages": ["en"],
                   "target_languages": ["de"], "preprocessing": {"normalization": "kd"}}  # fmt: skip
    (made / "model.json").write_text(json.dumps(description))
    (made / "translate-en_de.argosmodel").write_bytes(b"zip")
    score = {"metric": "BLEU", "value": 31.25, "signature": "tok:13a"}
    content = {"segments": 9, "leakage": {"verdict": "clean"}, "significance": {}, "scores": {"student": [score]}}
    scores = {
        "systems": plain([student]),
        "scores": {"student": [score]},
        "significance": {},
        "sets": {"test": content},
    }
    (judged / "scores.json").write_text(json.dumps(scores))
    (judged / "weaknesses.json").write_text(json.dumps({"systems": {}}))
    manifest = {"facts": {"parameters": 7}, "kind": "train", "counts": {}}
    inputs = {
        "systems": [
            Artifact(made, "student", "student.en-de", "student", "f1", "en-de", {}, manifest, plain(student)),
            Artifact(made, "export", "export.en-de", "student-argos", "f2", "en-de", {}, manifest, plain(package)),
        ],
        "scores": [Artifact(judged, "scores", "evaluate.en-de", "all", "f3", "en-de", {}, manifest)],
    }
    config = ReleaseConfig(systems={}, ensembles={}, sources={})
    job = Job("student-argos", "release.en-de", config, {}, "en-de", {"source": "en", "target": "de"}, inputs, {}, out,
              [], 1, 1, "cpu", {}, Progress(None))  # fmt: skip
    Release().run(job)
    assert "no licence was chosen: set release.licence" in Release().check(job).facts["note"]
    card = (out / "README.md").read_text("utf-8")
    assert "Scores are those of student, the model before it was converted." in card
    assert "| **student-argos** | 31.2" in card and "library_name: argos-translate" in card
    assert 'argostranslate.translate.translate("A sentence.", "en", "de")' in card
    assert (out / "translate-en_de.argosmodel").read_bytes() == b"zip"
