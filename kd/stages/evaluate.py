"""Evaluate: scores of every system on the test set, with signatures, and whether differences are more than luck.

Every system is compared with the baseline, by default the control, on the same resampled test sets.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from kd.config import EvaluateConfig
from kd.corpora.heldout import read_heldout
from kd.corpora.index import read_json, write_json
from kd.corpora.lines import open_lines
from kd.errors import IncompleteArtifact
from kd.metrics.corpus import corpus_scores
from kd.metrics.significance import paired_bootstrap
from kd.pipeline.contract import Job, Kind, Role, Summary
from kd.stages.outputs import HYPOTHESES, SCORES


class Evaluate(Kind[EvaluateConfig]):
    """Scores translations."""

    name = "evaluate"
    version = 1
    config = EvaluateConfig
    roles: ClassVar = {"held_out": Role(), "translations": Role(many=True)}
    resources = "cpu"

    def validate(self, config: EvaluateConfig) -> None:
        """There is such a metric."""
        corpus_scores(["a"], [["a"]], _metrics(config))

    def run(self, job: Job[EvaluateConfig]) -> None:
        """Scores, then resamples."""
        test = read_heldout(job.one("held_out").path, str(job.axis), "test")
        references = [[pair.target for pair in test]]
        outputs = {
            artifact.task: list(open_lines(artifact.path / HYPOTHESES)) for artifact in job.inputs["translations"]
        }
        metrics = _metrics(job.config)
        job.progress.update("scoring")
        scores = {
            name: [asdict(s) for s in corpus_scores(lines, references, metrics)] for name, lines in outputs.items()
        }
        further = [name for name, wanted in job.config.further_baselines.items() if wanted and name in outputs]
        content = {
            "segments": len(test),
            "scores": scores,
            "significance": {
                baseline: _compare(job, outputs, baseline, references)
                for baseline in dict.fromkeys([job.config.baseline, *further])
                if baseline in outputs and job.config.bootstrap
            },
        }
        write_json(job.out / SCORES, content)

    def check(self, job: Job[EvaluateConfig]) -> Summary:
        """Every system has every metric."""
        content = read_json(job.out / SCORES)
        wanted = len(_metrics(job.config))
        for artifact in job.inputs["translations"]:
            if len(content["scores"].get(artifact.task, [])) != wanted:
                raise IncompleteArtifact(f"{job.out} lacks scores of {artifact.task}.")
        return Summary({"segments": content["segments"], "systems": len(content["scores"])})


def _compare(
    job: Job[EvaluateConfig], outputs: dict[str, list[str]], baseline: str, references: list[list[str]]
) -> list[dict[str, Any]]:
    """Every system against one of them."""
    job.progress.update(f"resampling {job.config.bootstrap} times, against {baseline}")
    found = paired_bootstrap(
        outputs,
        baseline,
        references,
        _metrics(job.config),
        resamples=job.config.bootstrap,
        seed=job.config.seed,
        jobs=job.threads,
    )
    return [asdict(item) for item in found]


def _metrics(config: EvaluateConfig) -> list[str]:
    return [name for name, wanted in config.metrics.items() if wanted]
