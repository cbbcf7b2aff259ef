"""Clean: pairs that are no training material go, each counted by the first reason that applies.

Corpora that are held-out sets by the recipe's word are left as they are.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain
from typing import ClassVar

from kd.config import CleanConfig
from kd.corpora.filters import clean
from kd.corpora.shards import Corpus, CorpusWriter
from kd.errors import UserError
from kd.pipeline.contract import Job, Kind, Role, Summary

LINES_PER_SHARD = 500_000
COUNTS = "counts.json"


class Clean(Kind[CleanConfig]):
    """Filters the training corpora of a language pair and joins them."""

    name = "clean"
    version = 1
    config = CleanConfig
    roles: ClassVar = {"corpus": Role()}
    resources = "cpu"

    def run(self, job: Job[CleanConfig]) -> None:
        """Streams all corpora through the filters."""
        corpora = [Corpus(artifact.path) for artifact in job.inputs["corpus"]]
        training = [corpus for corpus in corpora if all(o.use == "train" for o in corpus.origins.values())]
        if not training:
            raise UserError(f"{job.axis} has no corpus to train on.", "Give one of corpus.sources the use train.")
        total = sum(corpus.pairs for corpus in training)
        origins = [origin for corpus in training for origin in corpus.origins.values()]
        counts: Counter[str] = Counter()
        pairs = chain.from_iterable(corpus.read() for corpus in training)
        with CorpusWriter(job.out, training[0].languages, LINES_PER_SHARD, origins=origins) as writer:
            for pair in clean(job.progress.follow(pairs, "cleaning", total, "pairs"), job.config, counts):
                writer.add(pair)
        if not writer.pairs:
            raise UserError(f"Cleaning left no pair of {job.axis}: {dict(counts)}.", "Loosen the settings of clean.")
        (job.out / COUNTS).write_text(json.dumps({"in": total, "dropped": counts}), "utf-8")

    def check(self, job: Job[CleanConfig]) -> Summary:
        """Compares what was written with its index, and the counts with one another."""
        corpus = Corpus(job.out)
        corpus.verify()
        counts = json.loads((job.out / COUNTS).read_text("utf-8"))
        return Summary({"pairs in": counts["in"], "pairs out": corpus.pairs}, counts["dropped"])
