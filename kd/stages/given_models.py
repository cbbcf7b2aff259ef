"""Given models: use models that were trained elsewhere as teachers.

They are fairseq checkpoints, folders of other runs, Hugging Face models (converted to CTranslate2), or language models
behind a server, to which this stage sends no requests. Each model is a task whose output is a model folder
like that of a training, so every later stage can use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import UserError
from kd.base.hashing import sha256
from kd.corpora.heldout import read_heldout
from kd.corpora.index import read_json, write_json
from kd.engines.converted import convert, is_hugging_face
from kd.engines.ctranslate2 import COMPUTE_TYPES
from kd.engines.endpoint import description
from kd.engines.fairseq.given import import_model
from kd.engines.fairseq.language_tokens import Direction
from kd.engines.loading import check_translates
from kd.models.description import ENDPOINT
from kd.models.files import SUMMARY
from kd.models.folder import ModelFolder
from kd.models.known import Known, single_task
from kd.models.languages import primary
from kd.models.moses_bpe import Segmentation
from kd.models.systems import trained_model
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import EndpointConfig, GivenModelConfig, GivenModelsConfig, TeacherEngine
from kd.recipe.schema.running import SystemRole

_UNSET = EndpointConfig()


class GivenModels(Kind[GivenModelsConfig]):
    """Import models."""

    name = "given_models"
    version = 2  # the pair and the names of languages count
    config = GivenModelsConfig
    imports = ("torch", "fairseq")
    needs_models = True
    roles: ClassVar = {"held_out": Role(optional=True)}  # its dev has the examples of prompts
    role = SystemRole.teacher.value
    resources = "cpu"

    def validate(self, config: GivenModelsConfig) -> None:
        """Check that every teacher names one model, and that checkpoints have a vocabulary."""
        if not config.members:
            raise UserError("teachers is empty.", "Name a teacher with its model: '+teachers.a.model=PATH'.")
        for name, member in config.members.items():
            where = f"teachers.{name}"
            if not re.fullmatch(r"\w+", name) or name == "ensemble":
                raise UserError(f"A member cannot be called {name!r}.", "Use letters, digits and _.")
            if sum(map(bool, (member.model, member.checkpoint, member.folder))) != 1:
                raise UserError(f"{where} must name exactly one model.", f"Set {where}.model.")
            if member.compute_type not in COMPUTE_TYPES:
                raise UserError(
                    f"{where}.compute_type is {member.compute_type!r}.", f"Use one of {', '.join(COMPUTE_TYPES)}."
                )
            if member.engine is not TeacherEngine.ctranslate2 and member.prefix:
                engine = member.engine.value
                raise UserError(f"{where}.prefix has no effect with engine {engine}.", f"Leave out {where}.prefix.")
            _check_endpoint(name, member)
        if any(_is_checkpoint(member) for member in config.members.values()):
            _check_vocabulary(config)

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task per member, identified by the content of its files."""
        config: GivenModelsConfig = stage.config
        identity, _ = identity_and_extent(config)
        pair = {side: code for side, code in stage.axis_value.items() if side in ("source", "target")}
        for name, member in config.members.items():
            subject = trained_model(stage, name if len(config.members) > 1 else None)
            if _is_endpoint(member):
                yield _endpoint_task(stage, name, member, {**pair, "model": member.model}, subject)
                continue
            files = partial(_files, config, member, stage.axis_value)
            own, _ = identity_and_extent(member)
            yield TaskSpec(f"member-{name}", {**identity, **pair, **own}, inputs={}, files=files, subject=subject)

    def run(self, job: Job[GivenModelsConfig]) -> None:
        """Write the model folder."""
        name = job.name.removeprefix("member-")
        member = job.config.members[name]
        if _is_endpoint(member):
            _describe(job, name, member)
            return
        for path in _files(job.config, member, job.axis_value):
            if not path.is_file() or sha256(path) != job.files.get(path):
                raise UserError(f"{path} has changed since the run was planned.", "Plan it again with `kd run`.")
        if _is_converted(member):
            _convert(job, member)
            return
        given = _given(job.config, member, job.axis_value)
        job.progress.update("reading the checkpoint")
        updates = import_model(given, job.out, _direction(job.config, job.axis_value))
        _write_summary(job, updates or None, given.weights.name)

    def check(self, job: Job[GivenModelsConfig]) -> Summary:
        """Load the model and translate a word."""
        from kd.engines.fairseq.model import count_parameters, load_ensemble

        summary = read_json(job.out / SUMMARY)
        if ModelFolder.open(job.out).engine == ENDPOINT:
            endpoint = description.Endpoint.open(job.out)
            note = f"{endpoint.model} at {endpoint.settings.url}, not asked yet"
            return Summary({"examples": len(endpoint.examples)}, facts={**summary, "validations": [], "note": note})
        if "parameters" not in summary:
            (model,) = load_ensemble([job.out]).models
            summary["parameters"] = count_parameters(model)
        check_translates(job.out)
        facts = {**summary, "validations": []}
        return Summary({"parameters": facts["parameters"]}, facts=facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the tasks by their number."""
        return single_task(stage)


def _is_converted(member: GivenModelConfig) -> bool:
    return member.engine is TeacherEngine.ctranslate2


def _is_endpoint(member: GivenModelConfig) -> bool:
    return member.engine is TeacherEngine.endpoint


def _is_checkpoint(member: GivenModelConfig) -> bool:
    """Return whether a teacher is a checkpoint of fairseq, not a folder."""
    return bool(member.checkpoint) or (member.engine is TeacherEngine.fairseq and str(member.model).endswith(".pt"))


# --- behind a server -------------------------------------------------------------------------------------------------


def _check_endpoint(name: str, member: GivenModelConfig) -> None:
    """Raise UserError for settings of an endpoint that cannot work, or that the teacher's engine does not read."""
    if _is_endpoint(member):
        description.check(name, member.model, member)
        return
    given = EndpointConfig(**{each.name: getattr(member, each.name) for each in fields(EndpointConfig)})
    unused = [each.name for each in fields(given) if getattr(given, each.name) != getattr(_UNSET, each.name)]
    if unused:
        key = f"teachers.{name}.{unused[0]}"
        raise UserError(
            f"{key} has no effect with engine {member.engine.value}.",
            f"Set teachers.{name}.engine=endpoint, or leave out {key}.",
        )


def _endpoint_task(
    stage: Stage, name: str, member: GivenModelConfig, identity: dict[str, Any], subject: Mapping[str, Any]
) -> TaskSpec:
    """Return the task that describes an endpoint; it reads the held-out sets only for few-shot examples."""
    own, _ = identity_and_extent(member)
    if member.examples and not stage.inputs.get("held_out"):
        raise UserError(
            f"teachers.{name}.examples is {member.examples}, but {stage.name} reads no held-out sets.",
            f"Set chain.{stage.spec.name}.inputs.held_out to the stage that draws dev.",
        )
    inputs = {"held_out": stage.input_tasks("held_out")} if member.examples else {}
    return TaskSpec(f"member-{name}", {**identity, **own}, inputs=inputs, subject=subject)


def _describe(job: Job[GivenModelsConfig], name: str, member: GivenModelConfig) -> None:
    direction = _direction(job.config, job.axis_value)
    languages = (str(direction.source), str(direction.target))
    examples: tuple[tuple[str, str], ...] = ()
    if member.examples:
        dev = read_heldout(job.one("held_out").path, str(job.axis), "dev")
        examples = description.draw_examples([(pair.source, pair.target) for pair in dev], member.examples)
    settings = EndpointConfig(**{each.name: getattr(member, each.name) for each in fields(EndpointConfig)})
    description.Endpoint(name, str(member.model), settings, languages, examples).write(job.out)
    _write_summary(job, None, str(member.model), 0)


# --- models ----------------------------------------------------------------------------------------------------------


def _convert(job: Job[GivenModelsConfig], member: GivenModelConfig) -> None:
    job.progress.update("converting the model")
    direction = _direction(job.config, job.axis_value)
    model = _path(job.config, str(member.model), job.axis_value)
    parameters = convert(
        model,
        job.out,
        compute_type=member.compute_type,
        languages=(direction.source, direction.target),
        prefix=_filled(member.prefix, job.axis_value),
    )
    _write_summary(job, None, model.name, parameters)


def _write_summary(
    job: Job[GivenModelsConfig], updates: int | None, averaged: str, parameters: int | None = None
) -> None:
    """Write the summary of a training; `parameters`: their number if already counted, 0 if unknown."""
    summary: dict[str, Any] = {"updates": updates, "averaged": [averaged], "target_tokens": None, "batch": ""}
    known = {} if parameters is None else {"parameters": parameters}
    write_json(job.out / SUMMARY, {**summary, **known, "notes": ["trained elsewhere"]})


def _check_vocabulary(config: GivenModelsConfig) -> None:
    if bool(config.vocabulary) == bool(config.codes):
        raise UserError(
            "given_models has both vocabulary and codes."
            if config.codes
            else "given_models has neither vocabulary nor codes.",
            "Set given_models.vocabulary to the sentencepiece model of the checkpoints, or codes to their BPE codes.",
        )
    sides = [config.source_dictionary, config.target_dictionary]
    if not config.dictionary and not all(sides):
        raise UserError(
            "given_models has checkpoints without a dictionary.",
            "Set given_models.dictionary, or source_dictionary and target_dictionary.",
        )
    if config.dictionary and any(sides):
        raise UserError(
            "given_models.dictionary covers both sides, but source_dictionary or target_dictionary is also set.",
            "Set given_models.dictionary, or source_dictionary and target_dictionary.",
        )


def _direction(config: GivenModelsConfig, languages: Mapping[str, str]) -> Direction:
    """Return the languages that multilingual checkpoints translate between, from the settings or the pair."""
    return Direction(
        config.source_language or languages.get("source"),
        config.target_language or languages.get("target"),
        tuple(config.languages.split(",")) if config.languages else (),
        ("given_models.source_language", "given_models.target_language"),
    )


def _files(config: GivenModelsConfig, member: GivenModelConfig, languages: Mapping[str, str]) -> Sequence[Path]:
    if not _is_converted(member):
        return _given(config, member, languages).files
    folder = _path(config, str(member.model), languages)
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder}.",
            f"Download the Hugging Face model, by its name on the hub: `hf download NAME --local-dir {folder}`.",
        )
    return sorted(path for path in folder.iterdir() if path.is_file())


def _path(config: GivenModelsConfig, pattern: str | None, languages: Mapping[str, str]) -> Path:
    return Path(config.root or ".", Path(_filled(str(pattern), languages)).expanduser())


def _filled(text: str, languages: Mapping[str, str]) -> str:
    # Not str.format: a path may hold braces of its own.
    for side, code in languages.items():
        text = text.replace(f"{{{side}}}", str(code))
    return text


def _given(config: GivenModelsConfig, member: GivenModelConfig, languages: Mapping[str, str]) -> ModelFolder:
    path = partial(_path, config, languages=languages)
    weights = path(member.model or member.checkpoint or member.folder)
    if not _is_checkpoint(member):
        if is_hugging_face(weights):
            raise UserError(f"{weights} is a Hugging Face model.", "Set the teacher's `engine: ctranslate2`.")
        return ModelFolder.open(weights)
    return ModelFolder.of_files(
        weights,
        path(config.vocabulary or config.codes),
        path(config.target_dictionary or config.dictionary),
        path(config.source_dictionary or config.dictionary),
        _segmentation(config, languages) if config.codes else None,
    )


def _segmentation(config: GivenModelsConfig, languages: Mapping[str, str]) -> Segmentation:
    source, target = (primary(str(languages.get(side) or "en")) for side in ("source", "target"))
    return Segmentation(config.moses, source, target, config.moses_escape, config.moses_dashes)
