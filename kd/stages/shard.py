"""Shard: the training corpus without what is held out, shuffled and cut.

Pairs are ordered by a seeded hash of their source: equal sources are adjacent, a prefix of shards is a random sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from kd.config import ShardConfig
from kd.corpora.heldout import read_heldout
from kd.corpora.ids import Pair
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.shuffle import shuffle
from kd.errors import IncompleteArtifact, UserError
from kd.pipeline.contract import Artifact, Job, Kind, Role, Summary


class Shard(Kind[ShardConfig]):
    """Makes the corpus that is trained on."""

    name = "shard"
    version = 1
    config = ShardConfig
    roles: ClassVar = {"corpus": Role(), "held_out": Role()}
    resources = "cpu"

    def run(self, job: Job[ShardConfig]) -> None:
        """Leaves out, shuffles, cuts."""
        corpus = Corpus(job.one("corpus").path)
        held = _held_out_sources(job.one("held_out"))
        pairs = job.progress.follow(_without(corpus, held), "shuffling", corpus.pairs, "pairs")
        writer = CorpusWriter(
            job.out, corpus.languages, job.config.lines, keep_groups=True, origins=corpus.origins.values()
        )
        with writer:
            for pair in shuffle(pairs, job.config.seed, job.out, corpus.pairs):
                writer.add(pair)
        if not writer.pairs:
            raise UserError(f"Nothing of {job.axis} is left to train on.", "Lower split.dev and split.test.")

    def check(self, job: Job[ShardConfig]) -> Summary:
        """Reads all back: hashes, counts, unique ids, and that no held-out source is there."""
        corpus = Corpus(job.out)
        corpus.verify()
        held = _held_out_sources(job.one("held_out"))
        if any(source in held for source in corpus.column("source")):
            raise IncompleteArtifact(f"{job.out} holds a source that is held out.")
        entered = Corpus(job.one("corpus").path).pairs
        counts = {"pairs in": entered, "pairs out": corpus.pairs, "sources": corpus.sources}
        return Summary({**counts, "shards": len(corpus.shards)}, {"held out": entered - corpus.pairs})


def _without(corpus: Corpus, held: set[str]) -> Iterator[Pair]:
    return (pair for pair in corpus.read() if pair.source not in held)


def _held_out_sources(artifact: Artifact) -> set[str]:
    """Of every language pair: what one tests on, no other trains on."""
    names = [path.parent.name for path in sorted(artifact.path.glob("*/index.json"))]
    return {pair.source for name in names for use in ("dev", "test") for pair in read_heldout(artifact.path, name, use)}
