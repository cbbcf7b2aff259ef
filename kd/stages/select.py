"""Select: of each n-best list the hypothesis most similar to gold, by smoothed sentence BLEU.

Sequence-level interpolation (Kim and Rush, 2016, section 3.3); ties go to the higher model score. Each pair is judged
by its own gold, also where several pairs share a source and so a list.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from glob import escape, glob
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.hashing import sha256
from kd.base.processes import Tick, Workers, share
from kd.corpora.finished import adopt_finished, finish_shard, finished, place_aside
from kd.corpora.guards import Guards
from kd.corpora.ids import PLACE_BITS, Origin, Pair, place_of, prefix_of
from kd.corpora.index import Damaged, read_json, write_json
from kd.corpora.leakage import reproduced_facts
from kd.corpora.nbest import Hypothesis, NBestCorpus, NBestShard
from kd.corpora.scores import ScoreFile
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.shards import Shard as CorpusShard
from kd.metrics.selection import Chooser
from kd.metrics.sentence import Candidates, sentence_metric, uses_external_scores
from kd.metrics.statistics import Choice, merged
from kd.models.known import Known, equal_tasks
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import StageForecast, TaskWork, Work
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import Below, OnGuard, SelectConfig, Variant
from kd.stages.outputs import SELECTION

# Of what is learnt: its rank from 0, or `gold`; its score, none of gold; the score of the teacher's best.
COLUMNS = ("rank", "score", "first_score")
GOLD = "gold"
BATCH = 512  # pairs judged at once


class Select(Kind[SelectConfig]):
    """Chooses what the student learns."""

    name = "select"
    version = 2
    config = SelectConfig
    imports = ("numba",)
    roles: ClassVar = {"corpus": Role(), "lists": Role(), "held_out": Role(optional=True)}
    resources = "cpu"
    resumable = True

    def validate(self, config: SelectConfig) -> None:
        """The metric exists, and its scores and threshold are there."""
        sentence_metric(config)
        if uses_external_scores(config) and (config.scores is None) == (config.feature is None):
            raise UserError(
                "Scores made elsewhere are read from one place.",
                "Set either select.scores (a path with {shard} in it) or select.feature (a feature of the lists).",
            )
        if config.scores is not None and "{shard}" not in config.scores:
            raise UserError(
                f"select.scores={config.scores} names one file for all shards.", "Put {shard} into the path."
            )

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """One for each task that decoded."""
        identity, extent = identity_and_extent(stage.config)
        corpus, held_out = stage.input_tasks("corpus"), stage.input_tasks("held_out")
        files = partial(_score_files, stage.config, stage.axis_value)
        for lists in stage.input_tasks("lists"):
            inputs = {"corpus": corpus, "lists": [lists], "held_out": held_out}
            yield TaskSpec(lists.task.name, identity, extent, inputs, files)

    def run(self, job: Job[SelectConfig]) -> None:
        """Goes through the shards of one decoding worker that are not there yet, several at a time."""
        work = _shards_to_select(job)
        wanted = {item.lists.name: item.made_from for item in work}
        for left in job.out.glob(".*"):
            if left.is_dir():  # a shard that was not finished
                shutil.rmtree(left)
        for folder in job.resumable_from:
            adopt_finished(folder, job.out, wanted)
        done = finished(job.out)
        missing = [item for item in work if done.get(item.lists.name, {}).get("made_from") != item.made_from]
        _select_missing(job, missing)
        _complete(job, work)

    def check(self, job: Job[SelectConfig]) -> Summary:
        """The shards and ids of the corpus that was decoded, in the same order, but for what was dropped."""
        selected = Corpus(job.out)
        selected.verify()
        corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
        decoded = {shard.name for shard in NBestCorpus(job.one("lists").path).shards}
        if {shard.name for shard in selected.shards} != decoded:
            raise IncompleteArtifact(f"{job.out} holds other shards than were decoded.")
        by_name = {shard.name: shard for shard in corpus.shards}
        copies = _gold_copies(corpus.origins.values())
        records = finished(job.out)
        for shard in selected.shards:
            _compare_ids(shard, by_name[shard.name], copies, records[shard.name]["facts"])
        summary = _summary(job.config, read_json(job.out / SELECTION), selected.pairs)
        summary.facts |= reproduced_facts((a.path for a in job.inputs.get("held_out", [])), selected)
        return summary

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the hypotheses that are scored."""
        text = known.input(stage, "lists")
        nbest = next((getattr(other.config, "nbest", 0) for _, other in stage.inputs.get("lists", [])), 0) or 1
        hypotheses = text.pairs.times(nbest / len(stage.tasks))
        work = Work(f"select {stage.config.metric}", "hypotheses", hypotheses, text.side_bytes)
        return equal_tasks(stage, TaskWork((work,), pairs=text.pairs.times(1 / len(stage.tasks))), text)


@dataclass(frozen=True)
class _ShardToSelect:
    """All that a process needs to know."""

    config: SelectConfig
    languages: tuple[str, str]
    origins: tuple[Origin, ...]
    corpus: CorpusShard
    lists: NBestShard
    scores: Path | None  # external ones
    out: Path
    made_from: Mapping[str, Any]


def _score_path(config: SelectConfig, languages: Mapping[str, Any], shard: str) -> Path:
    text = str(config.scores)
    for name, value in {**languages, "shard": shard}.items():
        text = text.replace(f"{{{name}}}", str(value))  # not str.format: a path may hold braces of its own
    return Path(text)


def _score_files(config: SelectConfig, languages: Mapping[str, Any]) -> list[Path]:
    """Those that are there; one that is missing is told when its shard's turn comes."""
    if config.scores is None or not uses_external_scores(config):
        return []
    pattern = escape(str(_score_path(config, languages, "{shard}").absolute())).replace("{shard}", "*")
    return sorted(map(Path, glob(pattern)))  # noqa: PTH207 -- Path.glob takes no absolute pattern


def _shards_to_select(job: Job[SelectConfig]) -> list[_ShardToSelect]:
    config = job.config
    corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
    shards = {shard.name: shard for shard in corpus.shards}
    origins = tuple(corpus.origins.values())
    if config.variant is Variant.best_and_gold:
        origins += tuple(_gold_copies(origins).values())
    identity, _ = identity_and_extent(config)
    work = []
    for lists in NBestCorpus(job.one("lists").path).shards:
        if lists.name not in shards:
            raise Damaged(f"{lists.path('nbest')} belongs to no shard of {corpus.folder}.")
        shard, scores = shards[lists.name], None
        made_from: dict[str, Any] = {"settings": identity, "corpus": shard.files, "lists": lists.files}
        if uses_external_scores(config) and config.scores is not None:
            scores = _score_path(config, job.axis_value, lists.name)
            if not scores.is_file():
                raise UserError(f"The scores {scores} are not there.", f"Score the lists in {lists.path('nbest')}.")
            made_from["scores"] = sha256(scores)
        work.append(_ShardToSelect(config, corpus.languages, origins, shard, lists, scores, job.out, made_from))
    return work


def _select_missing(job: Job[SelectConfig], missing: list[_ShardToSelect]) -> None:
    total = sum(item.corpus.lines for item in missing)
    tick = partial(job.progress.update, "selecting", total=total, unit="pairs")
    with Workers(min(job.threads, len(missing)), share, None) as workers:
        for _ in workers.map(_select_shard, missing, tick):
            pass


def _select_shard(_: None, item: _ShardToSelect, tick: Tick) -> None:
    """Write one shard and its record."""
    chooser = Chooser(item.config, Guards(item.config.guards, *item.languages))
    aside = place_aside(item.out, item.lists.name)
    copies = {prefix: copy.prefix for prefix, copy in _gold_copies(item.origins).items()}
    writer = CorpusWriter(aside, item.languages, None, columns=COLUMNS, keep_groups=True, origins=item.origins)
    with writer:
        writer.begin_shard(item.lists.name)
        rows = _candidates(item)
        while batch := list(islice(rows, BATCH)):
            pairs, lists = [pair for pair, _ in batch], [candidates for _, candidates in batch]
            choices = chooser.choose(lists, [pair.source for pair in pairs])
            for pair, candidates, choice in zip(pairs, lists, choices, strict=True):
                _write(writer, pair, candidates, choice, copies if item.config.variant is Variant.best_and_gold else {})
            tick(len(batch))
    finish_shard(item.out, item.lists.name, item.made_from, chooser.statistics.to_json())


def _candidates(item: _ShardToSelect) -> Iterator[tuple[Pair, Candidates]]:
    """Every pair with its list, and the scores made elsewhere where they are asked for."""
    scores = None if item.scores is None else ScoreFile(item.scores)
    line = 1
    for group, nbest in item.lists.beside(item.corpus):
        hypotheses = nbest.hypotheses
        external: list[float] = []
        if scores is not None:
            external = scores.take(len(hypotheses))
        elif item.config.feature is not None and uses_external_scores(item.config):
            external = [_feature(h, item.config.feature, item.lists, line + i) for i, h in enumerate(hypotheses)]
        texts, model_scores = [h.text for h in hypotheses], [h.score for h in hypotheses]
        for pair in group:
            yield pair, Candidates(texts, pair.target, model_scores, external)
        line += len(hypotheses)
    if scores is not None:
        scores.finish()


def _feature(hypothesis: Hypothesis, name: str, lists: NBestShard, line: int) -> float:
    if name not in hypothesis.features:
        raise UserError(
            f"{lists.path('nbest')}, line {line}: there is no feature {name} (select.feature).",
            f"It has {', '.join(hypothesis.features) or 'none'}.",
        )
    return hypothesis.features[name][0]


def _write(writer: CorpusWriter, pair: Pair, candidates: Candidates, choice: Choice, copies: Mapping[int, int]) -> None:
    first = repr(choice.first_score)
    if choice.dropped:
        return
    if choice.rank is None:
        writer.add(pair, GOLD, "", first)
        return
    writer.add(pair._replace(target=candidates.hypotheses[choice.rank]), str(choice.rank), repr(choice.score), first)
    if copies:
        copy = copies[prefix_of(pair.id)] << PLACE_BITS | place_of(pair.id)
        writer.add(pair._replace(id=copy), GOLD, "", first)


def _gold_copies(origins: Any) -> dict[int, Origin]:
    """For each corpus, by prefix, the one that its human targets count as where both are learnt: ids stay unique."""
    ending = f"+{GOLD}"
    return {
        origin.prefix: replace(origin, name=origin.name + ending)
        for origin in origins
        if not origin.name.endswith(ending)
    }


def _complete(job: Job[SelectConfig], work: list[_ShardToSelect]) -> None:
    """Write the index of all shards, and their statistics as one."""
    corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
    origins = work[0].origins if work else corpus.origins.values()
    records = finished(job.out)
    writer = CorpusWriter(job.out, corpus.languages, None, columns=COLUMNS, keep_groups=True, origins=origins)
    with writer:
        for record in records.values():
            writer.count_in(record["entry"])
    nothing = Chooser(job.config).statistics.to_json()
    statistics = merged([nothing, *(record["facts"] for record in records.values())])
    write_json(job.out / SELECTION, {**statistics, "variant": job.config.variant.value})


def _compare_ids(
    selected: CorpusShard, decoded: CorpusShard, copies: Mapping[int, Origin], statistics: Mapping[str, Any]
) -> None:
    """Every id of the decoded shard in its order; its gold copy's may come after it; what was dropped is counted."""
    theirs = decoded.column("id")
    copied, last, dropped = {copy.prefix for copy in copies.values()}, -1, 0
    for line, text in enumerate(selected.column("id"), 1):
        found = int(text)
        if prefix_of(found) in copied:
            if last < 0 or found != copies[prefix_of(last)].prefix << PLACE_BITS | place_of(last):
                raise IncompleteArtifact(f"{selected.path('id')}, line {line}: {found} is no copy of the pair before.")
            last = -1
            continue
        last = found
        for expected in theirs:
            if int(expected) == found:
                break
            dropped += 1
        else:
            raise IncompleteArtifact(f"{selected.path('id')}, line {line}: {found} has no place there.")
        if dropped > statistics["dropped"]:
            raise IncompleteArtifact(f"{selected.path('id')}, line {line}: {found} stands where another belongs.")
    dropped += sum(1 for _ in theirs)
    if dropped != statistics["dropped"] or statistics["lists"] != decoded.lines:
        raise IncompleteArtifact(
            f"{selected.path('id')} lacks {dropped} pairs, and {statistics['dropped']} were dropped."
        )


def _summary(config: SelectConfig, statistics: Mapping[str, Any], pairs: int) -> Summary:
    chosen = statistics["chosen"]
    guards = statistics["no_way_out"] if config.on_guard is OnGuard.drop else {}
    dropped = {f"guard: {guard}": count for guard, count in guards.items()}
    if config.below is Below.drop and statistics["below"]:
        dropped["score below the threshold"] = statistics["below"]
    return Summary(
        {
            "pairs in": statistics["lists"],
            "pairs out": pairs,
            "hypotheses learnt": chosen,
            "other than the model's best": chosen - statistics["ranks"].get("0", 0),
        },
        dropped,
        {
            "metric": statistics["metric"],
            "signature": statistics["signature"],
            "mean score of the first": statistics["sum_first"] / max(1, chosen),
            "mean score of the selected": statistics["sum_selected"] / max(1, chosen),
            "gold instead": statistics["gold"],
            **({"below the threshold": statistics["below"]} if config.variant is Variant.threshold else {}),
            "set aside by guards": statistics["set_aside"],
            "all hypotheses trip": statistics["no_way_out"],
        },
    )
