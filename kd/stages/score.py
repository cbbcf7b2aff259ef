"""Score: score n-best lists by neural models, for selection, or the pairs of a corpus.

COMET against the human target, reference-free quality estimation, minimum Bayes risk with COMET as the utility
(Fernandes et al., 2022, https://aclanthology.org/2022.naacl-main.100), and the log-probability of the source by a
backward model (`kd/stages/backward.py`). Each task scores the shards of one decoding worker; shards are the unit of
restart. Scores are stored by pair id, in one file per shard (`kd/corpora/scores.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.processes import Tick, Workers
from kd.base.text import unknown_name
from kd.base.world import gpu_counter, take_next_gpu
from kd.corpora.ids import Pair
from kd.corpora.index import Damaged
from kd.corpora.nbest import NBestCorpus, NBestShard
from kd.corpora.scores import ScoreCorpus, finish_scores, resume_scores, write_score_index, write_scores
from kd.corpora.shard import Shard as CorpusShard
from kd.corpora.shards import Corpus
from kd.engines.ctranslate2 import COMPUTE_TYPES
from kd.metrics.comet import Comet
from kd.metrics.comet_lists import CometConsensus, CometScorer, ListScorer, ListToScore
from kd.metrics.comet_models import find_checkpoint, model_files
from kd.models.known import Known, equal_tasks
from kd.pipeline.fingerprint import digest
from kd.pipeline.forecast import Sharing, StageForecast, TaskWork, Work
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import SCORED, ScoreConfig, ScorerConfig, SelectMetric
from kd.stages import backward
from kd.stages.backward import BackwardScorer

BATCH = 2_000  # pairs scored at once; a call of a model has a cost of its own
SCORE_BYTES = 6  # of a stored score, compressed


def _comet(config: ScorerConfig, device: str) -> Comet:
    return Comet(str(config.model), batch_size=config.batch, device=device)


# A further scorer is a line here and a member of `SelectMetric` and `SCORED`.
_SCORERS: Mapping[SelectMetric, Callable[[_Spec], ListScorer]] = {
    SelectMetric.comet: lambda spec: CometScorer(_comet(spec.config.comet, spec.device), with_target=True),
    SelectMetric.qe: lambda spec: CometScorer(_comet(spec.config.qe, spec.device), with_target=False),
    SelectMetric.mbr_comet: lambda spec: CometConsensus(_comet(spec.config.comet, spec.device)),
    SelectMetric.backward: lambda spec: BackwardScorer(spec.config.backward, spec.languages, spec.threads, spec.device),
}
_OF_LISTS = (SelectMetric.mbr_comet,)  # scores that need a list; a pair alone has none
# The metrics of COMET's models, and the settings that name them.
_MODEL = {SelectMetric.comet: "comet", SelectMetric.qe: "qe", SelectMetric.mbr_comet: "comet"}


class Score(Kind[ScoreConfig]):
    """Score hypotheses, or pairs, by neural models."""

    name = "score"
    version = 3
    config = ScoreConfig
    roles: ClassVar = {"corpus": Role(), "lists": Role(optional=True)}
    imports = ("torch",)  # a probe imports no COMET, which only some runs have
    needs_models = True
    resources = "decode"
    uses_gpus = True
    resumable = True

    def is_needed(self, config: ScoreConfig) -> bool:
        """Return whether any score is requested."""
        return bool(_metrics(config) or any(config.metrics.values()))

    def validate(self, config: ScoreConfig) -> None:
        """Raise UserError for an unknown metric, and for a metric without a model or with one of the wrong class."""
        for name in config.metrics:
            if name not in SCORED:
                raise unknown_name("metric (score.metrics)", name, SCORED)
        for metric in _metrics(config):
            if metric is SelectMetric.backward:
                _require_backward(config)
                continue
            key = _MODEL[metric]
            model = getattr(config, key).model
            if not model:
                example = "wmt22-cometkiwi-da" if metric is SelectMetric.qe else "wmt22-comet-da"
                raise UserError(
                    f"The metric {metric} needs a model, but score.{key}.model is not set.",
                    f"Set score.{key}.model to a folder or a name, such as Unbabel/{example}.",
                )
            if Path(model).is_absolute():  # a name may have to be downloaded: it is checked by the task
                _SCORERS[metric](_Spec(config, "cpu"))

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield a task for each decoding task, or `workers` tasks for the pairs of a corpus."""
        config: ScoreConfig = stage.config
        metrics = _metrics(config)
        of_comet = [metric for metric in metrics if metric in _MODEL]
        models = {_MODEL[metric]: str(getattr(config, _MODEL[metric]).model) for metric in of_comet}
        identity: dict[str, Any] = {
            "metrics": [metric.value for metric in metrics],
            # A model on disk is identified by its content, whatever the folder above it.
            "models": {key: Path(model).name if Path(model).is_absolute() else model for key, model in models.items()},
        }
        folder = None
        if SelectMetric.backward in metrics:
            backward.check_model(stage, config.backward)
            identity["backward"] = backward.identity(config.backward)
            folder = backward.model_folder(config.backward, stage.axis_value)
        files = partial(_files, sorted(set(models.values())), folder)
        corpus, lists = stage.input_tasks("corpus"), stage.input_tasks("lists")
        for each in lists:
            yield TaskSpec(each.task.name, identity, {}, {"corpus": corpus, "lists": [each]}, files)
        if lists:
            return
        for metric in metrics:
            if metric in _OF_LISTS:
                raise UserError(
                    f"{stage.name} scores pairs, but {metric} compares the hypotheses of a list.",
                    f"Name n-best lists in chain.{stage.spec.name}.inputs.lists, or set score.metrics.qe=true instead.",
                )
        for worker in range(config.workers):
            numbers = {**identity, "worker": worker, "workers": config.workers}
            yield TaskSpec(f"worker-{worker}", numbers, {}, {"corpus": corpus}, files)

    def run(self, job: Job[ScoreConfig]) -> None:
        """Score the missing shards, one per process at a time."""
        if any(job.hash_file(path) != known for path, known in job.files.items()):
            raise UserError("A model has changed since the run was planned.", "Plan it again with `kd run`.")
        spec = _spec(job)
        signatures = {metric.value: scorer.signature for metric, scorer in spec.scorers().items()}
        work = _shards(job, signatures)
        done = resume_scores(job.out, job.resumable_from, {item.name: item.made_from for item in work})
        missing = [item for item in work if item.name not in done]
        total = sum(item.corpus.lines for item in missing)
        tick = partial(job.progress.update, "scoring", total=total, unit="pairs")
        processes = min(job.world.workers(job.device), max(1, len(missing)))
        with Workers(processes, _init_worker, spec, gpu_counter(processes)) as workers:
            for _ in workers.map(_Worker.score, missing, tick):
                pass
        write_score_index(job.out, signatures)

    def check(self, job: Job[ScoreConfig]) -> Summary:
        """Check that every pair has its scores, one per hypothesis of its list, under its id."""
        scores = ScoreCorpus(job.out)
        work = {item.name: item for item in _shards(job, scores.signatures)}
        if set(scores.shards) != set(work) or set(scores.signatures) != {m.value for m in _metrics(job.config)}:
            raise IncompleteArtifact(f"{job.out} does not have the expected scores.")
        counts: dict[str, int | float] = {"pairs": 0, "scores": 0}
        for name, shard in scores.shards.items():
            shard.verify()
            for metric in scores.signatures:
                rows = shard.read(metric)
                for pair, hypotheses in work[name].read():
                    found = next(rows, None)
                    if found is None or found[0] != pair.id or len(found[1]) != len(hypotheses):
                        raise IncompleteArtifact(f"{job.out}: {name} lacks the {metric} scores of {pair.id}.")
                    counts["scores"] += len(hypotheses)
                if next(rows, None) is not None:
                    raise IncompleteArtifact(f"{job.out}: {name} has {metric} scores of more pairs than the corpus.")
            counts["pairs"] += shard.lines
        facts = {"signatures": dict(scores.signatures), "devices": job.world.workers(job.device)}
        return Summary(counts, facts=facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the hypotheses that each metric scores, and the size of the stored scores."""
        text = known.input(stage, "corpus")
        configs = [other.config for _, other in stage.inputs.get("lists", [])]
        nbest = next((getattr(config, "nbest", 0) for config in configs), 1) or 1
        share = next((getattr(config, "share", 1.0) for config in configs), 1.0)
        hypotheses = text.pairs.times(share * nbest / len(stage.tasks))
        metrics = _metrics(stage.config)
        work = tuple(
            # Minimum Bayes risk encodes each hypothesis once, and the estimator's share is small.
            Work(f"score {metric}", "hypotheses", hypotheses, _flops(stage, metric, text.pair_bytes.value),
                 Sharing.gpus)
            for metric in metrics
        )  # fmt: skip
        size = SCORE_BYTES * len(metrics)
        kept = replace(hypotheses.times(size), source=f"{size} bytes a hypothesis")
        return equal_tasks(stage, TaskWork(work, kept=kept))


def _metrics(config: ScoreConfig) -> list[SelectMetric]:
    """Return the scores to compute: those that selection needs, and those requested explicitly."""
    selected = {config.select_metric, *(config.select_mix if config.select_metric is SelectMetric.mix else ())}
    if config.drop:
        selected.add(SelectMetric.backward)
    return [metric for metric in SCORED if metric in selected or config.metrics.get(metric)]


def _require_backward(config: ScoreConfig) -> None:
    """Raise UserError if the score `backward` has no model, or an unknown number format."""
    if not config.backward.model:
        raise UserError(
            "The score backward needs a model of the opposite direction, but score.backward.model is not set.",
            "Set score.backward.model to its folder, or select.backward.drop=0.",
        )
    if config.backward.compute_type not in COMPUTE_TYPES:
        raise UserError(
            f"score.backward.compute_type is {config.backward.compute_type!r}.",
            f"Use one of {', '.join(COMPUTE_TYPES)}.",
        )


def _files(models: list[str], backward_model: Path | None) -> list[Path]:
    own = [] if backward_model is None else backward.model_files(backward_model)
    return [path for model in models for path in model_files(model)] + own


def _flops(stage: Stage, metric: SelectMetric, pair_bytes: float | None) -> float | None:
    """Estimate the FLOPs of one segment: two per weight (4 bytes) and piece (about 4 bytes of text)."""
    if metric is SelectMetric.backward:
        return backward.flops(stage.config.backward, stage.axis_value, pair_bytes)
    model = getattr(stage.config, _MODEL[metric]).model
    if pair_bytes is None or not Path(model).is_absolute():
        return None
    checkpoint, _ = find_checkpoint(model)
    return 2 * checkpoint.stat().st_size / 4 * pair_bytes / 4


@dataclass(frozen=True)
class _Shard:
    """A shard to score; if `lists` is None, its pairs themselves."""

    corpus: CorpusShard
    lists: NBestShard | None
    made_from: str  # hash of the scorers and of the files that are scored

    @property
    def name(self) -> str:
        return self.corpus.name

    def read(self) -> Iterator[tuple[Pair, list[str]]]:
        """Yield each pair with the hypotheses to score: its list, or its own target."""
        if self.lists is None:
            yield from ((pair, [pair.target]) for pair in self.corpus.read())
            return
        for group, nbest in self.lists.beside(self.corpus):
            texts = [hypothesis.text for hypothesis in nbest.hypotheses]
            yield from ((pair, texts) for pair in group)


def _shards(job: Job[ScoreConfig], signatures: Mapping[str, str]) -> list[_Shard]:
    """Return the shards of this task, in the order of their names."""
    corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
    if not job.inputs.get("lists"):
        own = corpus.shards[job.identity["worker"] :: job.identity["workers"]]
        return [_Shard(shard, None, digest({"scorers": signatures, "corpus": shard.file["sha256"]})) for shard in own]
    by_name = {shard.name: shard for shard in corpus.shards}
    found = []
    for lists in NBestCorpus(job.one("lists").path).shards:
        if lists.name not in by_name:
            raise Damaged(f"{lists.path} belongs to no shard of {corpus.folder}.")
        shard = by_name[lists.name]
        made_from = {"scorers": signatures, "corpus": shard.file["sha256"], "lists": lists.file["sha256"]}
        found.append(_Shard(shard, lists, digest(made_from)))
    return found


@dataclass(frozen=True)
class _Spec:
    """The settings of a process that scores shards."""

    config: ScoreConfig
    device: str
    out: Path = Path()
    languages: tuple[str, str] = ("", "")
    threads: int = 1

    def scorers(self) -> dict[SelectMetric, ListScorer]:
        """Return the scorers, which load their models at the first score."""
        return {metric: _SCORERS[metric](self) for metric in _metrics(self.config)}


def _spec(job: Job[ScoreConfig]) -> _Spec:
    languages = str(job.axis_value.get("source", "source")), str(job.axis_value.get("target", "target"))
    threads = max(1, job.threads // job.world.workers(job.device))
    return _Spec(job.config, job.device, job.out, languages, threads)


class _Worker:
    """The scorers of one process."""

    def __init__(self, spec: _Spec) -> None:
        self._out = spec.out
        self._scorers = {metric.value: scorer for metric, scorer in spec.scorers().items()}

    def score(self, shard: _Shard, tick: Tick) -> None:
        """Write the scores of a shard, and the record that it is complete."""
        entry = write_scores(self._out, shard.name, self._rows(shard, tick), list(self._scorers))
        finish_scores(self._out, entry, shard.made_from)

    def _rows(self, shard: _Shard, tick: Tick) -> Iterator[tuple[int, dict[str, list[float]]]]:
        rows = shard.read()
        while batch := list(islice(rows, BATCH)):
            lists = [ListToScore(pair.source, texts, pair.target) for pair, texts in batch]
            columns = {metric: scorer.scores(lists) for metric, scorer in self._scorers.items()}
            for place, (pair, _) in enumerate(batch):
                yield pair.id, {metric: column[place] for metric, column in columns.items()}
            tick(len(batch))


def _init_worker(spec: _Spec, counter: Synchronized[int] | None) -> _Worker:
    """Create this process's scorers; each of several processes uses its own GPU."""
    take_next_gpu(counter, spec.device)
    return _Worker(spec)
