"""Settings of a search for the student's architecture and data, and of the rule that chooses among what it trained.

Values are in conf/search/; `kd/stages/grid.py` makes trainings of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import II, MISSING

from kd.recipe.schema.training import TrainConfig


class SpeedMeasure(Enum):
    """How fast a model is, as the stage `speed` measured it."""

    one_core = "one_core"  # sentences a second, in batches, on one core
    all_cores = "all_cores"  # the same on all that the machine has
    latency = "latency"  # milliseconds for a sentence alone on one core: the median
    latency_p99 = "latency_p99"  # milliseconds that 99 of 100 such sentences take at most


@dataclass
class ChooseConfig:
    """The rule: of what loses no more quality than is allowed against the best cell, the fastest."""

    metric: str = MISSING  # bleu | chrf | chrf++ | comet, one of evaluate.metrics; its mean over seeds counts
    loss_allowed: float = MISSING  # points of the metric below the mean of the best cell
    speed: SpeedMeasure = MISSING
    format: str = MISSING  # in which quality and speed count, one of export.formats


@dataclass
class SearchConfig:
    """A grid of architectures times data, each cell trained from several seeds in one budget."""

    # Values of the grid. An empty list: the one value that `training` has.
    encoder_layers: list[int] = field(default_factory=list)
    decoder_layers: list[int] = field(default_factory=list)
    width: list[int] = field(default_factory=list)
    ffn: list[int] = field(default_factory=list)  # empty: in the proportion to the width that `training` has
    heads: list[int] = field(default_factory=list)
    # What the students may learn from, as the chain labels it -> whether it is tried; what is not named is.
    data: dict[str, bool] = field(default_factory=dict)
    seeds: int = MISSING  # trainings of each cell that differ by their seed alone
    training: TrainConfig = field(default=II("student"))  # all but the shape is the same for all cells
    changes: dict[str, Any] = field(default_factory=dict)  # laid over `training`: the budget of the search
    choose: ChooseConfig = field(default_factory=ChooseConfig)
