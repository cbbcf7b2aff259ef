"""Augment: add variants of the training pairs, so that students can handle the input of users.

Before decoding, the teachers translate the variants too: capitals, title case, no final full stop, typing errors, two
sentences in a line, one sentence of several. After selection, numbers, URLs and addresses are copied into both sides.
Shards are independent and the unit of restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.processes import Tick, Workers
from kd.corpora.augment import KINDS, VARIANTS, Augmenter, Rules
from kd.corpora.finished import complete, finished, note_finished, resume_shards
from kd.corpora.heldout import HeldOutSet, read_sets
from kd.corpora.ids import Origin, prefix_of
from kd.corpora.index import write_json
from kd.corpora.leakage import Guard
from kd.corpora.shard import PAIR_COLUMNS, SUFFIX, ShardWriter
from kd.corpora.shard import Shard as CorpusShard
from kd.corpora.shards import Corpus, CorpusWriter, target_columns
from kd.models.known import Known, by_pairs
from kd.pipeline.fingerprint import digest, identity_and_extent
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Job, Kind, Role, Stage, Summary
from kd.recipe.schema import AugmentConfig

COUNTS = "augmented.json"


class Augment(Kind[AugmentConfig]):
    """Add variants to a corpus."""

    name = "augment"
    version = 1
    config = AugmentConfig
    roles: ClassVar = {"corpus": Role(), "held_out": Role(optional=True)}
    resources = "cpu"
    resumable = True

    def is_needed(self, config: AugmentConfig) -> bool:
        """Return whether any share is above 0."""
        return any(getattr(config, kind) for kind in KINDS)

    def validate(self, config: AugmentConfig) -> None:
        """Raise UserError if the shares of variants add up to more than 1."""
        together = sum(getattr(config, kind) for kind in VARIANTS)
        if together > 1:
            raise UserError(
                f"The shares of variants add up to {together:g}, and a source has one variant at most.",
                f"Lower some of {', '.join(VARIANTS)}, so that they add up to 1 or less.",
            )

    def run(self, job: Job[AugmentConfig]) -> None:
        """Write the missing shards, several at a time."""
        corpus = _corpus(job)
        work = _shards(job, corpus)
        wanted = {item.shard.name: item.made_from for item in work}
        done = resume_shards(job.out, job.resumable_from, wanted, SUFFIX)
        missing = [item for item in work if item.shard.name not in done]
        rules = _rules(job, corpus)
        tick = partial(job.progress.update, "augmenting", total=sum(item.shard.lines for item in missing), unit="pairs")
        if missing:
            given = (rules, _held_out(job), corpus.columns, job.out)
            with Workers(min(job.threads, len(missing)), _Shards, *given) as workers:
                for _ in workers.map(_Shards.augment, missing, tick):
                    pass
        _complete(job, corpus, rules)

    def check(self, job: Job[AugmentConfig]) -> Summary:
        """Read the output back; without the variants it must equal the corpus."""
        corpus, augmented = _corpus(job), Corpus(job.out)
        augmented.verify()
        records = finished(job.out)
        shards = {shard.name: shard for shard in corpus.shards}
        if {shard.name for shard in augmented.shards} != set(shards) or records.keys() != shards.keys():
            raise IncompleteArtifact(f"{job.out} holds other shards than the corpus.")
        added = {origin.prefix for origin in _rules(job, corpus).new_origins}
        for shard in augmented.shards:
            _compare_ids(shard, shards[shard.name], added)
        counts: Counter[str] = Counter()
        for record in records.values():
            counts.update(record["facts"])
        numbers = {kind.replace("_", " "): counts[kind] for kind in KINDS if getattr(job.config, kind)}
        if corpus.pairs + sum(numbers.values()) != augmented.pairs:
            raise IncompleteArtifact(f"{job.out} does not hold what was counted.")
        left_out = {reason.replace("_", " "): number for reason, number in sorted(counts.items()) if ":" in reason}
        return Summary(
            {"pairs in": corpus.pairs, "pairs out": augmented.pairs, **numbers, "sources": augmented.sources},
            facts={"variants left out": left_out} if left_out else {},
        )

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the pairs that are read; the shares of variants are added to the output."""
        text = known.input(stage, "corpus")
        more = 1 + sum(getattr(stage.config, kind) for kind in KINDS)
        return by_pairs(stage, text, output=replace(text, pairs=text.pairs.times(more)))


@dataclass(frozen=True)
class _ShardToAugment:
    """The data that a process needs to augment a shard."""

    shard: CorpusShard
    next_source: str | None  # the first source of the next shard
    made_from: str  # hash of the settings and of the files that it is made from


class _Shards:
    """The data that a process needs for all shards."""

    def __init__(self, rules: Rules, held_out: Sequence[HeldOutSet], columns: tuple[str, ...], out: Path) -> None:
        # Every match counts, however short: one sentence of a pair may be a test sentence, and the pair is not.
        guard = Guard(held_out, rules.languages, one_sided_words=0) if held_out else None
        self._rules = replace(rules, guard=guard)
        self._columns = columns[len(PAIR_COLUMNS) :]
        self._out = out

    def augment(self, item: _ShardToAugment, tick: Tick) -> None:
        """Write one shard and its record."""
        following = [] if item.next_source is None else [item.next_source]
        augmenter = Augmenter(self._rules, chain(item.shard.column("source"), following))
        with ShardWriter(self._out, item.shard.name, self._columns) as writer:
            for pair, values in augmenter.rows(item.shard.rows(*self._columns)):
                writer.add(pair, values)
        tick(item.shard.lines)
        entry = {**writer.entry, "made_from": item.made_from, "facts": dict(sorted(augmenter.counts.items()))}
        note_finished(self._out, entry)


def _corpus(job: Job[AugmentConfig]) -> Corpus:
    return Corpus.join(artifact.path for artifact in job.inputs["corpus"])


def _rules(job: Job[AugmentConfig], corpus: Corpus) -> Rules:
    targets = sum(column in target_columns(len(corpus.columns))[1:] for column in corpus.columns)
    return Rules(job.config, corpus.languages, corpus.origins, targets)


def _held_out(job: Job[AugmentConfig]) -> list[HeldOutSet]:
    return [each for artifact in job.inputs.get("held_out", []) for each in read_sets(artifact.path)]


def _shards(job: Job[AugmentConfig], corpus: Corpus) -> list[_ShardToAugment]:
    """Return the shards in order, each with the first source of the next shard that is not empty."""
    identity, _ = identity_and_extent(job.config)
    held_out = [artifact.fingerprint for artifact in job.inputs.get("held_out", [])]
    work: list[_ShardToAugment] = []
    following: str | None = None
    for shard in reversed(corpus.shards):
        read: Mapping[str, Any] = {
            "settings": identity, "held out": held_out, "corpus": shard.file["sha256"], "next": following,
            "origins": [origin.to_json() for origin in corpus.origins.values()],
        }  # fmt: skip
        work.append(_ShardToAugment(shard, following, digest(read)))
        if shard.lines:
            following = next(iter(shard.read())).source
    return work[::-1]


def _complete(job: Job[AugmentConfig], corpus: Corpus, rules: Rules) -> None:
    """Write the index of all shards."""
    origins: list[Origin] = [*corpus.origins.values(), *rules.new_origins]
    records = complete(job.out)
    further = corpus.columns[len(PAIR_COLUMNS) :]
    with CorpusWriter(job.out, corpus.languages, None, further, corpus.groups_kept, origins) as writer:
        for record in records.values():
            writer.count_in(record)
    counts: Counter[str] = Counter()
    for record in records.values():
        counts.update(record["facts"])
    write_json(job.out / COUNTS, dict(sorted(counts.items())))


def _compare_ids(augmented: CorpusShard, shard: CorpusShard, added: set[int]) -> None:
    """Check that a shard has the ids of its input shard, in order, with only variants between them."""
    own = (text for text in augmented.column("id") if prefix_of(int(text)) not in added)
    for line, (found, expected) in enumerate(zip_longest(own, shard.column("id")), 1):
        if found != expected:
            raise IncompleteArtifact(f"{augmented.path} has {found} where line {line} of {shard.path} has {expected}.")
