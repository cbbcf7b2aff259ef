"""Mix: joins the lists of several teachers of different kinds for each source, and scores all hypotheses alike.

The members of a mixture (fairseq's models, converted models, models behind a server) have no common vocabulary, so no
search can average their probabilities. Their hypotheses are joined instead. Each teacher that can score then scores all
of them, its own and the others'; the score in the list is the mean over these teachers of the mean log-probability per
token. A model behind a server scores no given text and has no part in the mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import ClassVar

from kd.base.errors import IncompleteArtifact
from kd.base.processes import Tick, Workers
from kd.base.world import gpu_counter, take_next_gpu
from kd.corpora.index import Damaged
from kd.corpora.mixtures import RANK, SCORE, join_lists, joined_list, origins
from kd.corpora.nbest import NBestCorpus, NBestShard, NBestShardWriter, resume_lists, write_nbest_index
from kd.corpora.shard import Shard
from kd.corpora.shards import Corpus
from kd.engines.scoring import Scorer, Scoring, load_scorer
from kd.models.known import Known, equal_tasks
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import Sharing, StageForecast, TaskWork, Work
from kd.pipeline.model import Artifact, Input, Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import MixConfig
from kd.stages import asking
from kd.stages.teachers import forward_flops

BATCH = 1_000  # sources scored at once
SCORES = "mean over {members} of natural logarithms, summed over the tokens and the end symbol, divided by their number"
NO_SCORES = "no member can score: all are 0, and a list has the order of the ranks in its members' lists"
FROM, ALONE = "hypotheses from ", "hypotheses only from "  # counts of a shard


class Mix(Kind[MixConfig]):
    """Joins the lists of a mixture."""

    name = "mix"
    version = 1
    config = MixConfig
    imports = ("torch", "fairseq")
    needs_models = True
    roles: ClassVar = {"corpus": Role(), "lists": Role(many=True), "teachers": Role(many=True, implies="teacher")}
    resources = "decode"
    uses_gpus = True
    resumable = True

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task per worker, which reads from each member the tasks that decoded its shards."""
        identity, extent = identity_and_extent(stage.config)
        identity["order"] = list(stage.config.members)  # it decides between equal scores
        asking.check_pairs(stage, "teachers")
        asking.check_pairs(stage, "lists")
        named = {name for names in _scoring(stage).values() for name in names}
        teachers = [each for each in stage.input_tasks("teachers") if asking.teacher_name(each.task.name) in named]
        corpus, lists = stage.input_tasks("corpus"), stage.input_tasks("lists")
        for worker in range(stage.config.workers):
            own = [each for each in lists if _has_shards(each, worker, stage.config.workers)]
            inputs = {"corpus": corpus, "lists": own, "teachers": teachers}
            yield TaskSpec(f"worker-{worker}", {**identity, "worker": worker}, extent, inputs)

    def run(self, job: Job[MixConfig]) -> None:
        """Join and score the worker's shards that are missing or incomplete."""
        work = _work(job)
        job.progress.update("checking the shards of earlier attempts")
        done, _ = resume_lists(job.out, job.resumable_from, {item.name: item.corpus for item in work})
        missing = [item for item in work if item.name not in done]
        total = sum(item.corpus.sources for item in work)
        before = total - sum(item.corpus.sources for item in missing)
        processes = min(job.world.workers(job.device), max(1, len(missing)))
        spec = _spec(job, max(1, job.threads // processes))

        def tell(more: int) -> None:
            job.progress.update("scoring" if spec.scorers else "joining", before + more, total, "sentences")

        with Workers(processes, _init_worker, spec, gpu_counter(processes)) as workers:
            for _ in workers.map(_Worker.join, missing, tell):
                pass
        members = ", ".join(spec.scorers)
        write_nbest_index(job.out, {"scores": SCORES.format(members=members) if members else NO_SCORES})

    def check(self, job: Job[MixConfig]) -> Summary:
        """Check that each list is under its source's id and has exactly its members' hypotheses, all scored."""
        lists = NBestCorpus(job.out)
        work = {item.name: item for item in _work(job)}
        if {shard.name for shard in lists.shards} != set(work):
            raise IncompleteArtifact(f"{job.out} does not have the expected shards.")
        lists.verify({name: item.corpus for name, item in work.items()})
        scorers = _spec(job, 1).scorers
        features = [*(name + RANK for name in job.config.members), *(name + SCORE for name in scorers)]
        given = 0
        for shard in lists.shards:
            item = work[shard.name]
            for nbest, joined in zip(shard.read(), join_lists(item.corpus, item.lists), strict=True):
                found = {each.text: sorted(origins(each)) for each in nbest.hypotheses}
                if found != {text: sorted(ranks) for text, ranks in joined.ranks.items()}:
                    raise IncompleteArtifact(f"{shard.path}: the list of {nbest.id} is not that of its members' lists.")
                if any(list(each.features) != features for each in nbest.hypotheses):
                    raise IncompleteArtifact(f"{shard.path}: the list of {nbest.id} lacks a member's rank or score.")
                given += sum(map(len, joined.ranks.values()))
        counts = {
            "sources": sum(item.corpus.sources for item in work.values()),
            "lists": lists.lists,
            "hypotheses given": given,
            "hypotheses": lists.lines,
            "shards": len(work),
        }
        found_by = Counter[str]()
        for shard in lists.shards:
            found_by.update(shard.facts)
        facts = {"members": {name: {"hypotheses": found_by[FROM + name], "from it alone": found_by[ALONE + name],
                                    "scores": name in scorers} for name in job.config.members},
                 "devices": job.world.workers(job.device)}  # fmt: skip
        return Summary({**counts}, {"repeated by another member": given - lists.lines}, facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the scoring of all hypotheses by the teachers that can score; list sizes grow with the text."""
        config, text = stage.config, known.input(stage, "corpus")
        length = asking.lists_per_source(stage)
        hypotheses = text.pairs.times(config.share * length / len(stage.tasks))
        flops = forward_flops(known.models(item.task for item in stage.tasks[0].inputs["teachers"]), text, known)
        target = text.target_tokens.value
        cost = None if flops is None or target is None else flops * (target + 1)
        name = f"score by {len(_scoring(stage))} members"
        work = Work(name, "hypotheses", hypotheses, cost, Sharing.gpus, "decode")
        size = Work(name, "hypotheses", hypotheses, text.side_bytes)
        return equal_tasks(stage, TaskWork((work,), size=size), replace(text, pairs=text.pairs.times(config.share)))


def _scoring(stage: Stage) -> dict[str, list[str]]:
    """Return the teachers of each member that can score; members of the same teachers count once."""
    served = {asking.teacher_name(each.task.name) for each in stage.input_tasks("teachers") if asking.served(each)}
    members = {name: member.named(name) for name, member in stage.config.members.items()}
    return _distinct({name: names for name, names in members.items() if not served.intersection(names)})


def _distinct(members: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Leave out members whose teachers an earlier member has: their scores would count twice."""
    found: dict[tuple[str, ...], str] = {}
    for name, names in members.items():
        found.setdefault(tuple(sorted(names)), name)
    return {name: members[name] for name in found.values()}


def _has_shards(lists: Input, worker: int, workers: int) -> bool:
    """Return whether a task that decoded has shards of a worker: only its namesake, if both are split alike."""
    return len(lists.task.stage.tasks) != workers or lists.task.name == f"worker-{worker}"


# --- running ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shard:
    """A shard with the lists of each member."""

    corpus: Shard
    lists: Mapping[str, NBestShard]

    @property
    def name(self) -> str:
        return self.corpus.name


def _work(job: Job[MixConfig]) -> list[_Shard]:
    """Return the worker's shards: of the first `share` of all shards, those with its number modulo the workers.

    Raises:
        Damaged: A member lacks a shard that it should have decoded.
    """
    shards = Corpus.join(artifact.path for artifact in job.inputs["corpus"]).shards
    own = shards[: math.ceil(job.config.share * len(shards))][job.identity["worker"] :: job.config.workers]
    by_member = {name: _lists(job, name) for name in job.config.members}
    for name, lists in by_member.items():
        if missing := [shard.name for shard in own if shard.name not in lists]:
            raise Damaged(f"The lists of {name} lack the shard {missing[0]}.")
    return [_Shard(shard, {name: lists[shard.name] for name, lists in by_member.items()}) for shard in own]


def _lists(job: Job[MixConfig], member: str) -> dict[str, NBestShard]:
    folders = [artifact.path for artifact in job.inputs["lists"] if artifact.label == member]
    return {shard.name: shard for shard in NBestCorpus.join(folders).shards}


@dataclass(frozen=True)
class _Spec:
    """The settings of a process that joins shards: the model folders of each member that scores."""

    members: tuple[str, ...]
    scorers: Mapping[str, list[Path]]
    scoring: Scoring
    out: Path


def _spec(job: Job[MixConfig], threads: int) -> _Spec:
    teachers: dict[str, Artifact] = {asking.teacher_name(each.task): each for each in job.inputs.get("teachers", [])}
    members = {name: member.named(name) for name, member in job.config.members.items()}
    scoring = _distinct({name: names for name, names in members.items() if all(each in teachers for each in names)})
    languages = Corpus.join(artifact.path for artifact in job.inputs["corpus"]).languages
    config = job.config
    return _Spec(
        tuple(members),
        {name: [teachers[each].path for each in names] for name, names in scoring.items()},
        Scoring(languages, config.batch_tokens, threads, job.device, config.max_pieces, config.precision.value),
        job.out,
    )


class _Worker:
    """The loaded teachers of one process."""

    def __init__(self, spec: _Spec) -> None:
        self._spec = spec
        self._scorers: dict[str, Scorer] = {
            name: load_scorer(folders, spec.scoring) for name, folders in spec.scorers.items()
        }

    def join(self, item: _Shard, tick: Tick) -> None:
        """Write the joined lists of a shard. `tick` counts sources."""
        counts = Counter[str]()
        writer = NBestShardWriter(self._spec.out, item.name, pieces=False)
        with writer:
            rows = join_lists(item.corpus, item.lists)
            while batch := list(islice(rows, BATCH)):
                sources, texts = [each.source for each in batch], [list(each.ranks) for each in batch]
                scores = {name: scorer.score(sources, texts) for name, scorer in self._scorers.items()}
                for number, joined in enumerate(batch):
                    own = {name: each[number] for name, each in scores.items()}
                    writer.add(joined_list(joined, self._spec.members, own))
                    for ranks in joined.ranks.values():
                        counts.update(FROM + name for name in ranks)
                        counts.update(ALONE + name for name in ranks if len(ranks) == 1)
                tick(len(batch))
            writer.facts = dict(counts)


def _init_worker(spec: _Spec, next_gpu: Synchronized[int] | None) -> _Worker:
    """Load the teachers in a process. `next_gpu`: counter of assigned GPUs; None for a single process."""
    take_next_gpu(next_gpu, spec.scoring.device)
    return _Worker(spec)
