"""`kd settings`, the JSON Schema and docs/settings.md are derived from the schema and agree with the recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml

from kd.base import resources
from kd.cli import main
from kd.recipe import reference
from kd.recipe.origins import values
from kd.recipe.schema.recipe import RecipeConfig
from kd.recipe.schema.search import nearest, search
from kd.recipe.schema.walk import hints, is_config, settings

CHECKOUT = resources.folder("conf").parent
RECIPES = [*resources.folder("recipes").glob("*/*.yaml"), CHECKOUT / "conf" / "base.yaml"]
GROUPS = {name: kind for name, kind in hints(RecipeConfig).items() if is_config(kind)}
GROUP_FILES = [file for file in resources.folder("conf").glob("*/*.yaml") if file.parent.name in GROUPS]


def content(file: Path) -> Any:
    """Return a YAML file as an editor checks it: dates are text, as in JSON."""
    return json.loads(json.dumps(yaml.safe_load(file.read_text("utf-8")), default=str))


@pytest.fixture(scope="module")
def check() -> Any:
    """Return the validator of recipes."""
    return fastjsonschema.compile(reference.json_schema())


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: "/".join(file.parts[-2:]))
def test_every_recipe_satisfies_the_json_schema(check: Any, file: Path) -> None:
    check(content(file))


@pytest.mark.parametrize("file", GROUP_FILES, ids=lambda file: "/".join(file.parts[-2:]))
def test_every_file_of_a_group_satisfies_the_json_schema_of_its_group(file: Path) -> None:
    fastjsonschema.validate(reference.json_schema(GROUPS[file.parent.name]), content(file))


@pytest.mark.parametrize(
    "wrong",
    [
        {"teacher": {"optimizer": {"learning_rate": -1}}},
        {"student": {"model": {"encoder_layers": 0}}},
        {"student": {"model": {"width": "wide"}}},
        {"student": {"lr": 1}},
        {"machine": {"device": "tpu"}},
        {"corpus": {"sources": {"mine": {"format": "tsvv"}}}},
        {"seed": None},
    ],
)
def test_the_json_schema_refuses_what_kd_refuses(check: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        check(wrong)


@pytest.mark.parametrize("right", [{"seed": "${other}"}, {"machine": {"account": "???"}}, {"decode": {"share": 0.5}}])
def test_the_json_schema_takes_references_and_missing_values(check: Any, right: dict[str, Any]) -> None:
    check(right)


def test_the_page_of_settings_is_in_step_with_the_schema() -> None:
    page = (CHECKOUT / "docs" / "settings.md").read_text("utf-8")
    assert page == reference.markdown(reference.rows(values(CHECKOUT / "conf" / "base.yaml"))), (
        "Type: kd settings --markdown > docs/settings.md"
    )


def test_settings_are_found_by_words_with_value_and_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["settings", "student", "learning", "rate"]) == 0
    printed = capsys.readouterr().out
    assert "student.optimizer.learning_rate = 0.0007\n" in printed
    assert "Learning rate at its peak. Number, above 0. Set in conf/student/deep_shallow_12_1.yaml.\n" in printed
    assert main(["settings", "recipe=demo", "student.model.width", "student.model.heads=8"]) == 0
    assert "student.model.width = 128\n" in capsys.readouterr().out
    assert main(["settings", "recipe=demo", "split.dev", "split.dev=50"]) == 0
    printed = capsys.readouterr().out
    assert "split.dev = 50\n" in printed and "Set on the command line." in printed
    assert main(["settings", "decode.method"]) == 0
    assert " One of beam, sample, diverse.\n" in capsys.readouterr().out, "words to type keep their case"
    assert main(["settings", "beam"]) == 0
    meanings = capsys.readouterr().out
    assert "with which the teachers decode" in meanings and "with which students and teachers translate" in meanings
    assert main(["settings", "recipe=demo", "vocabulary.size"]) == 0
    assert "Set in recipes/demo/recipe.yaml." in capsys.readouterr().out


def test_words_without_a_match_are_an_error_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "learnig_rate"]) == 2
    assert "No setting matches learnig_rate." in capsys.readouterr().err


def test_the_schema_of_a_group_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "--schema", "checkpoint"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["every"]["anyOf"][0] == {"type": "integer", "minimum": 1}
    assert main(["settings", "--schema", "chekpoint"]) == 2
    assert "Did you mean checkpoint?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("student.lr", ["student.optimizer.learning_rate"]),
        ("student.learning_rate", ["student.optimizer.learning_rate", "student.start.learning_rate"]),
        ("teacher.batch_size", ["teacher.batch.target_tokens", "teacher.batch.max_tokens"]),
        ("teacher.epochs", ["teacher.max_update"]),
        ("student.layers", ["student.model.encoder_layers", "student.model.decoder_layers", "student.start.layers"]),
        ("student.dropout", ["student.model.dropout"]),
        ("vocab_size", ["vocabulary.size"]),
        ("beam_size", ["decode.beam", "evaluate.translate.beam"]),
        ("decode.beamm", ["decode.beam"]),
        ("device", ["machine.device"]),
    ],
)
def test_the_key_that_was_meant_is_found_at_any_depth(typed: str, meant: list[str]) -> None:
    assert nearest(typed, RecipeConfig) == meant


def test_search_takes_aliases_units_and_words_in_any_order() -> None:
    found = {setting.key for setting in search(["target", "tokens", "student", "update"], settings(RecipeConfig))}
    assert found == {"student.batch.target_tokens"}
    assert "student.optimizer.learning_rate" in {each.key for each in search(["lr"], settings(RecipeConfig))}
