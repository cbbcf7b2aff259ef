"""The teachers of a training: token distributions (`student.distill`) and layers to start from (`student.start`).

Shared by the kinds that train and by `soften`, which computes the distributions once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.engines.fairseq.layers import prepare_layers
from kd.engines.fairseq.start import start_files
from kd.models.files import DICTIONARY, SOURCE_DICTIONARY
from kd.models.known import Known, Text
from kd.models.matching import read_dictionary
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import TaskWork
from kd.pipeline.model import Artifact, Input, Job, Role, Stage, Task
from kd.recipe.schema import DistillConfig, FinetuneConfig, ModelConfig, TrainConfig
from kd.stages.asking import converted_of, teacher_of

_LOG = logging.getLogger(__name__)

TEACHERS, DISTRIBUTIONS = "teachers", "distributions"  # roles
ROLES = {
    TEACHERS: Role(many=True, optional=True),  # models, by member
    DISTRIBUTIONS: Role(many=True, optional=True),  # of `soften`, in place of what teachers compute in each update
}
_SAME = (
    "width",
    "ffn",
    "heads",
    "pre_norm",
    "activation",
    "tie_embeddings",
)  # as in the teacher whose layers are taken


@dataclass(frozen=True)
class Lessons:
    """The source of the teachers' distributions: checkpoints or stored ones; both are empty if unused."""

    teachers: tuple[Path, ...] = ()
    distributions: tuple[Path, ...] = ()
    parameters: int = 0  # of the teachers in memory during training


def check_learning(config: TrainConfig) -> None:
    """Raise UserError for settings of `distill` or `start` that contradict each other."""
    distill, start = config.distill, config.start
    if distill.end_alpha is not None and distill.end_updates < 1:
        raise UserError(
            f"distill.end_alpha is {distill.end_alpha}, but distill.end_updates is {distill.end_updates}.",
            "Set distill.end_updates to the update at which alpha reaches it.",
        )
    if distill.stored and not learns_words(config):
        raise UserError(
            "distill.stored is true and distill.alpha is 0, so distributions would be computed but not learnt.",
            "Set student.distill.stored=false, or student.distill.alpha=0.5.",
        )
    if start.layers and config.init_from:
        raise UserError("start.layers and init_from are both set.", "Set start.layers=false or init_from=null.")


def learns_words(config: TrainConfig) -> bool:
    """Return whether a training uses its teachers' distributions."""
    return bool(config.distill.alpha or config.distill.end_alpha)


def learning_identity(config: TrainConfig, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the identity of a training without the settings of `distill` and `start` that are off."""
    off = {"distill": not learns_words(config), "start": not config.start.layers}
    return {key: value for key, value in identity.items() if not off.get(key)}


def teacher_inputs(stage: Stage, config: TrainConfig, member: int) -> dict[str, Sequence[Input]]:
    """Return the teachers or distributions that one member of a training reads.

    Args:
        stage: The training stage.
        config: Settings of the training.
        member: Number of the member, from 0; it starts from the teacher of the same number, beginning again after the
            last.

    Raises:
        UserError: if there are no teachers, or they cannot teach this student.
    """
    teachers = stage.input_tasks(TEACHERS)
    found: dict[str, Sequence[Input]] = {}
    if learns_words(config):
        found[DISTRIBUTIONS] = _stored(stage)
        if not found[DISTRIBUTIONS]:
            check_teachers(stage)
            found[TEACHERS] = first_members(teachers, config.distill.members, f"{_key(stage)}.distill.members")
    if config.start.layers:
        _check_start(stage, config)
        first = [teachers[member % len(teachers)]]
        known = found.get(TEACHERS, [])
        found[TEACHERS] = [*known, *(item for item in first if item not in known)]
    return {role: inputs for role, inputs in found.items() if inputs}


def start_identity(stage: Stage, config: TrainConfig, member: int) -> dict[str, Any]:
    """Return the part of a member's identity that describes its start from layers; empty without one."""
    if not config.start.layers:
        return {}
    teachers = stage.input_tasks(TEACHERS)
    identity, _ = identity_and_extent(config.start)
    rate = started(config).optimizer.learning_rate
    return {"start": {**identity, "learning_rate": rate, "teacher": teachers[member % len(teachers)].task.name}}


def first_members(teachers: list[Input], members: int, key: str) -> list[Input]:
    """Return the first members of an ensemble, or all of them for 0.

    Raises:
        UserError: if there are fewer; `key` is the setting for the message.
    """
    if not 0 <= members <= len(teachers):
        there = "is 1 teacher" if len(teachers) == 1 else f"are {len(teachers)} teachers"
        raise UserError(
            f"{key} is {members}, but there {there}.",
            f"Set {key} between 1 and {len(teachers)}, or to 0 for all.",
        )
    return teachers[:members] if members else teachers


def _stored(stage: Stage) -> list[Input]:
    """Return the distributions stored for the stage's data; empty if it has several corpora."""
    data = {item.task.full_name for item in stage.input_tasks("data")}
    found = [
        item
        for item in stage.input_tasks(DISTRIBUTIONS)
        if {each.task.full_name for each in item.task.inputs["data"]} <= data
    ]
    return found if len(data) == 1 else []


def check_teachers(stage: Stage) -> None:
    """Raise UserError unless a stage has teachers that can compute distributions for its data in each update."""
    off = f"{_key(stage)}.distill.alpha=0"
    stored = f"{_key(stage)}.distill.stored=true {_key(stage)}.distill.top=8"
    _check_one_pair(stage, "learns token distributions in each update", off, stored)
    tagged = [data.name for _, data in stage.inputs["data"] if getattr(data.config, "tags", False)]
    if tagged:
        raise UserError(
            f"{stage.name} learns token distributions in each update for the sources of {tagged[0]}, whose language "
            f"tags its teachers do not have.",
            f"Set {stored}.",
        )


def check_softened(stage: Stage) -> None:
    """Raise UserError unless there are teachers for each language pair of the data, all with distributions to store."""
    _refuse_text_alone(
        stage, "stores the token distributions of teachers", "student.distill.alpha=0 student.distill.stored=false"
    )
    pairs = {str(teacher.axis) for _, teacher in stage.inputs[TEACHERS]}
    wanted = {pair for _, data in stage.inputs["data"] for pair in data.axis_values()}
    if len(wanted) > 1 and (missing := sorted(wanted - pairs)):
        raise UserError(
            f"{stage.name} has no teachers of {', '.join(missing)}, whose sentences are among its data.",
            f"Set student.distill.alpha=0 and student.distill.stored=false, or add them to "
            f"chain.{stage.spec.name}.inputs.teachers.",
        )


def _check_one_pair(stage: Stage, purpose: str, off: str, several: str = "") -> None:
    """Raise UserError for a stage without teachers, or with teachers of several language pairs.

    Args:
        stage: The stage.
        purpose: The use of the teachers, for the message.
        off: The setting that switches this use off.
        several: The settings to propose for several language pairs; `off` if empty.
    """
    if not stage.inputs.get(TEACHERS):
        raise UserError(
            f"{stage.name} {purpose}, but has no teachers.",
            f"Set {off}, or chain.{stage.spec.name}.inputs.teachers to a stage of models.",
        )
    _refuse_text_alone(stage, purpose, off)
    pairs = sorted({str(teacher.axis) for _, teacher in stage.inputs[TEACHERS]})
    if len(pairs) > 1:
        raise UserError(
            f"{stage.name} {purpose}, but its teachers are of several language pairs ({', '.join(pairs)}).",
            f"Set {several or off}.",
        )


def _refuse_text_alone(stage: Stage, purpose: str, off: str) -> None:
    """Raise UserError if a teacher is behind a server or of Hugging Face, since it returns only text."""
    if found := teacher_of(stage, TEACHERS):
        raise UserError(
            f"{stage.name} {purpose}, but teachers.{found[0]} is behind a server, which returns only text.",
            f"Set {off}.",
        )
    if found := converted_of(stage):
        raise UserError(
            f"{stage.name} {purpose}, and teachers.{found[0]} is translated by CTranslate2, which returns only text.",
            f"Set {off}.",
        )


def _key(stage: Stage) -> str:
    """Return the recipe's key for the settings of a training."""
    if isinstance(stage.config, FinetuneConfig):
        return "finetune"
    return "teacher" if stage.spec.name == "teacher" else "student"


def _check_start(stage: Stage, config: TrainConfig) -> None:
    """Raise UserError, before anything runs, if a teacher still to be trained has a different width or blocks."""
    off = f"{_key(stage)}.start.layers=false"
    _check_one_pair(stage, "starts from layers of a teacher", off)
    if config.from_search:
        return  # the shape is not known yet
    for _, teacher in stage.inputs[TEACHERS]:
        if not isinstance(teacher.config, TrainConfig):
            continue  # trained elsewhere: its checkpoint is checked when the training begins
        for name in _SAME:
            theirs, ours = getattr(teacher.config.model, name), getattr(config.model, name)
            if theirs != ours:
                raise UserError(
                    f"{stage.name} starts from layers of {teacher.name}, but model.{name} is {ours} here and {theirs} "
                    "there.",
                    f"Set {_key(stage)}.model.{name}={theirs}, or {off}.",
                )


def forward_flops(models: Sequence[ModelConfig], text: Text, known: Known) -> float | None:
    """Return the FLOPs of the mean distribution of models for one target token; None if lengths are unknown."""
    costs = [known.training_flops(model, text) for model in models]
    # The forward pass is a third of training.
    return sum(cost for cost in costs if cost is not None) / 3 if models and None not in costs else None


def with_teachers(work: TaskWork, task: Task, config: TrainConfig, text: Text, known: Known) -> TaskWork:
    """Add the work of live teachers to the forecast of a training."""
    if not learns_words(config) or task.inputs.get(DISTRIBUTIONS):
        return work
    updates, *rest = work.work
    more = forward_flops(known.models(item.task for item in task.inputs.get(TEACHERS, [])), text, known)
    cost = None if updates.cost is None or more is None else updates.cost + more
    return replace(work, work=(replace(updates, cost=cost), *rest))


def lessons(job: Job[Any], distill: DistillConfig, data: Artifact) -> Lessons:
    """Return the distributions that a training reads.

    Raises:
        UserError: if a teacher's vocabulary differs from that of the data.
    """
    if not (distill.alpha or distill.end_alpha):
        return Lessons()
    if stored := job.inputs.get(DISTRIBUTIONS):
        return Lessons(distributions=tuple(artifact.path for artifact in stored))
    teachers = job.inputs[TEACHERS][: distill.members or None]  # without one that is only the start
    require_vocabulary(teachers, data)
    return Lessons(
        teachers=tuple(start_files(str(artifact.path), 1)[0] for artifact in teachers),
        parameters=sum(int(artifact.manifest["facts"].get("parameters", 0)) for artifact in teachers),
    )


def require_vocabulary(teachers: Sequence[Artifact], data: Artifact) -> None:
    """Raise UserError if a teacher's source or target vocabulary differs from that of the data."""
    wanted = read_dictionary(data.path / DICTIONARY)
    for teacher in teachers:
        for path in (teacher.path / DICTIONARY, teacher.path / SOURCE_DICTIONARY):
            if path.is_file() and read_dictionary(path) != wanted:
                raise UserError(
                    f"{teacher.stage}/{teacher.task} has another vocabulary than {data.stage}, but token "
                    f"distributions need the same vocabulary.",
                    "Encode the student's data with the teachers' vocabulary, or set student.distill.alpha=0.",
                )


def started(config: TrainConfig) -> TrainConfig:
    """Return the settings, with the learning rate of a start from layers if there is one."""
    if not config.start.layers:
        return config
    rate = config.start.learning_rate or config.optimizer.learning_rate
    return replace(config, optimizer=replace(config.optimizer, learning_rate=rate))


def start_from_layers(job: Job[Any], config: TrainConfig, data: Artifact, out: Path) -> Path | None:
    """Return the checkpoint that a member starts from, written if missing; None for random weights."""
    if not config.start.layers:
        return None
    if out.is_file():
        return out
    teachers = job.inputs[TEACHERS]
    name = job.identity["start"]["teacher"]
    teacher = next(artifact for artifact in teachers if artifact.task == name)
    files = start_files(str(teacher.path), 1)
    told = prepare_layers(files, data.path / DICTIONARY, config.model, config.start, out)
    _LOG.info("%s/%s: %s", job.stage, job.name, told)
    return out
