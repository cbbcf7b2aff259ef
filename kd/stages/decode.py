"""Decode: n-best lists of the training sources by the ensemble of teachers, each distinct source once.

Shards are the unit of restart and workers the tasks: a worker that died goes on with the shard it was at, and decoding
a larger share of the corpus repeats none of it. Where a job has several GPUs, its worker is a process on each of them.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.processes import Tick, Workers
from kd.base.world import take_gpu
from kd.corpora.guards import Guards
from kd.corpora.guards import validate as validate_guards
from kd.corpora.nbest import (
    Hypothesis,
    NBestCorpus,
    NBestList,
    NBestShardWriter,
    adopt_shards,
    finished_shards,
    member_features,
    salvage_shards,
    write_nbest_index,
)
from kd.corpora.shards import Corpus
from kd.corpora.shards import Shard as CorpusShard
from kd.engines.ctranslate2 import COMPUTE_TYPES
from kd.models.description import read_languages, tag_for
from kd.models.known import Known, equal_tasks
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import Sharing, StageForecast, TaskWork, Work
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import DecodeConfig, DecodeEngine, LongSources

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

    from kd.engines.fairseq.translate import EnsembleTranslator
    from kd.engines.fairseq.translate import Hypothesis as Found
    from kd.engines.members import MembersTranslator

SCORES = "natural logarithms, summed over the pieces and the end, divided by their number ** length_penalty"

_LOG = logging.getLogger(__name__)
# Names among a shard's counts.
_GUARD = "guard "
_CAPPED = "sources whose output was limited to the teachers' training length"


class Decode(Kind[DecodeConfig]):
    """Translates what is trained on."""

    name = "decode"
    version = 3
    config = DecodeConfig
    imports = ("torch", "fairseq")
    needs_models = True
    roles: ClassVar = {"corpus": Role(), "teachers": Role(many=True)}
    resources = "decode"
    resumable = True

    def validate(self, config: DecodeConfig) -> None:
        """Lists fit the beam, the share is one, the engine has what it is asked for."""
        _require_list("nbest", config.nbest, config.beam)
        if config.member_nbest is not None:
            _require_list("member_nbest", config.member_nbest, config.beam)
        if not 0 < config.share <= 1:
            raise UserError(f"decode.share is {config.share}.", "It is a part of the corpus, above 0 and at most 1.")
        for name in ("workers", "max_pieces", "batch_tokens"):
            if getattr(config, name) < 1:
                raise UserError(f"decode.{name} is {getattr(config, name)}.", "It must be at least 1.")
        if config.max_source_pieces is not None and config.max_source_pieces < 1:
            raise UserError(f"decode.max_source_pieces is {config.max_source_pieces}.", "Set it to 1 or more, or null.")
        if config.compute_type not in COMPUTE_TYPES:
            raise UserError(
                f"decode.compute_type is {config.compute_type!r}.", f"Use one of {', '.join(COMPUTE_TYPES)}."
            )
        validate_guards(config.guards)

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """One a worker; a fixed number, so that they follow from config alone."""
        identity, extent = identity_and_extent(stage.config)
        for worker in range(stage.config.workers):
            yield TaskSpec(f"worker-{worker}", {**identity, "worker": worker}, extent)

    def run(self, job: Job[DecodeConfig]) -> None:
        """Decodes the worker's shards that are not there yet, or not whole."""
        shards = _shares(job)
        for folder in job.resumable_from:
            adopt_shards(folder, job.out, {shard.name for shard in shards})
        job.progress.update("looking at what is there")
        for what in salvage_shards(job.out, {shard.name: shard for shard in shards}).values():
            _LOG.warning("Decoded again: %s", what)
        done = finished_shards(job.out)
        missing = [shard for shard in shards if shard.name not in done]
        facts: dict[str, Any] = {
            "scores": SCORES,
            "members": len(job.inputs["teachers"]),
            "length_penalty": job.config.length_penalty,
        }
        if missing:
            job.progress.update("loading the ensemble")
            _decode(job, missing, sum(shard.sources for shard in shards))
        write_nbest_index(job.out, facts)

    def check(self, job: Job[DecodeConfig]) -> Summary:
        """Reads all back: every source has its list, under its id, of at most `nbest` hypotheses of all members."""
        shards = {shard.name: shard for shard in _shares(job)}
        lists = NBestCorpus(job.out)
        if {shard.name for shard in lists.shards} != set(shards):
            raise IncompleteArtifact(f"{job.out} does not hold the shards that it should.")
        lists.verify(shards)
        features = list(member_features([0.0] * len(job.inputs["teachers"])))
        for shard in lists.shards:
            line = 1
            for nbest in shard.read():
                _check_list(f"{shard.path('nbest')}, line {line}", nbest, job.config.nbest, features)
                line += len(nbest.hypotheses)
        sources = sum(shard.sources for shard in shards.values())
        counts: dict[str, int | float] = {
            "sources": sources,
            "lists": lists.lists,
            "hypotheses": lists.lines,
            "shards": len(shards),
        }
        return Summary(counts, facts={**_facts(lists), "devices": job.world.workers(job.device)})

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the sentences of each worker; lists grow with the text and the hypotheses of each."""
        config, text = stage.config, known.input(stage, "corpus")
        models = known.models(item.task for item in stage.input_tasks("teachers"))
        sentences = text.pairs.times(config.share / len(stage.tasks))
        cost = known.translation_flops(models, text, config.beam)
        work = Work(f"decode {config.engine.value}", "sentences", sentences, cost, Sharing.gpus, "decode")
        lists = replace(work, cost=None if text.side_bytes is None else text.side_bytes * config.nbest)
        output = replace(text, pairs=text.pairs.times(config.share))
        return equal_tasks(stage, TaskWork((work,), size=lists), output)


def _require_list(name: str, length: int, beam: int) -> None:
    if not 1 <= length <= beam:
        raise UserError(
            f"decode.{name} is {length} and decode.beam {beam}.",
            "A list cannot be longer than the beam is wide, nor empty.",
        )


def _check_list(where: str, nbest: NBestList, most: int, features: list[str]) -> None:
    if len(nbest.hypotheses) > most:
        raise IncompleteArtifact(f"{where}: the list of {nbest.id} has more than {most} hypotheses.")
    if list(nbest.hypotheses[0].features) != features:
        raise IncompleteArtifact(f"{where}: the list of {nbest.id} lacks the scores of a teacher.")
    scores = [hypothesis.score for hypothesis in nbest.hypotheses]
    if scores != sorted(scores, reverse=True):
        raise IncompleteArtifact(f"{where}: the list of {nbest.id} is not in the order of its scores.")


def _facts(lists: NBestCorpus) -> dict[str, Any]:
    """What the shards' writers counted, added up: guards that the model's best trips, and what befell sources."""
    total: Counter[str] = Counter()
    for shard in lists.shards:
        total.update(shard.facts)
    guards = {name.removeprefix(_GUARD): number for name, number in total.items() if name.startswith(_GUARD)}
    return {"guards": guards, **{name: number for name, number in total.items() if not name.startswith(_GUARD)}}


def _corpus(job: Job[DecodeConfig]) -> Corpus:
    return Corpus.join(artifact.path for artifact in job.inputs["corpus"])


def _shares(job: Job[DecodeConfig]) -> list[CorpusShard]:
    """The shards of this worker: of the first ones, as many as `share` says, those of its number modulo the workers."""
    shards = _corpus(job).shards
    wanted = math.ceil(job.config.share * len(shards))
    return list(shards[:wanted][job.identity["worker"] :: job.config.workers])


def _decode(job: Job[DecodeConfig], shards: list[CorpusShard], total: int) -> None:
    """Each of the shards by one of the job's processes, which take them as they get free; `total` sources in all."""
    done = total - sum(shard.sources for shard in shards)
    processes = job.world.workers(job.device)
    corpus = _corpus(job)
    folders = [artifact.path for artifact in job.inputs["teachers"]]
    tag = tag_for(read_languages(folders[0]), corpus.languages[1], job.inputs["teachers"][0].stage)
    threads = max(1, job.threads // processes)
    order = _Order(job.config, folders, corpus.languages, job.out, job.device, threads, tag)
    seats = None if processes == 1 else multiprocessing.get_context("spawn").Value("i", 0)

    def tell(more: int) -> None:
        job.progress.update("decoding", done + more, total, "sentences")

    with Workers(min(processes, len(shards)), _sit_down, order, seats) as workers:
        for _ in workers.map(_decode_shard, shards, tell):
            pass


@dataclass(frozen=True)
class _Order:
    """All that a process has to know to decode shards."""

    config: DecodeConfig
    teachers: list[Path]
    languages: tuple[str, str]
    out: Path
    device: str
    threads: int
    tag: str | None


class _Decoder:
    """The engine, loaded."""

    def __init__(self, order: _Order) -> None:
        self._order = order
        self._guards = Guards(order.config.guards, *order.languages)
        self._translator = _load(order)

    def decode(self, shard: CorpusShard, tick: Tick) -> None:
        """Leaves the lists of a shard, each distinct source decoded once; `tick` counts sources."""
        groups = [(group[0].id, group[0].source) for group in shard.groups()]
        told = 0

        def tell(done: int, _: int) -> None:
            nonlocal told
            tick(done - told)
            told = done

        before = Counter(asdict(self._translator.counts))
        lists = self._translator.translate([source for _, source in groups], tell)
        tell(len(groups), len(groups))
        counts = Counter(asdict(self._translator.counts))
        counts.subtract(before)
        writer = NBestShardWriter(self._order.out, shard.name)
        with writer:
            for (pair_id, source), hypotheses in zip(groups, lists, strict=True):
                entries = [_entry(hypothesis) for hypothesis in hypotheses]
                writer.add(NBestList(pair_id, entries))
                if guard := self._guards.check(source, entries[0].text):
                    counts[_GUARD + guard] += 1
            writer.facts = {name: number for name, number in counts.items() if number}
            if self._translator.max_pieces < self._order.config.max_pieces:
                writer.facts[_CAPPED] = len(groups)


_decoder: _Decoder | None = None  # of this process


def _sit_down(order: _Order, seats: Synchronized[int] | None) -> None:
    """Makes ready to decode: of several processes each has a GPU for itself. `seats`: how many are taken."""
    global _decoder  # noqa: PLW0603
    if seats is not None:
        with seats.get_lock():
            seat, seats.value = seats.value, seats.value + 1
        if order.device != "cpu":
            take_gpu(seat)
    _decoder = _Decoder(order)


def _decode_shard(shard: CorpusShard, tick: Tick) -> None:
    assert _decoder is not None
    _decoder.decode(shard, tick)


def _load(order: _Order) -> EnsembleTranslator | MembersTranslator:
    from kd.models.vocabulary import Vocabulary

    config = order.config
    folders = order.teachers
    settings: dict[str, Any] = {
        "beam": config.beam,
        "nbest": config.nbest,
        "max_pieces": config.max_pieces,
        "max_source_pieces": config.max_source_pieces,
        "skip_long": config.long_sources is LongSources.skip,
        "length_penalty": config.length_penalty,
        "batch_tokens": config.batch_tokens,
        "precision": config.precision.value,
        "threads": order.threads,
        "device": order.device,
        "tag": order.tag,
    }
    if config.engine is DecodeEngine.ensemble:
        from kd.engines.fairseq.translate import EnsembleTranslator

        return EnsembleTranslator(folders, Vocabulary(folders[0]), **settings)
    from kd.engines.members import MembersTranslator

    settings |= {"member_nbest": config.member_nbest, "compute_type": config.compute_type}
    return MembersTranslator(folders, Vocabulary(folders[0]), **settings)


def _entry(found: Found) -> Hypothesis:
    # A line of text holds no line break; the pieces beside it keep what the model wrote.
    text = found.text.replace("\n", " ")
    return Hypothesis(text, member_features(found.member_scores), found.score, " ".join(found.pieces))
