"""Given models: uses models that were trained elsewhere, fairseq checkpoints or folders of other runs, as teachers.

Each member is a task. Its output has the layout of a training's, so that every later stage can use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from kd.base.errors import UserError
from kd.base.hashing import sha256
from kd.corpora.index import read_json, write_json
from kd.engines.fairseq.given import import_model
from kd.engines.loading import check_translates
from kd.models.files import SUMMARY
from kd.models.folder import ModelFolder
from kd.models.known import Known, single_task
from kd.models.systems import trained_model
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Job, Kind, Stage, Summary, TaskSpec
from kd.recipe.schema import GivenModelConfig, GivenModelsConfig
from kd.recipe.schema.running import SystemRole


class GivenModels(Kind[GivenModelsConfig]):
    """Imports models."""

    name = "given_models"
    version = 1
    config = GivenModelsConfig
    imports = ("torch", "fairseq")
    needs_models = True
    role = SystemRole.teacher.value
    resources = "cpu"

    def validate(self, config: GivenModelsConfig) -> None:
        """Check that every member is either a checkpoint with its vocabulary or a folder."""
        if not config.members:
            raise UserError("given_models.members is empty.", "Name a member with its checkpoint or folder.")
        for name, member in config.members.items():
            where = f"given_models.members.{name}"
            if not re.fullmatch(r"\w+", name) or name == "ensemble":
                raise UserError(f"A member cannot be called {name!r}.", "Use letters, digits and _.")
            if bool(member.checkpoint) == bool(member.folder):
                raise UserError(
                    f"{where} must have either a checkpoint or a folder.", f"Set {where}.checkpoint or {where}.folder."
                )
        if any(member.checkpoint for member in config.members.values()):
            _check_vocabulary(config)

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task per member, identified by the content of its files."""
        config: GivenModelsConfig = stage.config
        for name, member in config.members.items():
            files = partial(_files, config, member, stage.axis_value)
            subject = trained_model(stage, name if len(config.members) > 1 else None)
            yield TaskSpec(f"member-{name}", {}, files=files, subject=subject)

    def run(self, job: Job[GivenModelsConfig]) -> None:
        """Write the model folder."""
        member = job.config.members[job.name.removeprefix("member-")]
        given = _given(job.config, member, job.axis_value)
        for path in given.files:
            if not path.is_file() or sha256(path) != job.files.get(path):
                raise UserError(f"{path} has changed since the run was planned.", "Plan it anew by `kd run`.")
        job.progress.update("reading the checkpoint")
        updates = import_model(given, job.out)
        # The summary of a training.
        summary = {"updates": updates or None, "averaged": [given.weights.name], "target_tokens": None}
        write_json(job.out / SUMMARY, {**summary, "batch": "", "notes": ["trained elsewhere"]})

    def check(self, job: Job[GivenModelsConfig]) -> Summary:
        """Load the model and translate a word."""
        from kd.engines.fairseq.model import count_parameters, load_models

        (model,), _ = load_models([job.out])
        check_translates(job.out)
        facts = {**read_json(job.out / SUMMARY), "parameters": count_parameters(model), "validations": []}
        return Summary({"parameters": facts["parameters"]}, facts=facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the tasks by their number."""
        return single_task(stage)


def _check_vocabulary(config: GivenModelsConfig) -> None:
    if not config.vocabulary:
        raise UserError("given_models.vocabulary is missing.", "Set it to the sentencepiece model of the checkpoints.")
    sides = [config.source_dictionary, config.target_dictionary]
    if not config.dictionary and not all(sides):
        raise UserError(
            "given_models has checkpoints without a dictionary.",
            "Set given_models.dictionary, or source_dictionary and target_dictionary.",
        )
    if config.dictionary and any(sides):
        raise UserError(
            "given_models.dictionary is for both sides, but source_dictionary or target_dictionary is set as well.",
            "Set given_models.dictionary, or source_dictionary and target_dictionary.",
        )


def _files(config: GivenModelsConfig, member: GivenModelConfig, languages: Mapping[str, str]) -> Sequence[Path]:
    return _given(config, member, languages).files


def _given(config: GivenModelsConfig, member: GivenModelConfig, languages: Mapping[str, str]) -> ModelFolder:
    def path(pattern: str | None) -> Path:
        # Not str.format: a path may hold braces of its own.
        text = str(pattern)
        for side, code in languages.items():
            text = text.replace(f"{{{side}}}", code)
        return Path(config.root or ".", Path(text).expanduser())

    if member.folder:
        return ModelFolder.open(path(member.folder))
    return ModelFolder.of_files(
        path(member.checkpoint),
        path(config.vocabulary),
        path(config.target_dictionary or config.dictionary),
        path(config.source_dictionary or config.dictionary),
    )
