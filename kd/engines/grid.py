"""The cells of a search: which shapes it tries, on which data and from which seeds, each as a training with a name.

A name is made of the cell alone, so that a grid that grows keeps the names, and with them the trainings, that it has.
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
from kd.recipe.schema.values import kind_of_value

SHAPE = ("encoder_layers", "decoder_layers", "width", "ffn", "heads")


@dataclass(frozen=True)
class Cell:
    """One training of a search."""

    shape: str  # encoder layers, decoder layers and width, such as 12-1-512; ffn and heads where they are unusual
    data: str  # label of what it learns from
    training: TrainConfig  # its seed included

    @property
    def name(self) -> str:
        """Such as `12-1-512-best-seed1`."""
        return f"{self.shape}-{self.data}-seed{self.training.seed}"


def cells(config: SearchConfig, data: Iterable[str]) -> list[Cell]:
    """Every combination of shape, data and seed; data: the labels that there are, in order.

    Raises UserError for a budget with unknown settings, and for a combination that is no model.
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
    """The training that all cells share: `training` with `changes` laid over it."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config.training), config.changes)
        training = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        told = str(error).split("\n")[0].rstrip(".")
        key = f"search.changes.{getattr(error, 'full_key', '')}".rstrip(".")
        raise UserError(
            f"{key} does not fit: {told}.", kind_of_value(told, key) or "Its keys are those of student."
        ) from None
    assert isinstance(training, TrainConfig)
    return replace(training, members=1, from_search=False)


def shapes(config: SearchConfig) -> dict[str, ModelConfig]:
    """Every shape of the grid by its name; raises UserError for one that is no model."""
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
    """What a search varies of a model."""
    return {name: getattr(model, name) for name in SHAPE}


def _check(model: ModelConfig) -> None:
    for name, value in shape(model).items():
        if value < 1:
            raise UserError(f"search.{name} has {value} among its values.", "Each must be at least 1.")
    if model.width % model.heads:
        raise UserError(
            f"A model of the grid would share a width of {model.width} among {model.heads} heads.",
            "Let every value of search.width be a multiple of every value of search.heads; where a list is empty, "
            "the student's own counts.",
        )
