"""Values out of the bounds of the schema are refused before anything runs."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import UserError
from kd.cli import main
from kd.recipe.schema import DecodeConfig, GuardsConfig, SearchConfig, SourceConfig, TrainConfig
from kd.recipe.schema.recipe import RecipeConfig
from kd.recipe.schema.walk import hints, is_config, is_mapping, settings, without_none
from kd.recipe.validate import check_typed

ALL = list(settings(RecipeConfig))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("teacher.optimizer.learning_rate=-1", "teacher.optimizer.learning_rate is -1.0. It must be above 0."),
        ("student.optimizer.learning_rate=inf", "student.optimizer.learning_rate is inf. It must be a finite number."),
        ("student.optimizer.learning_rate=nan", "student.optimizer.learning_rate is nan. It must be a finite number."),
        ("student.model.encoder_layers=0", "student.model.encoder_layers is 0. It must be at least 1."),
        ("student.model.dropout=1", "student.model.dropout is 1.0. It must be at least 0 and below 1."),
        ("machine.device=tpu", "machine.device is not valid: tpu. Choose one of: cpu, cuda, rocm."),
        ("machine.device=CPU", "Did you mean cpu?"),
        ("machine.gpus_per_node=-1", "machine.gpus_per_node is -1. It must be at least 0."),
        ("decode.share=1.5", "decode.share is 1.5. It must be above 0 and at most 1."),
        (
            "corpus.sources.home_assistant.weight=-1",
            "corpus.sources.home_assistant.weight is -1.0. It must be at least 0.",
        ),
        ("corpus.sources.home_assistant.format=tsvv", "Did you mean tsv?"),
        ("launcher.threads=0", "launcher.threads is 0. It must be at least 1."),
        (f"student.max_update={'9' * 5000}", "student.max_update has a number of more than 4,300 digits."),
        ("search.decoder_layers=[1,0]", "search.decoder_layers[1] is 0. It must be at least 1."),
        ("select.smoothing=add_k", "Did you mean add-k?"),
        ("+chain.control.changes.max_update=-5", "chain.control.changes.max_update is -5. It must be at least 1."),
    ],
)
def test_an_impossible_value_is_one_sentence_with_its_key_and_exit_2(
    override: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["status", "recipe=demo", override]) == 2
    assert told in capsys.readouterr().err


def configs(kind: Any = RecipeConfig) -> Iterator[Any]:
    """Yield every config dataclass of the schema."""
    yield kind
    for name in hints(kind):
        inner, _ = without_none(hints(kind)[name])
        inner = typing.get_args(inner)[1] if is_mapping(inner) else inner
        if is_config(inner):
            yield from configs(inner)


def outside(field: dataclasses.Field[Any]) -> list[float]:
    """Return a value beyond each bound of a field: the bound where it is excluded, else 1 from it."""
    metadata = field.metadata
    below = [metadata[name] - step for name, step in (("at_least", 1), ("above", 0)) if name in metadata]
    return below + [metadata[name] + step for name, step in (("at_most", 1), ("below", 0)) if name in metadata]


BOUNDED = {(kind, field.name): field for kind in configs() for field in dataclasses.fields(kind) if outside(field)}


@pytest.mark.parametrize(("kind", "name"), BOUNDED)
def test_every_bound_of_the_schema_is_enforced(kind: Any, name: str) -> None:
    for value in outside(BOUNDED[kind, name]):
        shape = str(hints(kind)[name])
        given = {"list": [value], "tuple": (value, value), "dict": {"name": value}}.get(shape.partition("[")[0], value)
        with pytest.raises(UserError, match=rf"^group\.{name}[^ ]* is "):
            check_typed(dataclasses.replace(kind(), **{name: given}), "group")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (dataclasses.replace(DecodeConfig(), share=0.0), r"decode\.share is 0"),
        (dataclasses.replace(DecodeConfig(), max_source_pieces=0), r"decode\.max_source_pieces is 0"),
        (dataclasses.replace(GuardsConfig(), max_ratio=1.0), r"decode\.max_ratio is 1"),
        (dataclasses.replace(SearchConfig(), heads=[0]), r"decode\.heads\[0\] is 0"),
        (dataclasses.replace(TrainConfig(), members=0), r"decode\.members is 0"),
        (SourceConfig(columns={"source": 0}), r"decode\.columns\.source is 0"),
    ],
)
def test_inline_settings_of_a_stage_are_checked(config: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_typed(config, "decode")


def test_every_setting_has_a_meaning() -> None:
    assert [setting.key for setting in ALL if not setting.meaning.endswith((".", "…"))] == []


def test_every_number_that_counts_something_has_a_bound() -> None:
    free = {setting.key for setting in ALL if setting.type in (int, float) and not outside(setting.field)}
    assert free == {"decode.length_penalty", "select.threshold"}
