"""Select: of each n-best list the hypothesis most similar to gold, by smoothed sentence BLEU.

Sequence-level interpolation (Kim and Rush, 2016, section 3.3); ties go to the higher model score. Each pair is judged
by its own gold, also where several pairs share a source and so a list.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kd.config import SelectConfig
from kd.corpora.index import read_json, write_json
from kd.corpora.leakage import reproduced_facts
from kd.corpora.nbest import NBestCorpus
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.shards import Shard as CorpusShard
from kd.errors import IncompleteArtifact
from kd.metrics.sentence import SentenceMetric, select, sentence_metric
from kd.pipeline.contract import Draft, Job, Kind, Role, Summary
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.plan import Stage
from kd.stages.outputs import SELECTION

COLUMNS = ("rank", "score", "first_score")  # rank from 0 of the chosen one, its metric, the metric of the model's best
MOST_EXAMPLES = 20
GAIN_BIN = 10  # points of the metric


@dataclass
class Statistics:
    """What selection changed, for the manifest and the report."""

    metric: str
    signature: str
    pairs: int = 0
    sum_first: float = 0.0
    sum_selected: float = 0.0
    ranks: Counter[int] = field(default_factory=Counter)
    gains: Counter[int] = field(default_factory=Counter)  # bin of GAIN_BIN points -> pairs, where another was chosen
    examples: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)  # a heap of the largest gains

    def to_json(self) -> dict[str, Any]:
        """Plain values; examples with the largest gain first."""
        largest = [item for _, _, item in sorted(self.examples, key=lambda entry: entry[:2], reverse=True)]
        return {**vars(self), "examples": largest}


class Select(Kind[SelectConfig]):
    """Chooses what the student learns."""

    name = "select"
    version = 2
    config = SelectConfig
    roles: ClassVar = {"corpus": Role(), "lists": Role(), "held_out": Role(optional=True)}
    resources = "cpu"

    def validate(self, config: SelectConfig) -> None:
        """The metric exists."""
        sentence_metric(config)

    def tasks(self, stage: Stage) -> Iterator[Draft]:
        """One for each task that decoded."""
        identity, extent = identity_and_extent(stage.config)
        corpus, held_out = stage.input_tasks("corpus"), stage.input_tasks("held_out")
        for lists in stage.input_tasks("lists"):
            inputs = {"corpus": corpus, "lists": [lists], "held_out": held_out}
            yield Draft(lists.task.name, identity, extent, inputs)

    def run(self, job: Job[SelectConfig]) -> None:
        """Goes through the shards of one decoding worker."""
        metric = sentence_metric(job.config)
        corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
        shards = {shard.name: shard for shard in corpus.shards}
        lists = NBestCorpus(job.one("lists").path)
        statistics = Statistics(metric.name, metric.signature)
        writer = CorpusWriter(
            job.out, corpus.languages, None, columns=COLUMNS, keep_groups=True, origins=corpus.origins.values()
        )
        with writer:
            for shard in lists.shards:
                writer.begin_shard(shard.name)
                for group, nbest in job.progress.follow(shard.beside(shards[shard.name]), f"shard {shard.name}"):
                    _choose(group, nbest.hypotheses, metric, writer, statistics)
        write_json(job.out / SELECTION, statistics.to_json())

    def check(self, job: Job[SelectConfig]) -> Summary:
        """The same shards and ids as the corpus that was decoded, in the same order."""
        selected = Corpus(job.out)
        selected.verify()
        corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
        decoded = {shard.name for shard in NBestCorpus(job.one("lists").path).shards}
        if {shard.name for shard in selected.shards} != decoded:
            raise IncompleteArtifact(f"{job.out} holds other shards than were decoded.")
        by_name = {shard.name: shard for shard in corpus.shards}
        for shard in selected.shards:
            _compare_ids(shard, by_name[shard.name])
        statistics = read_json(job.out / SELECTION)
        changed = statistics["pairs"] - statistics["ranks"].get("0", 0)
        counts: dict[str, int | float] = {"pairs out": selected.pairs, "other than the model's best": changed}
        return Summary(counts, facts=reproduced_facts((a.path for a in job.inputs.get("held_out", [])), selected))


def _choose(
    group: list[Any], hypotheses: Any, metric: SentenceMetric, writer: CorpusWriter, statistics: Statistics
) -> None:
    texts = [hypothesis.text for hypothesis in hypotheses]
    model_scores = [hypothesis.score for hypothesis in hypotheses]
    for pair in group:
        scores = metric.scores(texts, pair.target)
        rank = select(texts, scores, model_scores, pair.target)
        writer.add(pair._replace(target=texts[rank]), str(rank), repr(scores[rank]), repr(scores[0]))
        statistics.pairs += 1
        statistics.sum_first += scores[0]
        statistics.sum_selected += scores[rank]
        statistics.ranks[rank] += 1
        if rank:
            gain = scores[rank] - scores[0]
            statistics.gains[int(gain // GAIN_BIN)] += 1
            item = {
                "source": pair.source, "gold": pair.target, "first": texts[0], "selected": texts[rank], "rank": rank,
                "score_first": scores[0], "score_selected": scores[rank],
            }  # fmt: skip
            # The id breaks ties, so that the heap never compares dictionaries.
            entry = (gain, pair.id, item)
            if len(statistics.examples) < MOST_EXAMPLES:
                heapq.heappush(statistics.examples, entry)
            else:
                heapq.heappushpop(statistics.examples, entry)


def _compare_ids(selected: CorpusShard, decoded: CorpusShard) -> None:
    for line, (ours, theirs) in enumerate(zip(selected.column("id"), decoded.column("id"), strict=True), 1):
        if ours != theirs:
            raise IncompleteArtifact(f"{selected.path('id')}, line {line}: {ours} stands where {theirs} belongs.")
