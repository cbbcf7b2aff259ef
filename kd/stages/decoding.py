"""Decode a shard of the training sources: the work of each process of the stage `decode`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kd.base.processes import Tick
from kd.base.world import take_next_gpu
from kd.corpora.guards import Guards
from kd.corpora.nbest import LIMIT, Hypothesis, NBestList, NBestShardWriter, member_features
from kd.corpora.shard import Shard as CorpusShard
from kd.engines.nan import NaNScores
from kd.models.folder import ModelFolder
from kd.recipe.schema import DecodeConfig, DecodeEngine, DecodeMethod, DecodePrecision, LongSources

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

    from kd.engines.converted import ConvertedTranslator
    from kd.engines.fairseq.sampling import Diversity, Sampling
    from kd.engines.fairseq.translate import EnsembleTranslator
    from kd.engines.hypotheses import Hypothesis as Found
    from kd.engines.members import MembersTranslator

    Translator = EnsembleTranslator | MembersTranslator | ConvertedTranslator

_LOG = logging.getLogger(__name__)
# Names of a shard's counts.
GUARD = "guard "
CAPPED = "sources whose output was limited to the teachers' training length"
RETRIED = "shards decoded again in {precision} after NaN"


@dataclass(frozen=True)
class WorkerSpec:
    """The settings of a process that decodes shards."""

    config: DecodeConfig
    teachers: list[Path]
    languages: tuple[str, str]
    out: Path
    device: str
    threads: int
    tag: str | None


class Decoder:
    """A loaded engine and, once needed, a second engine in a safer precision."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._guards = Guards(spec.config.guards, *spec.languages)
        self._translator = _load(spec, spec.config.precision)
        self._safer: Translator | None = None

    def decode(self, shard: CorpusShard, tick: Tick) -> None:
        """Write the lists of a shard. `tick` counts sources.

        Raises:
            NaNScores: A teacher computed NaN, and `retry_precision` is not set or produced NaN as well.
        """
        retry = self._spec.config.retry_precision
        try:
            self._decode(shard, tick, self._translator)
        except NaNScores as error:
            if retry is None:
                raise
            _LOG.warning("%s is decoded again in %s: %s", shard.name, retry.value, error.problem)
            self._safer = self._safer or _load(self._spec, retry)
            # Its sources were counted in part, so the second attempt does not count.
            self._decode(shard, lambda _: None, self._safer, {RETRIED.format(precision=retry.value): 1})

    def _decode(
        self,
        shard: CorpusShard,
        tick: Tick,
        translator: Translator,
        facts: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        groups = [(group[0].id, group[0].source) for group in shard.groups()]
        reported = 0

        def report(done: int, _: int) -> None:
            nonlocal reported
            tick(done - reported)
            reported = done

        before = Counter(asdict(translator.counts))
        lists = translator.translate([source for _, source in groups], report)
        report(len(groups), len(groups))
        counts = Counter(asdict(translator.counts))
        counts.subtract(before)
        counts.update(facts)
        writer = NBestShardWriter(self._spec.out, shard.name)
        with writer:
            for (pair_id, source), hypotheses in zip(groups, lists, strict=True):
                entries = [_entry(hypothesis) for hypothesis in hypotheses]
                writer.add(NBestList(pair_id, entries))
                limited = len(hypotheses[0].pieces) >= translator.max_pieces
                if guard := self._guards.check(source, entries[0].text, limited):
                    counts[GUARD + guard] += 1
            writer.facts = {LIMIT: translator.max_pieces} | {name: number for name, number in counts.items() if number}
            if translator.max_pieces < self._spec.config.max_pieces:
                writer.facts[CAPPED] = len(groups)


def init_worker(spec: WorkerSpec, next_gpu: Synchronized[int] | None) -> Decoder:
    """Load the engine in a process. `next_gpu`: counter of assigned GPUs; None for a single process."""
    take_next_gpu(next_gpu, spec.device)
    return Decoder(spec)


def _load(spec: WorkerSpec, precision: DecodePrecision) -> Translator:
    from kd.models.vocabulary import Vocabulary

    config = spec.config
    folders = spec.teachers
    if ModelFolder.open(folders[0]).tokenizer:
        return _load_converted(spec)
    settings: dict[str, Any] = {
        "beam": width_of(config),
        "nbest": config.nbest,
        "max_pieces": config.max_pieces,
        "max_source_pieces": config.max_source_pieces,
        "skip_long": config.long_sources is LongSources.skip,
        "length_penalty": config.length_penalty,
        "batch_tokens": config.batch_tokens,
        "precision": precision.value,
        "threads": spec.threads,
        "device": spec.device,
        "tag": spec.tag,
        "disable_unk": config.disable_unk,
    }
    if config.engine is DecodeEngine.ensemble:
        from kd.engines.fairseq.translate import EnsembleTranslator

        return EnsembleTranslator(folders, Vocabulary(folders[0]), method=_method(config), **settings)
    from kd.engines.members import MembersTranslator

    settings |= {"member_nbest": config.member_nbest, "compute_type": config.compute_type}
    return MembersTranslator(folders, Vocabulary(folders[0]), **settings)


def width_of(config: DecodeConfig) -> int:
    """Return the number of hypotheses extended at a time: the beam, or all samples."""
    return config.nbest if config.method is DecodeMethod.sample else config.beam


def _method(config: DecodeConfig) -> Sampling | Diversity | None:
    from kd.engines.fairseq.sampling import Diversity, Sampling

    if config.method is DecodeMethod.sample:
        return Sampling(config.seed, config.temperature, config.sample_top)
    if config.method is DecodeMethod.diverse:
        return Diversity(config.groups or config.beam, config.diversity)
    return None


def _load_converted(spec: WorkerSpec) -> Translator:
    from kd.engines.converted import ConvertedTranslator, require_one

    config = spec.config
    sampled = config.method is DecodeMethod.sample
    return ConvertedTranslator(
        require_one(spec.teachers),
        beam=config.beam,
        nbest=config.nbest,
        max_pieces=config.max_pieces,
        length_penalty=config.length_penalty,
        batch_tokens=config.batch_tokens,
        threads=spec.threads,
        device=spec.device,
        sampling_topk=config.sample_top if sampled else None,
        sampling_topp=config.top_p,
        temperature=config.temperature,
        seed=config.seed if sampled else None,
        max_source_pieces=config.max_source_pieces,
        skip_long=config.long_sources is LongSources.skip,
        disable_unk=config.disable_unk,
    )


def _entry(found: Found) -> Hypothesis:
    # The text stays on one line; the tokens beside it keep the model's output as it is.
    text = found.text.replace("\n", " ")
    return Hypothesis(text, member_features(found.member_scores), found.score, " ".join(found.pieces))
