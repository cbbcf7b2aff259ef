"""Expand a search into cells: one named training per combination of shape, data and seed.

A name depends on its cell alone, so extending the grid keeps existing names and trainings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kd.base.errors import UserError
from kd.recipe.schema import ModelConfig, SearchConfig, TrainConfig
from kd.recipe.schema.values import wrong_setting

SHAPE = ("encoder_layers", "decoder_layers", "width", "ffn", "heads")


@dataclass(frozen=True)
class Cell:
    """One training of a search.

    Attributes:
        shape: Encoder layers, decoder layers and width, such as `12-1-512`; also `-f` and `-h` if unusual.
        data: Label of the training data.
        training: Settings of the training, including the seed.
    """

    shape: str
    data: str
    training: TrainConfig

    @property
    def name(self) -> str:
        """Return the task's name, such as `12-1-512-best-seed1`."""
        return f"{self.shape}-{self.data}-seed{self.training.seed}"


def cells(config: SearchConfig, data: Iterable[str]) -> list[Cell]:
    """Return a cell for every combination of shape, data and seed.

    Args:
        config: The search.
        data: All available labels, in order.

    Raises:
        UserError: The budget has unknown settings, or a combination is not a valid model.
    """
    training = budget(config)
    wanted = [label for label in data if config.data.get(label, True)]
    return [
        Cell(name, label, replace(training, model=model, seed=training.seed + number))
        for name, model in shapes(config).items()
        for label in wanted
        for number in range(config.seeds)
    ]


def budget(config: SearchConfig) -> TrainConfig:
    """Return the settings that all cells share: `training` overridden by `changes`."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config.training), config.changes)
        training = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise wrong_setting(error, "search.changes", TrainConfig) from None
    assert isinstance(training, TrainConfig)
    return replace(training, members=1, from_search=False)


def shapes(config: SearchConfig) -> dict[str, ModelConfig]:
    """Return every model of the grid by its name. Raise UserError if one is not a valid model."""
    base = budget(config).model
    found: dict[str, ModelConfig] = {}
    ffns: list[int | None] = [*config.ffn] or [None]
    for encoder, decoder, width, ffn, heads in itertools.product(
        config.encoder_layers or [base.encoder_layers],
        config.decoder_layers or [base.decoder_layers],
        config.width or [base.width],
        ffns,
        config.heads or [base.heads],
    ):
        usual = base.ffn * width // base.width
        model = replace(base, encoder_layers=encoder, decoder_layers=decoder, width=width, heads=heads)
        model = replace(model, ffn=usual if ffn is None else ffn)
        _check(model)
        name = f"{encoder}-{decoder}-{width}"
        name += "" if model.ffn == usual else f"-f{model.ffn}"
        name += "" if heads == base.heads else f"-h{heads}"
        found[name] = model
    return found


def shape(model: ModelConfig) -> dict[str, Any]:
    """Return those settings of a model that a search varies, such as layers and width."""
    return {name: getattr(model, name) for name in SHAPE}


def _check(model: ModelConfig) -> None:
    if model.width % model.heads:
        raise UserError(
            f"The grid has a model of width {model.width} with {model.heads} heads, but heads must divide the width.",
            "Make every value of search.width a multiple of every value of search.heads. An empty list stands for "
            "the student's own value.",
        )
