"""A seeded sample of sentences for training a vocabulary, divided by language, and within a language by corpus.

Corpora are read only as far as the sample needs, and none of their text is kept in memory.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from kd.corpora.hashing import HASH_BITS, sentence_hash
from kd.corpora.ids import Pair, prefix_of
from kd.corpora.shard import Shard
from kd.corpora.shards import Corpus

WEIGHED = 100_000  # pairs that the mean weight of a corpus is taken from, where its sources have different ones
_SPARE = 1.1  # as many more pairs as are needed are read, so that the seed has a choice

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Share:
    """The numbers of sentences that a sample takes from a corpus folder."""

    corpus: Corpus
    source: int
    target: int


def shares(corpora: Sequence[Corpus], sentences: int, language_exponent: float = 0.0) -> list[Share]:
    """Divide `sentences` over languages, and each language's part over the corpora that have it on one side.

    A language gets a part proportional to its number of sentences to the power of `language_exponent`. With 0 all parts
    are equal, so a language that occurs in many pairs, such as English, gets no more than any other; with 1 a part is
    proportional to size (Conneau and Lample, 2019, use 0.5, later work 0.2 to 0.3). Within a language, the part of a
    corpus is proportional to its sentences times the mean weight of its sources. If a language or corpus has too few
    sentences, the others get the rest; if there are too few in all, every sentence is taken.
    """
    places = [(number, side) for number in range(len(corpora)) for side in (0, 1)]
    sizes = {place: corpora[place[0]].pairs for place in places}
    masses = {place: sizes[place] * _mean_weight(corpora[place[0]]) for place in places}
    by_language: dict[str, list[tuple[int, int]]] = {}
    for number, side in places:
        by_language.setdefault(corpora[number].languages[side], []).append((number, side))
    there = {language: sum(sizes[place] for place in these) for language, these in by_language.items()}
    wishes = {language: count**language_exponent if count else 0.0 for language, count in there.items()}
    taken: dict[tuple[int, int], int] = {}
    for language, part in allot(sentences, wishes, there).items():
        these = by_language[language]
        taken |= allot(part, {place: masses[place] for place in these}, {place: sizes[place] for place in these})
    return [Share(corpus, taken[number, 0], taken[number, 1]) for number, corpus in enumerate(corpora)]


def by_language(taken: Sequence[Share]) -> dict[str, int]:
    """Return the number of sentences of each language in a sample."""
    counts: dict[str, int] = {}
    for share in taken:
        for language, count in zip(share.corpus.languages, (share.source, share.target), strict=True):
            counts[language] = counts.get(language, 0) + count
    return counts


def allot(total: int, wishes: Mapping[K, float], most: Mapping[K, int]) -> dict[K, int]:
    """Return whole numbers proportional to `wishes`, none above its `most`, that add up to `total` if possible."""
    given = dict.fromkeys(wishes, 0)
    left = min(total, sum(most.values()))
    while left:
        open_ = [key for key in wishes if given[key] < most[key]]
        weight = sum(wishes[key] for key in open_)
        parts = {key: left * (wishes[key] / weight if weight else 1 / len(open_)) for key in open_}
        rounded = {key: min(int(part), most[key] - given[key]) for key, part in parts.items()}
        if not any(rounded.values()):  # less than one each: the largest parts first
            for key in sorted(open_, key=lambda key: -parts[key])[:left]:
                rounded[key] = 1
        for key, part in rounded.items():
            given[key] += part
        left -= sum(rounded.values())
    return given


def sample_sentences(
    corpora: Sequence[Corpus], sentences: int, seed: int, language_exponent: float = 0.0
) -> Iterator[str]:
    """Yield at most `sentences` sentences of both sides, divided as `shares` says; equal seeds give equal samples.

    Shards hold a shuffled corpus, so a seeded choice of shards is as good as all of them. Sources with different
    weights count by size times weight, and not at all with weight 0.
    """
    for share in shares(corpora, sentences, language_exponent):
        pairs = _chosen(share.corpus, max(share.source, share.target), seed)
        for number, pair in enumerate(pairs):
            if number < share.source:
                yield pair.source
            if number < share.target:
                yield pair.target


def _chosen(corpus: Corpus, count: int, seed: int) -> Iterator[Pair]:
    """Yield `count` pairs of a corpus, each source represented by size times weight as far as it has enough pairs."""
    weights = _weights(corpus)
    heaviest = max(weights.values(), default=1.0) or 1.0
    lightest = min((weight for weight in weights.values() if weight > 0), default=heaviest)
    needed = count * heaviest / lightest
    shards = _shards(corpus, needed * _SPARE, seed)
    there = sum(shard.lines for shard in shards)
    limits = {
        prefix: (1 << HASH_BITS) * min(1.0, needed * _SPARE / max(there, 1)) * weight / heaviest
        for prefix, weight in weights.items()
    }
    fate = sentence_hash(seed, "vocabulary")

    def sweep(first: bool) -> Iterator[Pair]:
        for shard in shards:
            for pair in shard.read():
                prefix = prefix_of(pair.id)
                if weights.get(prefix, 1.0) > 0 and (fate(str(pair.id)) < limits.get(prefix, 1 << HASH_BITS)) == first:
                    yield pair

    given = 0
    for first in (True, False):  # what is left over at first fills up where the corpus is too small to choose
        for pair in islice(sweep(first), count - given):
            given += 1
            yield pair
        if given == count:
            return


def _shards(corpus: Corpus, pairs: float, seed: int) -> list[Shard]:
    """Choose, by the seed, enough shards to hold that many pairs, or all shards if they hold fewer."""
    shuffled = list(corpus.shards)
    random.Random(f"{seed} {' '.join(corpus.languages)}").shuffle(shuffled)
    chosen: list[Shard] = []
    while shuffled and sum(shard.lines for shard in chosen) < pairs:
        chosen.append(shuffled.pop())
    return sorted(chosen, key=lambda shard: shard.name)


def _weights(corpus: Corpus) -> dict[int, float]:
    return {prefix: float(getattr(origin, "weight", 1.0)) for prefix, origin in corpus.origins.items()}


def _mean_weight(corpus: Corpus) -> float:
    """Return the mean weight of a corpus folder's pairs; estimated from its first pairs if sources differ in weight."""
    weights = _weights(corpus)
    if len(set(weights.values())) < 2:
        return next(iter(weights.values()), 1.0)
    seen = [weights.get(prefix_of(int(text)), 1.0) for text in islice(corpus.column("id"), WEIGHED)]
    return sum(seen) / max(len(seen), 1)
