"""Select: choose from each n-best list the hypothesis most similar to gold, by smoothed sentence BLEU.

Sequence-level interpolation (Kim and Rush, 2016, section 3.3); ties go to the higher model score. Each pair is judged
by its own gold, even if several pairs share a source and therefore a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from glob import escape, glob
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.hashing import sha256
from kd.base.processes import Workers, share
from kd.corpora.finished import Entry, complete, finished, resume
from kd.corpora.ids import PLACE_BITS, Origin, place_of, prefix_of
from kd.corpora.index import Damaged, read_json, write_json
from kd.corpora.leakage import reproduced_facts
from kd.corpora.nbest import NBestCorpus
from kd.corpora.scores import ScoreCorpus
from kd.corpora.shard import SUFFIX
from kd.corpora.shard import Shard as CorpusShard
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.suspects import FILE as SUSPECTS
from kd.corpora.suspects import PART, merge_suspects
from kd.metrics.selection import Chooser
from kd.metrics.sentence import scored_metrics, sentence_metric, uses_external_scores
from kd.metrics.statistics import merged
from kd.models.known import Known, equal_tasks
from kd.models.languages import bleu_tokenizer
from kd.pipeline.fingerprint import digest, identity_and_extent
from kd.pipeline.forecast import StageForecast, TaskWork, Work
from kd.pipeline.model import Input, Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import Below, OnGuard, SelectConfig, Variant
from kd.stages.asking import check_selection, lists_per_source
from kd.stages.outputs import SELECTION
from kd.stages.selecting import ShardToSelect, columns_of, gold_copies, select_shard
from kd.stages.source_only import check_gold


class Select(Kind[SelectConfig]):
    """Choose the target sentences that the student learns."""

    name = "select"
    version = 4  # 4: guards `unknown` and `limit`
    config = SelectConfig
    imports = ("numba",)
    roles: ClassVar = {
        "corpus": Role(),
        "lists": Role(),
        "scores": Role(optional=True),  # of `score`: read where the metric is one of its scores
        "held_out": Role(optional=True),
    }
    resources = "cpu"
    resumable = True

    def validate(self, config: SelectConfig) -> None:
        """Check that the metric exists and that its scores and threshold are given."""
        sentence_metric(config)
        if uses_external_scores(config) and (config.scores is None) == (config.feature is None):
            raise UserError(
                "Scores made elsewhere must come from exactly one place.",
                "Set either select.scores (a path with {shard} in it) or select.feature (a feature of the lists).",
            )
        if config.scores is not None and "{shard}" not in config.scores:
            raise UserError(f"select.scores={config.scores} names one file for all shards.", "Add {shard} to the path.")

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task for each decoding task."""
        identity, extent = identity_and_extent(stage.config)
        if "target" in stage.axis_value:
            sentence_metric(_for_language(stage.config, stage.axis_value["target"]))  # its tokeniser can be used here
        check_selection(stage)
        check_gold(stage)
        corpus, held_out = stage.input_tasks("corpus"), stage.input_tasks("held_out")
        files = partial(_score_files, stage.config, stage.axis_value)
        scores = _scores_by_task(stage)
        for lists in stage.input_tasks("lists"):
            inputs = {"corpus": corpus, "lists": [lists], "held_out": held_out}
            if scores:
                inputs["scores"] = [scores[lists.task.name]]
            yield TaskSpec(lists.task.name, identity, extent, inputs, files)

    def run(self, job: Job[SelectConfig]) -> None:
        """Select from the missing shards of one decoding task, several at a time."""
        work = _shards_to_select(job)
        wanted = {item.lists.name: item.made_from for item in work}

        def accept(place: Path, entry: Entry) -> bool:
            name = entry["name"]
            if name not in wanted or entry.get("made_from") != wanted[name]:
                return False
            return all(file.is_file() and sha256(file) == known for file, known in _files_of(place, entry).items())

        done = resume(job.out, job.resumable_from, lambda entry: [f.name for f in _files_of(job.out, entry)], accept)
        _select_missing(job, [item for item in work if item.lists.name not in done])
        _complete(job, work)

    def check(self, job: Job[SelectConfig]) -> Summary:
        """Check that shards and ids are those of the decoded corpus, in the same order, except for dropped pairs."""
        selected = Corpus(job.out)
        selected.verify()
        corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
        decoded = {shard.name for shard in NBestCorpus(job.one("lists").path).shards}
        records = finished(job.out)
        if {shard.name for shard in selected.shards} != decoded or records.keys() != decoded:
            raise IncompleteArtifact(f"{job.out} has shards other than those decoded.")
        by_name = {shard.name: shard for shard in corpus.shards}
        copies = gold_copies(corpus.origins.values())
        for shard in selected.shards:
            _compare_ids(shard, by_name[shard.name], copies, records[shard.name]["facts"])
        summary = _summary(job.config, read_json(job.out / SELECTION), selected.pairs)
        summary.facts |= reproduced_facts((a.path for a in job.inputs.get("held_out", [])), selected)
        return summary

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the hypotheses that are scored."""
        text = known.input(stage, "lists")
        hypotheses = text.pairs.times(lists_per_source(stage) / len(stage.tasks))
        work = Work(f"select {stage.config.metric}", "hypotheses", hypotheses, text.side_bytes)
        return equal_tasks(stage, TaskWork((work,), pairs=text.pairs.times(1 / len(stage.tasks))), text)


def _files_of(place: Path, entry: Entry) -> dict[Path, str]:
    """Return the files of a finished shard, with their hashes."""
    files = {place / (entry["name"] + SUFFIX): str(entry.get("sha256"))}
    if "suspects" in entry:
        files[place / (entry["name"] + PART)] = str(entry["suspects"])
    return files


def _for_language(config: SelectConfig, target: str) -> SelectConfig:
    """Return the settings with the tokeniser of the target language, unless one is set."""
    return replace(config, tokenizer=config.tokenizer or bleu_tokenizer(target))


def _scores_by_task(stage: Stage) -> dict[str, Input]:
    """Return the tasks of the stage `score` by the names of the decoding tasks; empty if no scores are needed.

    Raises:
        UserError: The metric needs scores that the stage does not compute.
    """
    needed = scored_metrics(stage.config)
    if not needed:
        return {}
    scores = {item.task.name: item for item in stage.input_tasks("scores")}
    made = [name for item in list(scores.values())[:1] for name in item.task.identity["metrics"]]
    lists = {item.task for item in stage.input_tasks("lists")}
    for name in needed:
        if name not in made:
            raise UserError(
                f"{stage.name} selects by {name}, but its input scores have no {name}.",
                f"Set score.metrics.{name}=true, and chain.{stage.spec.name}.inputs.scores to the stage that scores "
                "these lists.",
            )
    if {each.task for item in scores.values() for each in item.task.inputs.get("lists", [])} != lists:
        raise UserError(
            f"{stage.name} reads scores of lists other than its own.",
            f"Set chain.{stage.spec.name}.inputs.scores to a stage that scores the same lists.",
        )
    return scores


def _score_path(config: SelectConfig, languages: Mapping[str, Any], shard: str) -> Path:
    text = str(config.scores)
    for name, value in {**languages, "shard": shard}.items():
        text = text.replace(f"{{{name}}}", str(value))  # not str.format: a path may hold braces of its own
    return Path(text)


def _score_files(config: SelectConfig, languages: Mapping[str, Any]) -> list[Path]:
    """Return the existing score files; a missing file is reported when its shard is processed."""
    if config.scores is None or not uses_external_scores(config):
        return []
    pattern = escape(str(_score_path(config, languages, "{shard}").absolute())).replace("{shard}", "*")
    return sorted(map(Path, glob(pattern)))  # noqa: PTH207 -- Path.glob takes no absolute pattern


def _shards_to_select(job: Job[SelectConfig]) -> list[ShardToSelect]:
    corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
    config = _for_language(job.config, corpus.languages[1])
    shards = {shard.name: shard for shard in corpus.shards}
    origins = tuple(corpus.origins.values())
    if config.variant is Variant.best_and_gold:
        origins += tuple(gold_copies(origins).values())
    identity, _ = identity_and_extent(config)
    scored = ScoreCorpus(job.one("scores").path) if job.inputs.get("scores") else None
    work = []
    for lists in NBestCorpus(job.one("lists").path).shards:
        if lists.name not in shards:
            raise Damaged(f"{lists.path} belongs to no shard of {corpus.folder}.")
        shard, external, scores = shards[lists.name], None, None
        read: dict[str, Any] = {"settings": identity, "corpus": shard.file["sha256"], "lists": lists.file["sha256"]}
        if uses_external_scores(config) and config.scores is not None:
            external = _score_path(config, job.axis_value, lists.name)
            if not external.is_file():
                raise UserError(f"The file of scores {external} does not exist.", f"Score the lists in {lists.path}.")
            read["scores"] = sha256(external)
        if scored is not None:
            scores = scored.shards.get(lists.name)
            if scores is None:
                raise Damaged(f"{scored.folder} lacks the scores of the shard {lists.name}.")
            read["scored"] = scores.file
        signatures = scored.signatures if scored is not None else {}
        work.append(
            ShardToSelect(
                config, corpus.languages, origins, shard, lists, external, scores, signatures, job.out, digest(read)
            )
        )
    return work


def _select_missing(job: Job[SelectConfig], missing: list[ShardToSelect]) -> None:
    total = sum(item.corpus.lines for item in missing)
    tick = partial(job.progress.update, "selecting", total=total, unit="pairs")
    with Workers(min(job.threads, len(missing)), share, None) as workers:
        for _ in workers.map(select_shard, missing, tick):
            pass


def _complete(job: Job[SelectConfig], work: list[ShardToSelect]) -> None:
    """Write the index of all shards, and their merged statistics."""
    corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
    origins = work[0].origins if work else corpus.origins.values()
    records = complete(job.out)
    writer = CorpusWriter(
        job.out, corpus.languages, None, columns=columns_of(job.config), keep_groups=True, origins=origins
    )
    with writer:
        for record in records.values():
            writer.count_in(record)
    signatures = work[0].signatures if work else {}
    nothing = Chooser(_for_language(job.config, corpus.languages[1]), signatures=signatures).statistics.to_json()
    statistics = merged([nothing, *(record["facts"] for record in records.values())])
    write_json(job.out / SELECTION, {**statistics, "variant": job.config.variant.value})
    if job.config.suspects:
        merge_suspects((job.out / (name + PART) for name in records), job.out / SUSPECTS, job.config.suspects)


def _compare_ids(
    selected: CorpusShard, decoded: CorpusShard, copies: Mapping[int, Origin], statistics: Mapping[str, Any]
) -> None:
    """Check that all ids of the decoded shard are there in order, each with its gold copy; count the dropped."""
    theirs = decoded.column("id")
    copied, last, dropped = {copy.prefix for copy in copies.values()}, -1, 0
    for line, text in enumerate(selected.column("id"), 1):
        found = int(text)
        if prefix_of(found) in copied:
            if last < 0 or found != copies[prefix_of(last)].prefix << PLACE_BITS | place_of(last):
                raise IncompleteArtifact(f"{selected.path}, line {line}: {found} is not a copy of the previous pair.")
            last = -1
            continue
        last = found
        for expected in theirs:
            if int(expected) == found:
                break
            dropped += 1
        else:
            raise IncompleteArtifact(f"{selected.path}, line {line}: {found} is unexpected.")
        if dropped > statistics["dropped"]:
            raise IncompleteArtifact(f"{selected.path}, line {line}: {found} is in the place of another id.")
    dropped += sum(1 for _ in theirs)
    if dropped != statistics["dropped"] or statistics["lists"] != decoded.lines:
        raise IncompleteArtifact(f"{selected.path} lacks {dropped} pairs, but {statistics['dropped']} were dropped.")


def _origins(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many selected hypotheses each member of a mixture found, and how many no other member found."""
    found = {
        name: {"selected": count, "from it alone": statistics["alone"].get(name, 0)}
        for name, count in sorted(statistics["origins"].items())
    }
    return {"selected from": found} if found else {}


def _summary(config: SelectConfig, statistics: Mapping[str, Any], pairs: int) -> Summary:
    chosen = statistics["chosen"]
    guards = statistics["no_way_out"] if config.on_guard is OnGuard.drop else {}
    dropped = {f"guard: {guard}": count for guard, count in guards.items()}
    if config.below is Below.drop:
        misses = {"score below the threshold": statistics["below"], "TER above the limit": statistics["distant"]}
        dropped |= {reason: count for reason, count in misses.items() if count}
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
            **_origins(statistics),
            **({"below the threshold": statistics["below"]} if config.variant is Variant.threshold else {}),
            **({"TER above the limit": statistics["distant"]} if config.max_ter is not None else {}),
            **({"further hypotheses": statistics["further"]} if config.variant is Variant.top else {}),
            "set aside by guards": statistics["set_aside"],
            "all hypotheses trip": statistics["no_way_out"],
        },
    )
