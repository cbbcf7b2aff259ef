"""What a task trains, whichever kind it is of: a member, a cell of a search, or a student that a search will choose.

What a search will choose nobody knows beforehand: its largest cell stands in, so that the forecast is no smaller.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from kd.pipeline.model import Stage, Task
from kd.planning.shapes import decoder_weights, encoder_weights
from kd.recipe.schema import SearchConfig, TrainConfig
from kd.stages.grid import cells

LARGEST = "the largest cell of the search stands in for what it will choose"


def training_of(task: Task) -> TrainConfig | None:
    """The config that a task trains with; None for one that trains nothing."""
    config = task.stage.config
    if isinstance(config, SearchConfig):
        return _trainings(task.stage)[task.name]
    if not isinstance(config, TrainConfig):
        return None
    return replace(config, model=_largest(task).model) if config.from_search else config


def chosen_later(task: Task) -> bool:
    """Whether the shape of what a task trains is assumed."""
    return isinstance(task.stage.config, TrainConfig) and task.stage.config.from_search


def budget_of(stage: Stage) -> TrainConfig:
    """The training of a stage, whatever its shapes."""
    if isinstance(stage.config, SearchConfig):
        return next(iter(_trainings(stage).values()))
    config: TrainConfig = stage.config
    return config


@functools.lru_cache(maxsize=32)  # asked for each of a stage's tasks, several times
def _trainings(stage: Stage) -> dict[str, TrainConfig]:
    labels = dict.fromkeys(item.label for task in stage.tasks for item in task.inputs["data"])
    return {cell.name: cell.training for cell in cells(stage.config, labels)}


def _largest(task: Task) -> TrainConfig:
    """Of the search behind the choice that a task reads."""
    (choice,) = [item.task for item in task.inputs["choice"]]
    found = [training for item in choice.inputs["cells"] if (training := training_of(item.task))]
    return max(found, key=lambda each: encoder_weights(each.model) + decoder_weights(each.model, 0))
