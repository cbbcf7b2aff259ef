"""Search: run many small trainings, one per architecture, data and seed of a grid, all with the same budget.

Each training is a task identified by its settings, so a larger grid trains only the new cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import UserError
from kd.base.text import unknown_name
from kd.base.world import World
from kd.engines.fairseq.forecast import training_spent, training_work
from kd.engines.fairseq.precision import check_precision
from kd.engines.fairseq.training import run_worker_node
from kd.models.known import Known
from kd.models.systems import trained_model
from kd.pipeline.forecast import Spent, StageForecast, TaskWork
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import SearchConfig
from kd.recipe.schema.running import SystemRole
from kd.stages.grid import Cell, budget, cells, shape, shapes
from kd.stages.teachers import (
    ROLES,
    TEACHERS,
    check_learning,
    lessons,
    start_from_layers,
    start_identity,
    started,
    teacher_inputs,
    with_teachers,
)
from kd.stages.training import START, Training, check_settings, check_training, run_training, training_identity


class Search(Kind[SearchConfig]):
    """Train the cells of a grid."""

    name = "search"
    version = 2  # 2: precision is auto by default, loss and Adam are fused
    config = SearchConfig
    imports = ("torch", "fairseq")
    trains = True
    needs_models = True
    roles: ClassVar = {
        "data": Role(many=True),  # encoded corpora, by the names of the data variants
        TEACHERS: ROLES[TEACHERS],  # their distributions are computed in each update, not stored
    }
    role = SystemRole.student.value
    resources = "train"
    uses_gpus = True
    several_nodes = True
    resumable = True

    def validate(self, config: SearchConfig) -> None:
        """Raise UserError for a cell that is not a valid model or cannot be trained in the budget."""
        shapes(config)
        training = budget(config)
        if training.init_from:
            raise UserError(
                "A search trains models of many shapes, but init_from has a fixed shape.",
                "Set ++search.changes.init_from=null.",
            )
        try:
            check_settings(training)
            check_learning(training)
        except UserError as error:
            raise UserError(f"In the search's budget (search.changes): {error.problem}", error.hint) from None

    def suits(self, config: SearchConfig, device: str) -> None:
        """Check that the device supports the precision."""
        check_precision(budget(config).precision, device)

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield a task for each cell and seed."""
        config: SearchConfig = stage.config
        by_label = {item.label: [item] for item in stage.input_tasks("data")}
        known = stage.spec.inputs["data"]
        for label in config.data:
            if label not in known:
                raise unknown_name("data to learn from (search.data)", label, known)
        found = cells(config, by_label)
        if not found:
            raise UserError("search.data switches off all training data.", "Leave at least one on.")
        for cell in found:
            identity, extent = training_identity(cell.training, cell.training.seed)
            member = cell.training.seed - budget(config).seed
            inputs = {"data": by_label[cell.data], **teacher_inputs(stage, cell.training, member)}
            identity |= start_identity(stage, cell.training, member)
            subject = trained_model(stage, cell.name if len(found) > 1 else None)
            yield TaskSpec(cell.name, identity, extent, inputs=inputs, subject=subject)

    def run(self, job: Job[SearchConfig]) -> None:
        """Derive the batch size, train or resume, and average."""
        cell = _cell(job)
        config, data = cell.training, job.one("data")
        start = start_from_layers(job, config, data, job.out / START)
        run_training(job, Training(started(config), data, config.seed, start, lessons(job, config.distill, data)))

    def run_worker_node(self, out: Path, world: World, threads: int, over: Callable[[], bool]) -> None:
        """Run this node's processes of the training."""
        run_worker_node(out, world, threads, over)

    def check(self, job: Job[SearchConfig]) -> Summary:
        """Load the final model."""
        cell = _cell(job)
        summary = check_training(job, cell.training)
        model = shape(cell.training.model)
        summary.facts["cell"] = {
            "shape": cell.shape, "data": cell.data, "seed": cell.training.seed, "model": model,
        }  # fmt: skip
        return summary

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast each cell by its own shape and data."""
        assumed = known.assumed_of("updates", stage)
        labels = dict.fromkeys(item.label for task in stage.tasks for item in task.inputs["data"])
        trainings = {cell.name: cell.training for cell in cells(stage.config, labels)}
        tasks = {}
        for task in stage.tasks:
            config, text = trainings[task.name], known.largest_input(task, "data")
            work = training_work(config, text, known, assumed)
            tasks[task.name] = with_teachers(work, task, config, text, known)
        return StageForecast(tasks, known.input_of(stage))

    def spent(self, folder: Path, manifest: Mapping[str, Any], work: TaskWork) -> Iterator[Spent]:
        """Divide the seconds between updates and validations."""
        return training_spent(folder, manifest, work)


def _cell(job: Job[SearchConfig]) -> Cell:
    (cell,) = [each for each in cells(job.config, [job.one("data").label]) if each.name == job.name]
    return cell
