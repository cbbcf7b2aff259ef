"""Settings of a search for the student's architecture and data, and of the rule that chooses among its trainings.

Values are in conf/search/; `kd/stages/grid.py` expands them into trainings.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from kd.recipe.schema.marks import same_as, setting
from kd.recipe.schema.training import TrainConfig


class SpeedMeasure(Enum):
    """A measure of speed from the stage `speed`."""

    one_core = "one_core"  # sentences per second, in batches, on one core
    all_cores = "all_cores"  # the same on all cores of the machine
    latency = "latency"  # median milliseconds for a sentence alone on one core
    latency_p99 = "latency_p99"  # milliseconds within which 99 of 100 such sentences are translated


ChooseMetric = StrEnum("ChooseMetric", {"bleu": "bleu", "chrf": "chrf", "chrf++": "chrf++", "comet": "comet"})
ChooseMetric.__doc__ = """Metrics by which a search can choose; its mean over seeds counts."""


@dataclass
class ChooseConfig:
    """The rule: the fastest cell that loses no more quality than is allowed against the best cell."""

    metric: ChooseMetric = setting("Metric of quality, one of evaluate.metrics.")
    loss_allowed: float = setting(
        "Largest allowed loss, in points of the metric below the mean of the best cell.", unit="points", at_least=0
    )
    speed: SpeedMeasure = setting("Measure of speed.")
    format: str = setting("Export format in which quality and speed are compared, one of export.formats.")


@dataclass
class SearchConfig:
    """A grid of architectures times data; each cell is trained from several seeds with one budget."""

    encoder_layers: list[int] = setting("Encoder layers to try; empty: those of `training`.", factory=list, at_least=1)
    decoder_layers: list[int] = setting("Decoder layers to try; empty: those of `training`.", factory=list, at_least=1)
    width: list[int] = setting("Widths to try; empty: that of `training`.", factory=list, at_least=1)
    ffn: list[int] = setting(
        "Feed-forward widths to try; empty: the same ratio to the width as in `training`.",
        factory=list,
        at_least=1,
    )
    heads: list[int] = setting("Attention heads to try; empty: those of `training`.", factory=list, at_least=1)
    data: dict[str, bool] = setting(
        "Training data to try; NAME: false leaves out the entry NAME of chain.search.inputs.data.", factory=dict
    )
    seeds: int = setting("Trainings per cell, which differ only in their seed.", unit="trainings", at_least=1)
    training: TrainConfig = setting("Settings of all cells, except the shape.", same_as("student"))
    changes: dict[str, Any] = setting("Keys that override `training`: the budget of the search.", factory=dict)
    choose: ChooseConfig = setting("The rule.", factory=ChooseConfig)
