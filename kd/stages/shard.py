"""Shard: the training corpus without held-out sentences and leaks of them, shuffled and cut into shards.

Pairs are ordered by a seeded hash of their source, so equal sources are adjacent and the first shards are a random
sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.processes import Tick, Workers, share
from kd.corpora.hashing import HASH_BITS, sentence_hash
from kd.corpora.heldout import HeldOutSet, read_sets, side_of
from kd.corpora.ids import Pair
from kd.corpora.index import file_entry, read_json, verify_file, write_json
from kd.corpora.known_testsets import known_test_sets
from kd.corpora.leakage import Guard, Leaks, keep_out, mode
from kd.corpora.lines import LineWriter
from kd.corpora.shards import Corpus, CorpusWriter, Ends
from kd.corpora.shards import Shard as CorpusShard
from kd.corpora.shuffle import shuffle
from kd.models.known import Known, by_pairs
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Job, Kind, Role, Stage, Summary
from kd.recipe.schema import ShardConfig
from kd.stages.outputs import LEAKAGE, LEAKED

PROCESS_PAIRS = 200_000  # that are worth the second which a process takes to start


class Shard(Kind[ShardConfig]):
    """Makes the training corpus."""

    name = "shard"
    version = 2
    config = ShardConfig
    roles: ClassVar = {"corpus": Role(), "held_out": Role()}
    resources = "cpu"

    def run(self, job: Job[ShardConfig]) -> None:
        """Remove held-out sentences and leaks, shuffle, and cut into shards."""
        corpus = Corpus(job.one("corpus").path)
        sets = list(read_sets(job.one("held_out").path))
        chosen = mode(job.config.leakage)
        guard = Guard(sets if chosen != "off" else [], corpus.languages, job.config.one_sided_words)
        with LineWriter(job.out / LEAKED) as sample:
            # Repetitions of a set that was drawn from this corpus are removed; they are not the user's mistake.
            leaks = Leaks(corpus.origins, sample, guard.given if chosen == "fail" else ())
            pairs = _without(job, corpus, sets)
            if chosen != "off":
                pairs = keep_out(pairs, guard, leaks)
            pairs = _refusing(pairs, leaks, str(job.axis))
            kept = _Sample(pairs, job.config)
            written = _write(job, corpus, kept)
        write_json(job.out / LEAKAGE, {"mode": chosen, "one_sided_words": job.config.one_sided_words,
                                       "held_out_sets": guard.sets, **leaks.to_json(),
                                       "sample": file_entry(sample),
                                       **({"beyond_share": kept.beyond} if kept.beyond else {})})  # fmt: skip
        if not written:
            raise UserError(f"Nothing of {job.axis} is left to train on.", "Lower split.dev and split.test.")

    def check(self, job: Job[ShardConfig]) -> Summary:
        """Read the output back: hashes, counts, unique ids, and that it has no sentence of a drawn set."""
        corpus = Corpus(job.out)
        held, side = _drawn(job, list(read_sets(job.one("held_out").path)))
        _verify(job, corpus, frozenset(held), side)
        entered = Corpus(job.one("corpus").path).pairs
        leakage = read_json(job.out / LEAKAGE)
        verify_file(job.out / LEAKED, leakage.pop("sample"))
        beyond = leakage.get("beyond_share", 0)
        held_out = entered - corpus.pairs - leakage["pairs"] - beyond
        counts = {"pairs in": entered, "pairs out": corpus.pairs, "sources": corpus.sources}
        dropped = {f"leaks {_IN_WORDS[kind]}": number for kind, number in sorted(leakage["kinds"].items())}
        dropped |= {"beyond the share": beyond} if beyond else {}
        known = known_test_sets({origin.name: () for origin in corpus.origins.values()})
        facts = {"leakage": {**leakage, "known_test_sets": known}, "note": _note(leakage)}
        return Summary({**counts, "shards": len(corpus.shards)}, {"held out": held_out, **dropped}, facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the pairs that are read; shuffling needs a temporary copy."""
        text = known.input(stage, "corpus")
        # benchmarks/bench_memory.py, 10 million pairs: 2.48 times the compressed output at the peak.
        return by_pairs(stage, text, output=text, temporary_share=1.5)


class _Check(NamedTuple):
    """What a process needs to check a shard."""

    corpus: Corpus
    held: frozenset[str]  # sentences that none of `side` may be
    side: str


def _verify(job: Job[ShardConfig], corpus: Corpus, held: frozenset[str], side: str) -> None:
    """Read the shards back, side by side. Raises IncompleteArtifact."""
    processes = max(1, min(job.threads, len(corpus.shards), corpus.pairs // PROCESS_PAIRS))
    tick = partial(job.progress.update, "checking", total=corpus.pairs, unit="pairs")
    with Workers(processes, share, _Check(corpus, held, side)) as workers:
        corpus.check_ends(workers.map(_verify_shard, corpus.shards, tick))


def _verify_shard(check: _Check, shard: CorpusShard, tick: Tick) -> Ends:
    ends = shard.verify(check.corpus.origins, check.corpus.groups_kept)
    if not check.held.isdisjoint(shard.column(check.side)):
        raise IncompleteArtifact(f"{shard.folder} holds a {check.side} that is held out.")
    tick(shard.lines)
    return ends


_IN_WORDS = {"both": "both sides", "source": "a source", "target": "a target"}


def _note(leakage: dict[str, Any]) -> str:
    if leakage["mode"] == "off":
        return "LEAKAGE GUARD OFF"
    return f"leakage: removed {leakage['pairs']:,}" if leakage["pairs"] else "leakage: clean"


class _Sample:
    """The pairs whose source is in the share, all or none of a source; counts the others."""

    def __init__(self, pairs: Iterable[Pair], config: ShardConfig) -> None:
        self._pairs = pairs
        self._fate = sentence_hash(config.seed, "kd.shard.share")
        self._limit = round(config.share * (1 << HASH_BITS))
        self.beyond = 0

    def __iter__(self) -> Iterator[Pair]:
        for pair in self._pairs:
            if self._fate(pair.source) < self._limit:
                yield pair
            else:
                self.beyond += 1


def _write(job: Job[ShardConfig], corpus: Corpus, pairs: Iterable[Pair]) -> int:
    """Shuffle and cut; return the number of pairs written."""
    writer = CorpusWriter(
        job.out, corpus.languages, job.config.lines, keep_groups=True, origins=corpus.origins.values()
    )
    with writer:
        ordered = shuffle(pairs, job.config.seed, job.out, corpus.pairs)
        for pair in job.progress.follow(ordered, "writing shards", corpus.pairs, "pairs"):
            writer.add(pair)
    return writer.pairs


def _without(job: Job[ShardConfig], corpus: Corpus, sets: list[HeldOutSet]) -> Iterator[Pair]:
    held, side = _drawn(job, sets)
    text_of = attrgetter(side)
    pairs = job.progress.follow(corpus.read(), "leaving out, shuffling", corpus.pairs, "pairs")
    return (pair for pair in pairs if text_of(pair) not in held)


def _drawn(job: Job[ShardConfig], sets: list[HeldOutSet]) -> tuple[set[str], str]:
    """Return the sentences that any pair has drawn, and the side of this corpus that must have none of them."""
    held = {text for each in sets if each.drawn for text in each.texts()}
    return held, side_of(job.one("held_out").path, str(job.axis))


def _refusing(pairs: Iterator[Pair], leaks: Leaks, name: str) -> Iterator[Pair]:
    """Refuse leaks at the end of the corpus, before anything is written, so that the message has all counts."""
    yield from pairs
    leaks.refuse(name)
