"""Decode: write n-best lists of the training sources with the ensemble of teachers, once per distinct source.

Each worker is a task, and shards are the unit of restart: a resumed worker continues with its current shard, and
decoding a larger share of the corpus repeats no shard. A job with several GPUs runs a process on each.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.processes import Workers
from kd.base.world import gpu_counter
from kd.corpora.nbest import (
    LIMIT,
    NBestCorpus,
    NBestList,
    member_features,
    resume_lists,
    write_nbest_index,
)
from kd.corpora.shard import Shard as CorpusShard
from kd.corpora.shards import Corpus
from kd.engines.ctranslate2 import COMPUTE_TYPES
from kd.models.description import read_languages, tag_for
from kd.models.known import Known, equal_tasks
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import Sharing, StageForecast, TaskWork, Work
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import DecodeConfig, DecodeEngine, DecodeMethod, DecodePrecision
from kd.stages import asking
from kd.stages.decoding import GUARD, Decoder, WorkerSpec, init_worker, width_of
from kd.stages.teachers import first_members

SCORES = "natural logarithms, summed over the pieces and the end symbol, divided by their number ** length_penalty"

_LOG = logging.getLogger(__name__)
# Settings that count with one method only.
_SETTINGS_OF = {
    DecodeMethod.sample: ("seed", "temperature", "sample_top", "top_p"),
    DecodeMethod.diverse: ("groups", "diversity"),
}


class Decode(Kind[DecodeConfig]):
    """Translate the training sources."""

    name = "decode"
    version = 5  # 5: without unknown symbols and broken UTF-8
    config = DecodeConfig
    imports = ("torch", "fairseq")
    needs_models = True
    roles: ClassVar = {"corpus": Role(), "teachers": Role(many=True, implies="teacher")}
    resources = "decode"
    resumable = True

    def validate(self, config: DecodeConfig) -> None:
        """Raise UserError for lists longer than the beam and an unknown number format."""
        if config.method is not DecodeMethod.sample:
            _require_list("nbest", config.nbest, config.beam)
        if config.method is not DecodeMethod.beam and config.engine is not DecodeEngine.ensemble:
            raise UserError(
                f"decode.method is {config.method.value}, but decode.engine is {config.engine.value}, which only "
                f"has beam search.",
                "Set decode.engine=ensemble, or decode.method=beam.",
            )
        if config.method is DecodeMethod.diverse and config.beam % (config.groups or 1):
            raise UserError(
                f"decode.beam is {config.beam}, which is not a multiple of decode.groups={config.groups}.",
                "Set decode.groups=null for groups of one hypothesis each.",
            )
        if config.member_nbest is not None:
            _require_list("member_nbest", config.member_nbest, config.beam)
        if config.compute_type not in COMPUTE_TYPES:
            raise UserError(
                f"decode.compute_type is {config.compute_type!r}.", f"Use one of {', '.join(COMPUTE_TYPES)}."
            )
        if config.retry_precision in (config.precision, DecodePrecision.fp16):
            raise UserError(
                f"decode.retry_precision is {config.retry_precision.value}, which does not help against NaN in "
                f"{config.precision.value}.",
                "Set decode.retry_precision to bf16 or fp32, other than decode.precision, or to null.",
            )

    def asks(self, stage: Stage) -> str | None:
        """Return the address of the server that the teacher is behind."""
        return asking.address_of(stage, "teachers")

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task per worker. The number of workers is fixed, so the tasks follow from the config alone."""
        identity, extent = identity_and_extent(stage.config)
        if stage.config.retry_precision is None:
            identity.pop("retry_precision", None)  # without it, lists are the same as before the setting existed
        for method, keys in _SETTINGS_OF.items():
            if stage.config.method is not method:
                identity = {key: value for key, value in identity.items() if key not in keys}
        if stage.config.method is DecodeMethod.sample:
            identity.pop("beam", None)
        identity.pop("teachers", None)  # the inputs have them
        asking.check_pairs(stage, "teachers")
        asking.check_decoding(stage)
        if stage.config.method is DecodeMethod.sample and asking.converted_of(stage):
            identity["drawn_by"] = "ctranslate2"  # until version 0.2.0 such lists came from beam search
        inputs = {role: stage.input_tasks(role) for role in stage.inputs}
        inputs["teachers"] = first_members(asking.inputs_of(stage, "teachers"), stage.config.members, "decode.members")
        for worker in range(stage.config.workers):
            yield TaskSpec(f"worker-{worker}", {**identity, "worker": worker}, extent, inputs)

    def run(self, job: Job[DecodeConfig]) -> None:
        """Decode the worker's shards that are missing or incomplete."""
        shards = _shares(job)
        job.progress.update("checking the shards of earlier attempts")
        done, damaged = resume_lists(job.out, job.resumable_from, {shard.name: shard for shard in shards})
        for problem in damaged.values():
            _LOG.warning("Decoded again: %s", problem)
        missing = [shard for shard in shards if shard.name not in done]
        facts: dict[str, Any] = {
            "scores": SCORES,
            "members": len(job.inputs["teachers"]),
            "length_penalty": job.config.length_penalty,
        }
        endpoint = asking.endpoint_of(job.inputs["teachers"])
        if endpoint is not None:
            facts["scores"] = SCORES if endpoint.settings.logprobs else asking.NO_SCORES
            asking.decode(job, endpoint, missing, sum(shard.sources for shard in shards))
        elif missing:
            job.progress.update("loading the ensemble")
            _decode(job, missing, sum(shard.sources for shard in shards))
        write_nbest_index(job.out, facts)

    def check(self, job: Job[DecodeConfig]) -> Summary:
        """Check that every source's id has a list of at most `nbest` hypotheses with all members' scores."""
        shards = {shard.name: shard for shard in _shares(job)}
        lists = NBestCorpus(job.out)
        if {shard.name for shard in lists.shards} != set(shards):
            raise IncompleteArtifact(f"{job.out} does not have the expected shards.")
        lists.verify(shards)
        features = list(member_features([0.0] * len(job.inputs["teachers"])))
        for shard in lists.shards:
            line = 1
            for nbest in shard.read():
                _check_list(f"{shard.path}, line {line}", nbest, job.config.nbest, features)
                line += len(nbest.hypotheses)
        sources = sum(shard.sources for shard in shards.values())
        counts: dict[str, int | float] = {
            "sources": sources,
            "lists": lists.lists,
            "hypotheses": lists.lines,
            "shards": len(shards),
        }
        facts = _facts(lists)
        endpoint = asking.endpoint_of(job.inputs["teachers"])
        facts |= {"devices": job.world.workers(job.device)} if endpoint is None else asking.price_facts(facts, endpoint)
        return Summary(counts, facts=facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the sentences of each worker; list sizes grow with the text and `nbest`."""
        config, text = stage.config, known.input(stage, "corpus")
        output = replace(text, pairs=text.pairs.times(config.share))
        models = known.models(item.task for item in asking.inputs_of(stage, "teachers"))
        sentences = text.pairs.times(config.share / len(stage.tasks))
        cost = known.translation_flops(models, text, width_of(config))
        work = Work(f"decode {config.engine.value}", "sentences", sentences, cost, Sharing.gpus, "decode")
        lists = replace(work, cost=None if text.side_bytes is None else text.side_bytes * config.nbest)
        if teacher := asking.teacher_of(stage, "teachers"):
            work = asking.asking_work(teacher[1], sentences, text)
        asked = asking.expect(stage, "teachers", known, text, output.pairs, config.nbest)
        return replace(equal_tasks(stage, TaskWork((work,), size=lists), output), asked=asked)


def _require_list(name: str, length: int, beam: int) -> None:
    if not 1 <= length <= beam:
        raise UserError(
            f"decode.{name} is {length} but decode.beam is {beam}.",
            f"Set decode.{name} to a number from 1 to decode.beam.",
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
    """Return the sums of the shards' counts: guards tripped by the best hypothesis, and sources cut or skipped."""
    total: Counter[str] = Counter()
    for shard in lists.shards:
        total.update({name: number for name, number in shard.facts.items() if name != LIMIT})
    guards = {name.removeprefix(GUARD): number for name, number in total.items() if name.startswith(GUARD)}
    return {"guards": guards, **{name: number for name, number in total.items() if not name.startswith(GUARD)}}


def _corpus(job: Job[DecodeConfig]) -> Corpus:
    return Corpus.join(artifact.path for artifact in job.inputs["corpus"])


def _shares(job: Job[DecodeConfig]) -> list[CorpusShard]:
    """Return the worker's shards: of the first `share` of all shards, those with its number modulo the workers."""
    shards = _corpus(job).shards
    wanted = math.ceil(job.config.share * len(shards))
    return list(shards[:wanted][job.identity["worker"] :: job.config.workers])


def _decode(job: Job[DecodeConfig], shards: list[CorpusShard], total: int) -> None:
    """Decode shards with the job's processes; a free process takes the next shard. `total`: number of all sources."""
    done = total - sum(shard.sources for shard in shards)
    processes = job.world.workers(job.device)
    corpus = _corpus(job)
    folders = [artifact.path for artifact in job.inputs["teachers"]]
    tag = tag_for(read_languages(folders[0]), corpus.languages[1], job.inputs["teachers"][0].stage)
    threads = max(1, job.threads // processes)
    spec = WorkerSpec(job.config, folders, corpus.languages, job.out, job.device, threads, tag)

    def tell(more: int) -> None:
        job.progress.update("decoding", done + more, total, "sentences")

    with Workers(min(processes, len(shards)), init_worker, spec, gpu_counter(processes)) as workers:
        for _ in workers.map(Decoder.decode, shards, tell):
            pass
