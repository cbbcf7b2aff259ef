"""Evaluate: scores of every system on the test set, with signatures, and whether differences are more than luck.

Every system is compared with the baseline, by default the control, on the same resampled test sets; what averages hide
(empty, copied, runaway output, lost numbers …) is counted beside them. `kd evaluate` does the same to any files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from kd.config import EvaluateConfig
from kd.corpora.guards import Guards
from kd.corpora.guards import validate as validate_guards
from kd.corpora.heldout import read_heldout
from kd.corpora.index import read_json, write_json
from kd.corpora.lines import open_lines
from kd.errors import IncompleteArtifact, UserError
from kd.metrics.comet import REFERENCES, Comet, CometScores, find_checkpoint, hparams_file
from kd.metrics.corpus import Options, corpus_scores
from kd.metrics.judge import judge
from kd.metrics.score_cache import ScoreCache, default_folder
from kd.metrics.segments import segment_scores, weaknesses, worst
from kd.metrics.significance import Resampling, Significance
from kd.pipeline.contract import Draft, Job, Kind, Role, Summary
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.plan import Stage, unknown
from kd.stages.outputs import HYPOTHESES, SCORES, WEAKNESSES

COMET = "comet"


class Evaluate(Kind[EvaluateConfig]):
    """Scores translations."""

    name = "evaluate"
    version = 2  # 2: BLEU's tokeniser follows the target language; weaknesses are counted
    config = EvaluateConfig
    roles: ClassVar = {"held_out": Role(), "translations": Role(many=True)}
    resources = "cpu"

    def validate(self, config: EvaluateConfig) -> None:
        """There are such metrics and guards, and COMET has a model."""
        validate_guards(config.guards)
        corpus_scores(["a"], [["a"]], _metrics(config), Options(config.tokenize))
        if config.bootstrap:
            _resampling(config, 1)
        if config.metrics.get(COMET):
            if not config.comet.model:
                raise UserError(
                    "evaluate.metrics.comet is true, and there is no model.",
                    "Set evaluate.comet.model to a folder or a name, such as Unbabel/wmt22-comet-da.",
                )
            if config.comet.references not in REFERENCES:
                raise UserError(
                    f"There is no evaluate.comet.references={config.comet.references}.",
                    f"Choose one of: {', '.join(REFERENCES)}.",
                )

    def tasks(self, stage: Stage) -> Iterator[Draft]:
        """One, which depends on the content of COMET's checkpoint where that is a file here."""
        config: EvaluateConfig = stage.config
        systems = [item.task.name for item in stage.input_tasks("translations")]
        if config.baseline is not None and config.bootstrap and config.baseline not in systems:
            error = unknown("system (evaluate.baseline)", config.baseline, systems)
            raise UserError(error.what, f"{error.mend} evaluate.baseline=null compares with none.")
        identity, extent = identity_and_extent(config)
        if config.metrics.get(COMET) and config.comet.model:
            identity = {**identity, "comet model": Path(config.comet.model).name}
        yield Draft("all", identity, extent, files=lambda: _comet_files(config))

    def run(self, job: Job[EvaluateConfig]) -> None:
        """Scores, then resamples, then counts."""
        test = read_heldout(job.one("held_out").path, str(job.axis), "test")
        sources, references = [pair.source for pair in test], [[pair.target for pair in test]]
        systems = {
            artifact.task: list(open_lines(artifact.path / HYPOTHESES)) for artifact in job.inputs["translations"]
        }
        options = Options(job.config.tokenize, str(job.axis_value.get("target") or ""))
        job.progress.update("scoring")
        comet_scores = _comet(job, systems, sources, references)
        baselines = _baselines(job.config, systems)
        plain = judge(systems, references, _metrics(job.config), comet_scores=comet_scores, options=options)
        significance = {}
        for baseline in baselines:
            job.progress.update(f"resampling {job.config.bootstrap} times, against {baseline}")
            found = judge(
                systems,
                references,
                _metrics(job.config),
                comet_scores=comet_scores,
                baseline=baseline,
                resampling=_resampling(job.config, job.threads),
                options=options,
            )
            significance[baseline] = [asdict(item) for item in found]
        scores = {name: [_score(item) for item in plain if item.system == name] for name in systems}
        write_json(job.out / SCORES, {"segments": len(test), "scores": scores, "significance": significance})
        job.progress.update("counting what goes wrong")
        guards = Guards(job.config.guards, str(job.axis_value.get("source") or ""), options.language)
        content = _weaknesses(job.config, systems, sources, references, options, guards, baselines)
        write_json(job.out / WEAKNESSES, content)

    def check(self, job: Job[EvaluateConfig]) -> Summary:
        """Every system has every metric."""
        content, counted = read_json(job.out / SCORES), read_json(job.out / WEAKNESSES)["systems"]
        wanted = len(_metrics(job.config)) + bool(job.config.metrics.get(COMET))
        for artifact in job.inputs["translations"]:
            if len(content["scores"].get(artifact.task, [])) != wanted or artifact.task not in counted:
                raise IncompleteArtifact(f"{job.out} lacks scores of {artifact.task}.")
        return Summary({"segments": content["segments"], "systems": len(content["scores"])})


def _metrics(config: EvaluateConfig) -> list[str]:
    """sacreBLEU's."""
    return [name for name, wanted in config.metrics.items() if wanted and name != COMET]


def _resampling(config: EvaluateConfig, jobs: int) -> Resampling:
    resampling = Resampling(samples=config.bootstrap, seed=config.seed, jobs=jobs)
    resampling.check()
    return resampling


def _baselines(config: EvaluateConfig, systems: Mapping[str, Any]) -> list[str]:
    """The one that all are compared with first."""
    if not config.bootstrap or config.baseline is None:
        return []
    further = [name for name, wanted in config.further_baselines.items() if wanted and name in systems]
    return list(dict.fromkeys([config.baseline, *further]))


def _score(item: Significance) -> dict[str, Any]:
    return {"metric": item.metric, "value": item.value, "signature": item.signature}


def _comet_files(config: EvaluateConfig) -> list[Path]:
    """What a model that is here consists of; none of one that is named."""
    model = config.comet.model
    if not (config.metrics.get(COMET) and model and Path(model).is_absolute()):
        return []
    checkpoint, _ = find_checkpoint(model)
    return [checkpoint, hparams_file(checkpoint)]


def _comet(
    job: Job[EvaluateConfig], systems: Mapping[str, list[str]], sources: list[str], references: list[list[str]]
) -> list[CometScores]:
    config = job.config.comet
    if not job.config.metrics.get(COMET) or config.model is None:
        return []
    folder = Path(config.cache).expanduser() if config.cache else default_folder()
    comet = Comet(
        config.model,
        cache=ScoreCache(folder),
        batch_size=config.batch,
        several_references=config.references,
        device=job.device,
    )
    return [comet.scores(systems, sources, references)]


def _weaknesses(
    config: EvaluateConfig,
    systems: Mapping[str, list[str]],
    sources: list[str],
    references: list[list[str]],
    options: Options,
    guards: Guards,
    baselines: Sequence[str],
) -> dict[str, Any]:
    """Counts by system, and the segments in which each is furthest behind the last baseline: the teachers', if any."""
    metrics = _metrics(config)
    counted = {
        name: asdict(weaknesses(lines, references, sources, metrics=metrics, options=options, guards=guards))
        for name, lines in systems.items()
    }
    behind = []
    if baselines and config.worst:
        scores = segment_scores(systems, references, ["chrf"], options)
        behind = worst(scores, "chrF2", baselines[-1], systems, references, sources, config.worst)
    return {
        "systems": counted,
        "baseline": baselines[-1] if baselines else None,
        "worst": [asdict(item) for item in behind],
    }
