"""Vocabulary: train one joint sentencepiece model on both sides of all training corpora.

Placeholders such as `{name}` become separate symbols, which a model cannot split.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from kd.base.errors import IncompleteArtifact
from kd.base.estimate import Estimate
from kd.corpora.sampling import by_language, sample_sentences, shares
from kd.corpora.shards import Corpus
from kd.models.description import tag_of
from kd.models.known import Known, equal_tasks
from kd.models.vocabulary import Vocabulary, find_placeholders, train
from kd.pipeline.forecast import StageForecast, TaskWork, Work
from kd.pipeline.model import Job, Kind, Role, Stage, Summary
from kd.recipe.schema import VocabularyConfig

PLACEHOLDER_SENTENCES = 10_000_000  # at most, that are searched for placeholders


class TrainVocabulary(Kind[VocabularyConfig]):
    """Train the vocabulary."""

    name = "vocabulary"
    version = 2
    config = VocabularyConfig
    roles: ClassVar = {"corpora": Role(many=True)}
    resources = "cpu"

    def run(self, job: Job[VocabularyConfig]) -> None:
        """Sample languages and corpora by their shares, and train."""
        config = job.config
        placeholders: list[str] = []
        if config.placeholders and config.max_placeholders:
            sentences = _sample(job, PLACEHOLDER_SENTENCES, "looking for placeholders")
            placeholders = find_placeholders(sentences, config.placeholders, config.max_placeholders)
        _say(job)
        tags = sorted({tag_of(corpus.languages[1]) for corpus in _corpora(job)}) if config.tags else []
        train(_sample(job, config.sample, "sampling"), job.out, config, placeholders, tags)

    def check(self, job: Job[VocabularyConfig]) -> Summary:
        """Load the vocabulary, and encode and decode a sentence."""
        vocabulary = Vocabulary(job.out)
        corpora = _corpora(job)
        sentence = next(pair.source for corpus in corpora for pair in corpus.read())
        (pieces,) = vocabulary.encode_pieces([sentence])
        written = sentence.replace("\u2581", " ")  # sentencepiece's mark of a space, which is decoded as a space
        if vocabulary.decode_pieces(pieces) != written and job.config.normalization == "identity":
            raise IncompleteArtifact(f"{job.out} does not give back the sentence {sentence!r}.")
        sentences = min(job.config.sample, 2 * sum(corpus.pairs for corpus in corpora))
        return Summary({"sentences": sentences, "pieces": vocabulary.size})

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the sentences that are sampled, at most both sides of all pairs."""
        text = known.input(stage, "corpora")
        pairs = text.pairs.value
        sentences = Estimate(None if pairs is None else min(2 * pairs, stage.config.sample), text.pairs.source)
        return equal_tasks(stage, TaskWork((Work(self.name, "sentences", sentences, text.side_bytes),), allowance=5e6))


def _corpora(job: Job[VocabularyConfig]) -> list[Corpus]:
    return [Corpus(artifact.path) for artifact in job.inputs["corpora"]]


def _say(job: Job[VocabularyConfig]) -> None:
    """Print the share of each language in the sample, if the shares of several languages differ much."""
    config, corpora = job.config, _corpora(job)
    counts = by_language(shares(corpora, config.sample, config.language_exponent))
    told = ", ".join(f"{language} {count / sum(counts.values()):.0%}" for language, count in counts.items())
    if config.language_exponent or max(counts.values()) < 1.5 * min(counts.values()):
        return
    job.progress.say(
        f"{job.stage}: the vocabulary's sample is {told}, because some languages have too little text. "
        f"vocabulary.sample={len(counts) * min(counts.values())} gives each language the same share."
    )


def _sample(job: Job[VocabularyConfig], count: int, what: str) -> Iterator[str]:
    """Yield the sentences of a sample; report the progress of sampling and then of the training."""
    corpora = _corpora(job)
    count = min(count, 2 * sum(corpus.pairs for corpus in corpora))
    sentences = sample_sentences(corpora, count, job.config.seed, job.config.language_exponent)
    yield from job.progress.follow(sentences, what, count, "sentences")
    job.progress.update("training", notes={"sentences": f"{count:,}"})
