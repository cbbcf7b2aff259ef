"""The cells of a search: every combination once, names that stay when the grid grows, one budget for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kd.base.errors import UserError
from kd.recipe import compose
from kd.recipe.chain import stage_spec
from kd.recipe.schema import Schedule, SearchConfig
from kd.stages.grid import budget, cells, shapes


@pytest.fixture(scope="module")
def config() -> SearchConfig:
    """The demo's students (4-2-128, 4 heads, a linear schedule over 2,000 updates) in two depths of each side."""
    overrides = ["recipe=demo", "chain=search", "student=tiny_from_search", "search.encoder_layers=[2,4]",
                 "student.max_update=2000", "search.changes.max_update=500", "store.dir=/nonexistent"]  # fmt: skip
    composed = compose.compose(compose.parse_request(overrides))
    found: SearchConfig = stage_spec(composed, "search").config
    return found


def test_every_combination_is_a_cell(config: SearchConfig) -> None:
    found = cells(config, ["gold", "best"])
    assert len(found) == len({cell.name for cell in found}) == 2 * 2 * 2 * 3
    assert found[0].name == "2-1-128-gold-seed1"
    assert {cell.training.seed for cell in found} == {1, 2, 3}
    assert not any(cell.training.from_search for cell in found)
    assert {(c.training.model.encoder_layers, c.training.model.decoder_layers) for c in found} == {
        (2, 1), (2, 2), (4, 1), (4, 2),
    }  # fmt: skip


def test_all_have_one_budget_and_its_schedule_ends_with_it(config: SearchConfig) -> None:
    training = budget(config)
    assert config.training.max_update == config.training.optimizer.decay_updates == 2000
    assert (training.max_update, training.optimizer.schedule) == (500, Schedule.linear)
    assert training.optimizer.decay_updates == 500
    assert training.optimizer.learning_rate == config.training.optimizer.learning_rate
    assert {cell.training.max_update for cell in cells(config, ["gold"])} == {500}


def test_an_empty_list_is_the_students_own_value_and_ffn_goes_with_the_width(config: SearchConfig) -> None:
    found = shapes(replace(config, encoder_layers=[], decoder_layers=[], width=[128, 256], heads=[4, 8]))
    assert {name: (m.encoder_layers, m.decoder_layers, m.width, m.ffn, m.heads) for name, m in found.items()} == {
        "4-2-128": (4, 2, 128, 512, 4),
        "4-2-128-h8": (4, 2, 128, 512, 8),
        "4-2-256": (4, 2, 256, 1024, 4),
        "4-2-256-h8": (4, 2, 256, 1024, 8),
    }
    assert list(shapes(replace(config, encoder_layers=[2], decoder_layers=[1], ffn=[256, 512]))) == [
        "2-1-128-f256",
        "2-1-128",
    ]


def test_a_value_that_is_named_twice_is_tried_once(config: SearchConfig) -> None:
    once = replace(config, encoder_layers=[2, 1], width=[128])
    assert cells(replace(config, encoder_layers=[2, 2, 1], width=[128, 128]), ["gold"]) == cells(once, ["gold"])


def test_what_a_grid_has_keeps_its_name_when_it_grows(config: SearchConfig) -> None:
    before = {cell.name: cell for cell in cells(config, ["gold"])}
    grown = replace(config, encoder_layers=[1, 2, 4], ffn=[512, 1024], heads=[4, 8], seeds=4)
    after = {cell.name: cell for cell in cells(grown, ["first", "gold"])}
    assert before.items() <= after.items()


def test_what_is_switched_off_is_left_out(config: SearchConfig) -> None:
    found = cells(replace(config, data={"gold": False, "best": True}), ["gold", "best", "new"])
    assert list(dict.fromkeys(cell.data for cell in found)) == ["best", "new"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"width": [100, 128], "heads": [4, 8]}, "width 100 with 8 heads.*search.width.*search.heads"),
        ({"heads": [3]}, "width 128 with 3 heads"),
        ({"changes": {"max_updates": 3}}, "search.changes.max_updates.*mean search.changes.max_update"),
        ({"changes": {"optimizer": {"warmup": 3}}}, r"search\.changes\.optimizer\.warmup_updates"),
        ({"changes": {"max_update": "many"}}, r"search\.changes\.max_update is not valid.*Set it to a whole number"),
    ],
)
def test_what_is_no_model_is_refused(changes: dict[str, Any], told: str, config: SearchConfig) -> None:
    with pytest.raises(UserError, match=told):
        cells(replace(config, **changes), ["gold"])
