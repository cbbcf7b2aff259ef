"""Decode: n-best lists of the training sources by the ensemble of teachers, each distinct source once.

Shards are the unit of restart and workers the tasks: a worker that died goes on with the shard it was at, and decoding
a larger share of the corpus repeats none of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from kd.config import DecodeConfig
from kd.corpora.nbest import (
    Hypothesis,
    NBestCorpus,
    NBestList,
    NBestShardWriter,
    adopt_shards,
    finished_shards,
    member_features,
    write_nbest_index,
)
from kd.corpora.shards import Corpus
from kd.corpora.shards import Shard as CorpusShard
from kd.errors import IncompleteArtifact, UserError
from kd.pipeline.contract import Draft, Job, Kind, Role, Summary
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.plan import Stage

if TYPE_CHECKING:
    from kd.engines.fairseq.translate import EnsembleTranslator
    from kd.engines.fairseq.translate import Hypothesis as Found

SCORES = "natural logarithms, summed over the pieces and the end, divided by their number ** length_penalty"


class Decode(Kind[DecodeConfig]):
    """Translates what is trained on."""

    name = "decode"
    version = 1
    config = DecodeConfig
    roles: ClassVar = {"corpus": Role(), "teachers": Role(many=True)}
    resources = "decode"
    resumable = True

    def validate(self, config: DecodeConfig) -> None:
        """The n-best list fits the beam, the share is one."""
        if not 1 <= config.nbest <= config.beam:
            raise UserError(
                f"decode.nbest is {config.nbest} and decode.beam {config.beam}.",
                "A list cannot be longer than the beam is wide, nor empty.",
            )
        if not 0 < config.share <= 1:
            raise UserError(f"decode.share is {config.share}.", "It is a part of the corpus, above 0 and at most 1.")
        if config.workers < 1:
            raise UserError(f"decode.workers is {config.workers}.", "It must be at least 1.")

    def tasks(self, stage: Stage) -> Iterator[Draft]:
        """One a worker; a fixed number, so that they follow from config alone."""
        identity, extent = identity_and_extent(stage.config)
        for worker in range(stage.config.workers):
            yield Draft(f"worker-{worker}", {**identity, "worker": worker}, extent)

    def run(self, job: Job[DecodeConfig]) -> None:
        """Decodes the worker's shards that are not there yet."""
        shards = _shares(job)
        for folder in job.kin:
            adopt_shards(folder, job.out, {shard.name for shard in shards})
        done = finished_shards(job.out)
        missing = [shard for shard in shards if shard.name not in done]
        if missing:
            job.progress.update("loading the ensemble")
            translator = _load(job)
            total = sum(shard.sources for shard in missing)
            before = 0
            for shard in missing:
                _decode(job, shard, translator, before, total)
                before += shard.sources
        facts = {"scores": SCORES, "members": len(job.inputs["teachers"]), "length_penalty": job.config.length_penalty}
        write_nbest_index(job.out, facts)

    def check(self, job: Job[DecodeConfig]) -> Summary:
        """Reads all back: every source has its list, under its id, of at most `nbest` hypotheses."""
        shards = {shard.name: shard for shard in _shares(job)}
        lists = NBestCorpus(job.out)
        if {shard.name for shard in lists.shards} != set(shards):
            raise IncompleteArtifact(f"{job.out} does not hold the shards that it should.")
        lists.verify(shards)
        for shard in lists.shards:
            for nbest in shard.read():
                if len(nbest.hypotheses) > job.config.nbest:
                    raise IncompleteArtifact(f"{shard.path('nbest')}: the list of {nbest.id} is too long.")
        sources = sum(shard.sources for shard in shards.values())
        return Summary({"sources": sources, "lists": lists.lists, "hypotheses": lists.lines, "shards": len(shards)})


def _shares(job: Job[DecodeConfig]) -> list[CorpusShard]:
    """The shards of this worker: of the first ones, as many as `share` says, those of its number modulo the workers."""
    shards = Corpus.join(artifact.path for artifact in job.inputs["corpus"]).shards
    wanted = math.ceil(job.config.share * len(shards))
    return list(shards[:wanted][job.identity["worker"] :: job.config.workers])


def _load(job: Job[DecodeConfig]) -> EnsembleTranslator:
    from kd.engines.fairseq.translate import EnsembleTranslator
    from kd.engines.vocabulary import Vocabulary

    folders = [artifact.path for artifact in job.inputs["teachers"]]
    return EnsembleTranslator(
        folders,
        Vocabulary(folders[0]),
        beam=job.config.beam,
        nbest=job.config.nbest,
        max_pieces=job.config.max_pieces,
        length_penalty=job.config.length_penalty,
        batch_tokens=job.config.batch_tokens,
        threads=job.threads,
        device=job.device,
    )


def _decode(
    job: Job[DecodeConfig], shard: CorpusShard, translator: EnsembleTranslator, before: int, total: int
) -> None:
    groups = [(group[0].id, group[0].source) for group in shard.groups()]
    lists = translator.translate(
        [source for _, source in groups],
        progress=lambda done, _: job.progress.update("decoding", before + done, total, "sentences"),
    )
    with NBestShardWriter(job.out, shard.name) as writer:
        for (pair_id, _), hypotheses in zip(groups, lists, strict=True):
            writer.add(NBestList(pair_id, [_entry(hypothesis) for hypothesis in hypotheses]))


def _entry(found: Found) -> Hypothesis:
    # A line of text holds no line break; the pieces beside it keep what the model wrote.
    text = found.text.replace("\n", " ")
    return Hypothesis(text, member_features(found.member_scores), found.score, " ".join(found.pieces))
