"""Choose: select the fastest cell of a search whose quality loss against the best cell is within the limit.

Quality is the mean over seeds on dev, of the exported models. The output has the table, the Pareto front, and doubts
about differences that may be due to chance.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.files import write_text
from kd.base.records import plain, record
from kd.base.text import unknown_name
from kd.corpora.index import read_json, write_json
from kd.metrics.tradeoff import Candidate, Choice, choose, front, precise
from kd.models.known import Known, single_task
from kd.models.systems import system_of
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Artifact, Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import ChooseConfig, SpeedMeasure
from kd.report.search import CellForm, CellScore, Chosen, Search, SearchCell, search_document
from kd.stages.outputs import CHOICE_TABLE, CHOSEN, SCORES, SPEED

_LOG = logging.getLogger(__name__)

METRICS = {"bleu": "BLEU", "chrf": "chrF2", "chrf++": "chrF2++", "comet": "COMET"}  # more is better in all of them
WORDS = {
    SpeedMeasure.one_core: "sentences per second on one core",
    SpeedMeasure.all_cores: "sentences per second on all cores",
    SpeedMeasure.latency: "median latency of a sentence alone",
    SpeedMeasure.latency_p99: "99th percentile of the latency of a sentence alone",
}
Point = tuple[str, str]  # cell and format


class Choose(Kind[ChooseConfig]):
    """Choose an architecture and its data."""

    name = "choose"
    version = 1
    config = ChooseConfig
    roles: ClassVar = {"cells": Role(), "exports": Role(), "scores": Role(), "speeds": Role()}

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task. Raise UserError if the metric or the speed in the rule is not measured."""
        config: ChooseConfig = stage.config
        formats = {str(system_of(item).format) for item in stage.input_tasks("exports")}
        if config.format not in formats:
            raise unknown_name("format that is exported (search.choose.format)", config.format, formats)
        for _, other in stage.inputs["scores"]:
            if not other.config.metrics.get(config.metric):
                raise UserError(
                    f"search.choose.metric is {config.metric}, which {other.name} does not score.",
                    f"Set evaluate.metrics.{config.metric}=true.",
                )
        for _, other in stage.inputs["speeds"]:
            if config.speed is SpeedMeasure.all_cores and not other.config.all_cores:
                raise UserError(
                    f"search.choose.speed is {config.speed.value}, which {other.name} does not measure.",
                    "Set evaluate.speed.all_cores=true, or search.choose.speed=one_core.",
                )
        identity, extent = identity_and_extent(config)
        yield TaskSpec("all", identity, extent)

    def run(self, job: Job[ChooseConfig]) -> None:
        """Join scores and speeds, and apply the rule."""
        search = _search(job)
        write_json(job.out / CHOSEN, plain(search))
        write_text(job.out / CHOICE_TABLE, search_document(search).markdown())
        for line in (search.rule, *search.doubts):
            _LOG.info("%s: %s", job.stage, line)

    def check(self, job: Job[ChooseConfig]) -> Summary:
        """Check that the choice is one of the cells."""
        search: Search = record(Search, read_json(job.out / CHOSEN), CHOSEN)
        if search.chosen.name not in {cell.name for cell in search.cells}:
            raise IncompleteArtifact(f"{job.out / CHOSEN} chose none of its cells.")
        facts = {"note": f"{search.chosen.name} of {len(search.cells)}", "chosen": plain(search.chosen)}
        return Summary({"cells": len(search.cells)}, facts=facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the tasks by their number."""
        return single_task(stage, allowance=1e6)


def _search(job: Job[ChooseConfig]) -> Search:
    config, evaluation = job.config, read_json(job.one("scores").path / SCORES)
    measured = read_json(job.one("speeds").path / SPEED)
    cells = [_cell(*each) for each in _by_cell(job, evaluation["scores"], measured["systems"]).items()]
    metric = _metric_name(config.metric, cells)
    points = {
        (cell.name, form.format): _candidate(cell, form, metric, config.speed, f"{cell.name} {form.format}")
        for cell in cells
        for form in cell.forms
    }
    of_format = [replace(points[each.name, config.format], name=each.name) for each in cells]
    choice = choose(of_format, config.loss_allowed, metric)
    on_front = {each.name for each in front(list(points.values()))}
    cells = [
        replace(cell, forms=[replace(f, on_front=f"{cell.name} {f.format}" in on_front) for f in cell.forms])
        for cell in cells
    ]
    (chosen,) = [cell for cell in cells if cell.name == choice.chosen.name]
    scored = next(iter(evaluation["scores"].values()))
    return Search(
        chosen=Chosen(chosen.name, chosen.shape, chosen.data, chosen.model),
        best=choice.best.name,
        metric=metric,
        speed=config.speed.value,
        format=config.format,
        loss_allowed=config.loss_allowed,
        rule=_rule(config, choice, metric),
        doubts=list(choice.doubts),
        cells=cells,
        held_out=f"{job.axis or ''} dev, {evaluation['segments']:,} segments".strip(),
        signatures={score["metric"]: score["signature"] for score in scored},
        speed_note=measured["note"],
        once_a_shape=len(measured["systems"]) < len(job.inputs["exports"]),
        pair=job.axis or "",
    )


def _by_cell(
    job: Job[ChooseConfig], scores: Mapping[str, Any], speeds: Mapping[str, Any]
) -> dict[tuple[str, str], list[tuple[Artifact, dict[str, Any]]]]:
    """Return the trainings of each shape and data, one per seed, with scores and speed of each exported format."""
    trained = {artifact.reference: artifact for artifact in job.inputs["cells"]}
    by_shape: dict[tuple[str, str], Any] = {}  # of those measured
    exported: dict[str, dict[str, Any]] = {}
    for export in job.inputs["exports"]:
        (model,) = export.manifest["inputs"]["models"]
        system = system_of(export)
        format_ = str(system.format)
        exported.setdefault(model, {})[format_] = scores[system.name]
        if system.name in speeds:
            by_shape.setdefault((trained[model].manifest["facts"]["cell"]["shape"], format_), speeds[system.name])
    found: dict[tuple[str, str], list[tuple[Artifact, dict[str, Any]]]] = {}
    for name, artifact in trained.items():
        facts = artifact.manifest["facts"]["cell"]
        forms = {format_: (each, by_shape[facts["shape"], format_]) for format_, each in exported[name].items()}
        found.setdefault((facts["shape"], facts["data"]), []).append((artifact, forms))
    return found


def _cell(key: tuple[str, str], seeds: list[tuple[Artifact, dict[str, Any]]]) -> SearchCell:
    facts = seeds[0][0].manifest["facts"]
    formats = list(seeds[0][1])
    return SearchCell(
        name="-".join(key),
        shape=key[0],
        data=key[1],
        model=facts["cell"]["model"],
        parameters=facts["parameters"],
        seeds=[artifact.manifest["facts"]["cell"]["seed"] for artifact, _ in seeds],
        updates=facts["updates"],
        forms=[_form(format_, [forms[format_] for _, forms in seeds]) for format_ in formats],
    )


def _form(format_: str, seeds: list[tuple[list[dict[str, Any]], dict[str, Any]]]) -> CellForm:
    """Return the scores of all seeds, and the speed of the first seed; others are not measured."""
    speed = seeds[0][1]
    latency, everywhere = speed.get("latency_ms") or {}, speed.get("all_cores") or {}
    return CellForm(
        format=format_,
        scores=[_score([dict(found[i]) for found, _ in seeds]) for i in range(len(seeds[0][0]))],
        sentences_per_second=speed.get("sentences_per_second"),
        sentences_per_second_all_cores=everywhere.get("sentences_per_second"),
        latency_ms=latency.get("median"),
        latency_p99_ms=latency.get("p99"),
        memory_megabytes=speed.get("memory_megabytes"),
        megabytes=speed.get("megabytes"),
    )


def _score(found: list[dict[str, Any]]) -> CellScore:
    values = [float(each["value"]) for each in found]
    spread = statistics.stdev(values) if len(values) > 1 else None
    return CellScore(found[0]["metric"], values, statistics.fmean(values), spread)


def _metric_name(metric: str, cells: list[SearchCell]) -> str:
    """Return a metric's name in the scores: COMET is named COMET-QE if its model reads no reference."""
    names = [score.metric for score in cells[0].forms[0].scores]
    return next(name for name in names if name == METRICS[metric] or (metric == "comet" and name.startswith("COMET")))


def _candidate(cell: SearchCell, form: CellForm, metric: str, measure: SpeedMeasure, name: str) -> Candidate:
    score = form.score(metric)
    assert score is not None
    speed = {
        SpeedMeasure.one_core: form.sentences_per_second,
        SpeedMeasure.all_cores: form.sentences_per_second_all_cores,
        SpeedMeasure.latency: form.latency_ms and 1000 / form.latency_ms,
        SpeedMeasure.latency_p99: form.latency_p99_ms and 1000 / form.latency_p99_ms,
    }[measure]
    if speed is None:
        raise UserError(
            f"search.choose.speed is {measure.value} ({WORDS[measure]}), which was not measured.",
            "Set search.choose.speed=one_core, or measure on several cores, with evaluate.speed.all_cores=true.",
        )
    return Candidate(name, tuple(score.values), speed, cell.parameters)


def _rule(config: ChooseConfig, choice: Choice, metric: str) -> str:
    """Return the rule and its outcome as a sentence."""
    best, chosen = choice.best, choice.chosen
    rule = (
        f"The best cell in {config.format} is {best.name} with {precise(best.mean, metric)} {metric} (mean over seeds, "
        f"dev). Of those that lose no more than {config.loss_allowed:g} {metric} against it, the fastest by "
        f"{WORDS[config.speed]} is chosen (ties go to the better cell, then to the smaller one): {chosen.name}"
    )
    return f"{rule}, with {precise(chosen.mean, metric)} {metric}." if chosen.name != best.name else f"{rule} itself."
