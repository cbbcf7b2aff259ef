"""Decode: n-best lists of the training sources by the ensemble of teachers, each distinct source once.

Shards are the unit of restart and workers the tasks: a worker that died goes on with the shard it was at, and decoding
a larger share of the corpus repeats none of it.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from kd.config import DecodeConfig, DecodeEngine, LongSources
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
from kd.engines.description import read_languages, tag_for
from kd.errors import IncompleteArtifact, UserError
from kd.pipeline.contract import Draft, Job, Kind, Role, Summary
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.plan import Stage

if TYPE_CHECKING:
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

    def tasks(self, stage: Stage) -> Iterator[Draft]:
        """One a worker; a fixed number, so that they follow from config alone."""
        identity, extent = identity_and_extent(stage.config)
        for worker in range(stage.config.workers):
            yield Draft(f"worker-{worker}", {**identity, "worker": worker}, extent)

    def run(self, job: Job[DecodeConfig]) -> None:
        """Decodes the worker's shards that are not there yet, or not whole."""
        shards = _shares(job)
        for folder in job.kin:
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
            _Worker(job, sum(shard.sources for shard in shards if shard.name in done), shards).decode(missing)
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
        return Summary(counts, facts=_facts(lists))


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


class _Worker:
    """The engine, loaded, and how far it is."""

    def __init__(self, job: Job[DecodeConfig], done: int, shards: list[CorpusShard]) -> None:
        self._job = job
        self._done = done
        self._total = sum(shard.sources for shard in shards)
        self._guards = Guards(job.config.guards, *_corpus(job).languages)
        self._translator = _load(job)

    def decode(self, shards: list[CorpusShard]) -> None:
        """Shard by shard, each distinct source once."""
        for shard in shards:
            groups = [(group[0].id, group[0].source) for group in shard.groups()]
            before = Counter(asdict(self._translator.counts))
            lists = self._translator.translate([source for _, source in groups], self._tell)
            self._done += len(groups)
            counts = Counter(asdict(self._translator.counts))
            counts.subtract(before)
            writer = NBestShardWriter(self._job.out, shard.name)
            with writer:
                for (pair_id, source), hypotheses in zip(groups, lists, strict=True):
                    entries = [_entry(hypothesis) for hypothesis in hypotheses]
                    writer.add(NBestList(pair_id, entries))
                    if guard := self._guards.check(source, entries[0].text):
                        counts[_GUARD + guard] += 1
                writer.facts = {name: number for name, number in counts.items() if number}
                if self._translator.max_pieces < self._job.config.max_pieces:
                    writer.facts[_CAPPED] = len(groups)

    def _tell(self, done: int, _: int) -> None:
        self._job.progress.update("decoding", self._done + done, self._total, "sentences")


def _load(job: Job[DecodeConfig]) -> EnsembleTranslator | MembersTranslator:
    from kd.engines.vocabulary import Vocabulary

    config = job.config
    folders = [artifact.path for artifact in job.inputs["teachers"]]
    settings: dict[str, Any] = {
        "beam": config.beam,
        "nbest": config.nbest,
        "max_pieces": config.max_pieces,
        "max_source_pieces": config.max_source_pieces,
        "skip_long": config.long_sources is LongSources.skip,
        "length_penalty": config.length_penalty,
        "batch_tokens": config.batch_tokens,
        "precision": config.precision.value,
        "threads": job.threads,
        "device": job.device,
        "tag": tag_for(read_languages(folders[0]), _corpus(job).languages[1], job.inputs["teachers"][0].stage),
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
