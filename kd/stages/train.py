"""Train: train an ensemble of teachers whose members differ only in their seed, a student, or a control.

Each member is a task. An interrupted task resumes from its last checkpoint; if max_update is raised, it continues. A
student may get its shape and data from a search.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import UserError
from kd.base.files import write_json
from kd.base.world import World
from kd.corpora.index import read_json
from kd.engines.fairseq.forecast import training_spent, training_work
from kd.engines.fairseq.precision import check_precision
from kd.engines.fairseq.start import prepare_start, start_files
from kd.engines.fairseq.training import run_worker_node
from kd.models.files import DICTIONARY
from kd.models.known import Known
from kd.models.systems import trained_model
from kd.pipeline.fingerprint import canonical
from kd.pipeline.forecast import Spent, StageForecast, TaskWork
from kd.pipeline.model import Artifact, Input, Job, Kind, Role, Stage, Summary, Task, TaskSpec
from kd.recipe.schema import ModelConfig, TrainConfig
from kd.recipe.schema.running import SystemRole
from kd.report.source_only import SOURCE_ONLY
from kd.stages.grid import SHAPE
from kd.stages.outputs import CHOSEN, TAKEN
from kd.stages.teachers import (
    ROLES,
    check_learning,
    lessons,
    start_from_layers,
    start_identity,
    started,
    teacher_inputs,
    with_teachers,
)
from kd.stages.training import START, Training, check_settings, check_training, run_training, training_identity

_LOG = logging.getLogger(__name__)

LARGEST = "the largest cell of the search stands in for the cell to be chosen"


class Train(Kind[TrainConfig]):
    """Train one model, or several that differ by their seed."""

    name = "train"
    version = 2  # 2: precision is auto by default, loss and Adam are fused
    config = TrainConfig
    imports = ("torch", "fairseq")
    trains = True
    needs_models = True
    roles: ClassVar = {
        "data": Role(many=True),  # one, or several of which a search has chosen one by its label
        "start": Role(optional=True),  # models to continue from, by member
        "choice": Role(optional=True),  # of `choose`: read where the config says from_search
        **ROLES,
    }
    role = SystemRole.student.value  # unless the recipe declares another, or a stage decodes with it: teacher
    resources = "train"
    uses_gpus = True
    several_nodes = True
    resumable = True

    def validate(self, config: TrainConfig) -> None:
        """Check the shape, and that enough checkpoints are kept to average."""
        check_settings(config)
        check_learning(config)
        if config.from_search and config.init_from:
            raise UserError("from_search is true, but init_from already has a shape.", "Set init_from=null.")

    def suits(self, config: TrainConfig, device: str) -> None:
        """Check that the device supports the precision."""
        check_precision(config.precision, device)

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task per member, each with its own seed."""
        config: TrainConfig = stage.config
        _check_inputs(stage)
        for member in range(config.members):
            identity, extent = training_identity(config, config.seed + member)
            if config.from_search:  # which sets them later
                identity["model"] = {key: value for key, value in identity["model"].items() if key not in SHAPE}
            inputs = _inputs(stage, member)
            identity |= start_identity(stage, config, member)
            yield TaskSpec(
                f"member-{member + 1}",
                identity,
                extent,
                inputs=inputs,
                files=partial(start_files, config.init_from, member + 1) if config.init_from else (),
                subject=trained_model(stage, str(member + 1) if config.members > 1 else None),
            )

    def run(self, job: Job[TrainConfig]) -> None:
        """Derive the batch size, train or resume, and average."""
        if job.config.from_search:
            config, data = _chosen(job)
            job = _begun_with(job, config, data)
        else:
            config, data = job.config, job.one("data")
        if SOURCE_ONLY in data.manifest["facts"]:
            _LOG.info("%s/%s learns %s", job.stage, job.name, data.manifest["facts"]["note"])
        start = _start(job, config, data)
        training = Training(started(config), data, job.identity["seed"], start, lessons(job, config.distill, data))
        run_training(job, training)

    def run_worker_node(self, out: Path, world: World, threads: int, over: Callable[[], bool]) -> None:
        """Run this node's processes of the training."""
        run_worker_node(out, world, threads, over)

    def check(self, job: Job[TrainConfig]) -> Summary:
        """Load the final model."""
        summary = check_training(job, job.config)
        data = [] if job.config.from_search else job.inputs["data"]
        found = [each.manifest["facts"][SOURCE_ONLY] for each in data if SOURCE_ONLY in each.manifest["facts"]]
        summary.facts |= {SOURCE_ONLY: found[0]} if found else {}
        return summary

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast each member; a student still to be chosen by a search counts as the largest cell."""
        assumed = known.assumed_of("updates", stage)
        tasks = {}
        for task in stage.tasks:
            config, text, note = stage.config, known.input(stage, "data"), ""
            if config.from_search:
                config = replace(config, model=_largest_cell(task, known))
                text, note = known.largest_input(task, "data"), LARGEST
            work = training_work(config, text, known, assumed, note)
            tasks[task.name] = with_teachers(work, task, config, text, known)
        return StageForecast(tasks, known.input_of(stage))

    def spent(self, folder: Path, manifest: Mapping[str, Any], work: TaskWork) -> Iterator[Spent]:
        """Divide the seconds between updates and validations."""
        return training_spent(folder, manifest, work)


def _check_inputs(stage: Stage) -> None:
    """Check that there is one corpus, or a search that chooses one of several."""
    data = [item.label for item in stage.input_tasks("data")]
    if stage.config.from_search and not stage.inputs.get("choice"):
        raise UserError(
            f"{stage.name} has from_search=true but no search among its inputs.",
            f"Add chain=search, or set chain.{stage.spec.name}.inputs.choice to a stage of kind choose.",
        )
    if len(data) > 1 and not stage.config.from_search:
        names = ", ".join(other.name for _, other in stage.inputs["data"])
        raise UserError(
            f"chain.{stage.spec.name}.inputs.data means several stages: {names}.",
            f"Name one of them, set chain.{stage.spec.name}.over, or let a search choose (student=from_search).",
        )
    if twice := next((label for label in data if data.count(label) > 1), None):
        raise UserError(
            f"{stage.name} has two corpora called {twice}.",
            f"Set chain.{stage.spec.name}.over, so that it has one corpus.",
        )


def _chosen(job: Job[TrainConfig]) -> tuple[TrainConfig, Artifact]:
    """Return the config with the shape that the search chose, and the chosen corpus (or the only one)."""
    chosen = read_json(job.one("choice").path / CHOSEN)["chosen"]
    config = replace(job.config, model=replace(job.config.model, **chosen["model"]))
    corpora = job.inputs["data"]
    data = corpora[0] if len(corpora) == 1 else next((a for a in corpora if a.label == chosen["data"]), None)
    if data is None:
        raise UserError(
            f"The search chose the data {chosen['data']}, which {job.stage} does not have.",
            f"Add it to the data in the inputs of {job.stage}, by the name that the search has for it.",
        )
    learns = f" on {data.label}" if len(corpora) > 1 else ""
    _LOG.info("%s/%s: %s%s, as the search chose", job.stage, job.name, chosen["shape"], learns)
    return config, data


def _begun_with(job: Job[TrainConfig], config: TrainConfig, data: Artifact) -> Job[TrainConfig]:
    """Check that a resumed training keeps its original shape and data; a repeated search may choose differently.

    Returns the job with only those earlier outputs that were made with the same choice.
    """
    taken = {"model": canonical(config.model), "data": data.label}
    if _taken(job.out) not in (None, taken):
        raise UserError(
            f"The search ran again and chose differently than when {job.stage}/{job.name} began; its checkpoints "
            f"are of the earlier choice.",
            f"Remove {job.out} to begin again with the new choice.",
        )
    write_json(job.out / TAKEN, taken)
    return replace(job, resumable_from=[folder for folder in job.resumable_from if _taken(folder) == taken])


def _taken(folder: Path) -> dict[str, Any] | None:
    path = folder / TAKEN
    return dict(read_json(path)) if path.exists() else None


def _inputs(stage: Stage, member: int) -> Mapping[str, Sequence[Input]] | None:
    """Return a member's inputs, including the model to start from: the model of its number, or the only one."""
    starts = stage.input_tasks("start")
    inputs = {"data": stage.input_tasks("data"), **teacher_inputs(stage, stage.config, member)}
    if stage.config.from_search:
        inputs["choice"] = stage.input_tasks("choice")
    if not starts:
        return inputs
    if stage.config.init_from or stage.config.start.layers:
        other = "init_from" if stage.config.init_from else "start.layers"
        raise UserError(
            f"{stage.name} has models to start from and {other}.",
            "Keep one of them, and set the other to null or false.",
        )
    if len(starts) not in (1, stage.config.members):
        raise UserError(
            f"{stage.name} has {stage.config.members} members but {len(starts)} models to start from.",
            "Set an equal number of members, or give one model.",
        )
    return {**inputs, "start": [starts[member] if len(starts) > 1 else starts[0]]}


def _start(job: Job[TrainConfig], config: TrainConfig, data: Artifact) -> Path | None:
    """Return the checkpoint to start from, or None."""
    start = job.out / START
    if config.start.layers:
        return start_from_layers(job, config, data, start)
    if job.inputs.get("start"):
        files = start_files(str(job.one("start").path), 1)
    elif config.init_from:
        checkpoint, *dictionaries = job.files
        files = (checkpoint, dictionaries[0], dictionaries[-1])
        if any(job.hash_file(path) != known for path, known in job.files.items()):
            raise UserError(f"{checkpoint} has changed since the run was planned.", "Plan it again with `kd run`.")
    else:
        return None
    if not start.is_file():
        prepare_start(files, data.path / DICTIONARY, config.model, start)
    return start


def _largest_cell(task: Task, known: Known) -> ModelConfig:
    """Return the largest shape of the search whose choice a task reads."""
    (choice,) = [item.task for item in task.inputs["choice"]]
    return max(known.models(item.task for item in choice.inputs["cells"]), key=known.parameters)
