"""Drop: leaves out the selected pairs from whose translation a backward model predicts the source worst.

Cross-entropy filtering, as in browsermt/students and mozilla/translations, which drop 5 %. The share is that of all
pairs of a language pair, source-only text included, whatever their shards. Shards are the unit of restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.processes import Tick, Workers, share
from kd.corpora.finished import complete, finished, note_finished, resume_shards
from kd.corpora.index import Damaged, read_json, write_json
from kd.corpora.rejects import FILE as REJECTED
from kd.corpora.rejects import Reject, Sample
from kd.corpora.scores import ScoreCorpus
from kd.corpora.shard import PAIR_COLUMNS, SUFFIX, ShardWriter
from kd.corpora.shard import Shard as CorpusShard
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.worst import Cut, RankedShard, dropped_of, find_cut
from kd.models.known import Known, by_pairs
from kd.pipeline.fingerprint import digest, identity_and_extent
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Artifact, Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import BackwardDropConfig, SelectMetric

METRIC = SelectMetric.backward.value
DROPPED = "drop.json"
COLUMN = METRIC  # of the output: the score of a pair
TEXTS = {"corpus": "scores", "other_corpus": "other_scores"}  # roles of text, and of its scores


class Drop(Kind[BackwardDropConfig]):
    """Leaves out the worst share of the selected pairs."""

    name = "drop"
    version = 1
    config = BackwardDropConfig
    roles: ClassVar = {
        "corpus": Role(),
        "scores": Role(),
        "other_corpus": Role(optional=True),  # further text of the language pair, ranked together with the corpus
        "other_scores": Role(optional=True),
    }
    resources = "cpu"
    needs_models = True
    resumable = True

    def is_needed(self, config: BackwardDropConfig) -> bool:
        """Return whether any pairs are to be left out."""
        return bool(config.drop)

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task, which ranks all pairs. Raise UserError if its scores are not those of its text."""
        for text, scores in TEXTS.items():
            _check_scores(stage, text, scores)
        identity, extent = identity_and_extent(stage.config)
        yield TaskSpec("all", identity, extent)

    def run(self, job: Job[BackwardDropConfig]) -> None:
        """Rank all pairs, then write the missing shards without the worst."""
        corpus, own = _ranked(job, "corpus")
        _, others = _ranked(job, "other_corpus")
        total = sum(shard.corpus.lines for shard in (*own, *others))
        cut = find_cut(
            [*own, *others],
            job.config.drop,
            job.threads,
            lambda step, done: job.progress.update(step, done, total, "pairs"),
        )
        work = [
            _ShardToDrop(shard, cut, _quota(job.config, len(own)), job.out, _made_from(shard, cut)) for shard in own
        ]
        wanted = {item.name: item.made_from for item in work}
        done = resume_shards(job.out, job.resumable_from, wanted, SUFFIX)
        missing = [item for item in work if item.name not in done]
        tick = partial(job.progress.update, "dropping", total=sum(i.shard.corpus.lines for i in missing), unit="pairs")
        with Workers(min(job.threads, len(missing)), share, None) as workers:
            for _ in workers.map(_drop_shard, missing, tick):
                pass
        _complete(job, corpus, cut)

    def check(self, job: Job[BackwardDropConfig]) -> Summary:
        """Check that all pairs are there in order but for the dropped ones, and that these are as many as asked for."""
        corpus, kept = _corpus(job, "corpus"), Corpus(job.out)
        kept.verify()
        facts = read_json(job.out / DROPPED)
        before = {shard.name: shard for shard in corpus.shards}
        records = finished(job.out)
        if {shard.name for shard in kept.shards} != set(before) or records.keys() != before.keys():
            raise IncompleteArtifact(f"{job.out} does not have the shards of its corpus.")
        dropped = 0
        for shard in kept.shards:
            dropped += _compare_ids(shard, before[shard.name], records[shard.name]["facts"]["dropped"])
        wanted = dropped_of(facts["pairs"], job.config.drop)
        if facts["dropped"] != wanted or dropped > wanted or (facts["pairs"] == corpus.pairs and dropped != wanted):
            raise IncompleteArtifact(f"{job.out} lacks {dropped} pairs, but {wanted} were to be dropped.")
        return Summary(
            {"pairs in": corpus.pairs, "pairs out": kept.pairs},
            {f"{METRIC}: lowest {job.config.drop:.3g}": dropped},
            {"signature": facts["signature"], "pairs ranked": facts["pairs"], "highest score dropped": facts["cut"]},
        )

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the pairs that are read; a share of them is left out."""
        text = known.input(stage, "corpus")
        return by_pairs(stage, text, output=replace(text, pairs=text.pairs.times(1 - stage.config.drop)))


def _check_scores(stage: Stage, text: str, scores: str) -> None:
    texts = {item.task for item in stage.input_tasks(text)}
    for item in stage.input_tasks(scores):
        if METRIC not in item.task.identity.get("metrics", ()):
            raise UserError(
                f"{stage.name} drops pairs by their score {METRIC}, which {item.task.stage.name} does not compute.",
                f"Set chain.{item.task.stage.spec.name}.changes.metrics.{METRIC}=true.",
            )
    scored = {each.task for item in stage.input_tasks(scores) for each in item.task.inputs.get("corpus", [])}
    if scored != texts:
        raise UserError(
            f"{stage.name} reads scores of other text than its own.",
            f"Set chain.{stage.spec.name}.inputs.{scores} to a stage that scores the text of inputs.{text}.",
        )


def _corpus(job: Job[BackwardDropConfig], role: str) -> Corpus:
    return Corpus.join(artifact.path for artifact in job.inputs[role])


def _ranked(job: Job[BackwardDropConfig], role: str) -> tuple[Corpus | None, list[RankedShard]]:
    """Return the text of a role, and its shards with their scores."""
    if not job.inputs.get(role):
        return None, []
    corpus = _corpus(job, role)
    scores = {name: shard for part in _scores(job.inputs[TEXTS[role]]) for name, shard in part.shards.items()}
    if missing := [shard for shard in corpus.shards if shard.name not in scores]:
        raise Damaged(f"The scores of {missing[0].path} are missing.")
    return corpus, [RankedShard(shard, scores[shard.name], METRIC) for shard in corpus.shards]


def _scores(artifacts: list[Artifact]) -> list[ScoreCorpus]:
    return [ScoreCorpus(artifact.path) for artifact in artifacts]


def _quota(config: BackwardDropConfig, shards: int) -> int:
    """Return the size of a shard's sample, from which that of all shards is drawn: a bounded record per shard."""
    return min(config.rejects, 10 + 2 * -(-config.rejects // max(1, shards)))


def _made_from(shard: RankedShard, cut: Cut) -> str:
    read = {"corpus": shard.corpus.file["sha256"], "scores": shard.scores.file["sha256"], "cut": cut.last}
    return digest(read)


@dataclass(frozen=True)
class _ShardToDrop:
    """A shard and the cut that a process needs."""

    shard: RankedShard
    cut: Cut
    rejects: int
    out: Path
    made_from: str  # hash of the cut and of the files that it is made from

    @property
    def name(self) -> str:
        return self.shard.corpus.name


def _drop_shard(_: None, item: _ShardToDrop, tick: Tick) -> None:
    """Write a shard without the worst pairs, and its record."""
    further = item.shard.corpus.columns[len(PAIR_COLUMNS) :]
    sample, dropped = Sample(item.rejects), 0
    with ShardWriter(item.out, item.name, (*further, COLUMN)) as writer:
        for pair, values, score in item.shard.rows(*further):
            if item.cut.drops(pair, score):
                sample.add(METRIC, pair)
                dropped += 1
            else:
                writer.add(pair, (*values, f"{score:.9g}"))
    tick(item.shard.corpus.lines)
    facts = {"dropped": dropped, "rejects": [list(reject) for reject in sample.rejects()]}
    note_finished(item.out, {**writer.entry, "made_from": item.made_from, "facts": facts})


def _complete(job: Job[BackwardDropConfig], corpus: Corpus | None, cut: Cut) -> None:
    """Write the index of all shards, the sample of dropped pairs and the cut."""
    assert corpus is not None
    records = complete(job.out)
    further = (*corpus.columns[len(PAIR_COLUMNS) :], COLUMN)
    origins = corpus.origins.values()
    sample = Sample(job.config.rejects)
    with CorpusWriter(job.out, corpus.languages, None, further, corpus.groups_kept, origins) as writer:
        for record in records.values():
            writer.count_in(record)
            sample.merge(Reject(*reject) for reject in record["facts"]["rejects"])
    sample.write(job.out / REJECTED)
    signature = next((str(part.signatures[METRIC]) for part in _scores(job.inputs["scores"])), METRIC)
    shown = None if cut.score is None else f"{cut.score:.6g}"
    content = {"pairs": cut.pairs, "dropped": cut.dropped, "cut": shown, "signature": signature}
    write_json(job.out / DROPPED, content)


def _compare_ids(kept: CorpusShard, before: CorpusShard, dropped: int) -> int:
    """Check that a shard has the ids of its input shard in order, except for a number of dropped ones; return it."""
    expected = before.column("id")
    for line, found in enumerate(kept.column("id"), 1):
        if found not in expected:  # reads on to it
            raise IncompleteArtifact(f"{kept.path}, line {line}: {found} is unexpected.")
    if before.lines - kept.lines != dropped:
        raise IncompleteArtifact(f"{kept.path} lacks {before.lines - kept.lines} pairs, but {dropped} were dropped.")
    return dropped
