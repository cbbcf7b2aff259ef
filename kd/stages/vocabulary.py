"""Vocabulary: one joint sentencepiece model over both sides of everything that is trained on.

Placeholders such as `{name}` become symbols of their own, so that a model cannot break them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import ClassVar

from kd.config import VocabularyConfig
from kd.corpora.shards import Corpus
from kd.engines.vocabulary import Vocabulary, find_placeholders, train
from kd.errors import IncompleteArtifact
from kd.pipeline.contract import Job, Kind, Role, Summary


class TrainVocabulary(Kind[VocabularyConfig]):
    """Trains the vocabulary."""

    name = "vocabulary"
    version = 1
    config = VocabularyConfig
    roles: ClassVar = {"corpora": Role(many=True)}
    resources = "cpu"

    def run(self, job: Job[VocabularyConfig]) -> None:
        """Samples the corpora evenly and trains."""
        corpora = [Corpus(artifact.path) for artifact in job.inputs["corpora"]]
        placeholders: list[str] = []
        if job.config.placeholders and job.config.max_placeholders:
            job.progress.update("looking for placeholders")
            placeholders = find_placeholders(_sentences(corpora), job.config.placeholders, job.config.max_placeholders)
        job.progress.update("training")
        train(_sentences(corpora), job.out, job.config, placeholders)

    def check(self, job: Job[VocabularyConfig]) -> Summary:
        """Loads it, and takes a sentence there and back."""
        vocabulary = Vocabulary(job.out)
        sentence = next(_sentences([Corpus(artifact.path) for artifact in job.inputs["corpora"]]))
        (pieces,) = vocabulary.encode_pieces([sentence])
        if vocabulary.decode_pieces(pieces) != sentence and job.config.normalization == "identity":
            raise IncompleteArtifact(f"{job.out} does not give back the sentence {sentence!r}.")
        return Summary({"pieces": vocabulary.size})


def _sentences(corpora: Sequence[Corpus]) -> Iterator[str]:
    """Both sides of each pair; the corpora in turn, so that the beginning is an even sample of them."""
    # Shards are shuffled, so a prefix of each corpus is a random sample of it.
    for row in zip_longest(*(corpus.read() for corpus in corpora)):
        for pair in row:
            if pair is not None:
                yield pair.source
                yield pair.target
