"""Average: make a new model from the kept checkpoints of a training (Vaswani et al., 2017, section 6.1).

A training averages checkpoints at its end; this stage averages other checkpoints without training again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from kd.base.errors import UserError
from kd.base.estimate import Estimate
from kd.base.records import plain
from kd.corpora.index import read_json, write_json
from kd.engines.fairseq import checkpoints
from kd.engines.fairseq.checkpoints import Checkpoint
from kd.models.files import SUMMARY, WEIGHTS
from kd.models.folder import ModelFolder
from kd.models.known import Known
from kd.models.systems import system_of
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import StageForecast, TaskWork, Work
from kd.pipeline.model import Artifact, Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import AverageConfig, Metric, Which
from kd.recipe.schema.running import SystemRole


class Average(Kind[AverageConfig]):
    """Average kept checkpoints."""

    name = "average"
    version = 1
    config = AverageConfig
    roles: ClassVar = {"models": Role()}
    role = SystemRole.student.value  # unless declared: that of the model
    resources = "cpu"

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task per model, with the same name as the training's task."""
        identity, extent = identity_and_extent(stage.config)
        for item in stage.input_tasks("models"):
            system = replace(system_of(item), label=stage.spec.name)
            if stage.spec.role:
                system = replace(system, role=SystemRole(stage.spec.role))
            yield TaskSpec(item.task.name, identity, extent, inputs={"models": [item]}, subject=plain(system))

    def run(self, job: Job[AverageConfig]) -> None:
        """Choose the checkpoints and write a model folder as a training does."""
        from kd.engines.fairseq.average import average

        model = job.one("models")
        chosen = _chosen(model, job.config)
        average([each.path for each in chosen], job.out / WEIGHTS)
        ModelFolder.open(model.path).copy(job.out, weights=False)
        before = read_json(model.path / SUMMARY)
        write_json(job.out / SUMMARY, {**before, "averaged": [each.path.name for each in chosen]})

    def check(self, job: Job[AverageConfig]) -> Summary:
        """Load the model."""
        from kd.engines.fairseq.model import count_parameters, load_models

        summary = read_json(job.out / SUMMARY)
        (model,), _ = load_models([job.out])
        validations = job.one("models").manifest["facts"].get("validations", [])
        facts = {**summary, "parameters": count_parameters(model), "validations": validations}
        return Summary({"checkpoints": len(summary["averaged"])}, facts=facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the weights that are read."""
        tasks = {}
        for task in stage.tasks:
            models = known.models(item.task for item in task.inputs["models"])
            cost = float(sum(map(known.parameters, models))) or None
            work = Work(self.name, "checkpoints", Estimate(stage.config.count, "config"), cost)
            kept = known.largest_model(item.task for item in task.inputs["models"])
            tasks[task.name] = TaskWork((work,), kept=kept, models=tuple(models))
        return StageForecast(tasks)


def _chosen(model: Artifact, config: AverageConfig) -> list[Checkpoint]:
    """Return the last or the best checkpoints that the training kept, up to an update."""
    facts, settings = model.manifest["facts"], model.settings
    if "checkpoint" not in settings:
        raise UserError(f"{model.stage} has no checkpoints to average.", "Read from a stage of the kind train.")
    folder, every = model.path / "checkpoints", int(settings["checkpoint"]["every"])
    kept = checkpoints.regular(folder, every, facts["updates"])
    kept = [each for each in kept if not config.upto or each.updates <= config.upto]
    if config.of is Which.best:
        values = {entry["update"]: entry[f"dev_{config.metric.value}"] for entry in facts["validations"]}
        known = [(each.updates, values[each.updates]) for each in kept if values.get(each.updates) is not None]
        ranked = checkpoints.best(known, config.metric is Metric.bleu)
        kept = sorted((each for each in kept if each.updates in ranked), key=lambda each: ranked.index(each.updates))
    if len(kept) < config.count:
        which = f" with a dev {config.metric.value}" if config.of is Which.best else ""
        raise UserError(
            f"count is {config.count}, but {model.stage}/{model.task} kept only {len(kept)} checkpoints{which}.",
            "Lower count, or raise checkpoint.keep of that training.",
        )
    return kept[: config.count]
