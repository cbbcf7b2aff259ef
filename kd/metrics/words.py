"""Words and n-grams that systems get right or wrong: accuracy by frequency, over- and under-produced n-grams.

Both follow compare-mt (Neubig et al., 2019): words match within a segment, each at most as often as in the reference.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_CJK = "\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_CJK}]|[^\\s{_CJK}]+")
_PUNCTUATED = re.compile(f"[{_CJK}]|[^\\W{_CJK}]+(?:['’-][^\\W{_CJK}]+)*|[^\\w\\s]")
FREQUENCIES = ((0, 0), (1, 1), (2, 4), (5, 9), (10, 99), (100, 999), (1000, None))
"""Buckets of word frequency, both ends included; None: no upper end."""
LONGEST_NGRAM = 4  # words
TRAINING_SENTENCES = 500_000  # of training text that are counted


@dataclass(frozen=True)
class FrequencyBucket:
    """Accuracy on the reference's words of some frequency.

    Attributes:
        least: Lowest frequency.
        most: Highest frequency; None: unlimited.
        words: Number of words with that frequency in the references.
        precision: Share of the system's words of that frequency that match.
        recall: Share of the references' words of that frequency that match.
        f1: Harmonic mean of precision and recall; compare-mt's word accuracy.
    """

    least: int
    most: int | None
    words: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class NgramCount:
    """An n-gram of words and its number of occurrences in the outputs and in the references."""

    text: str
    produced: int
    expected: int


@dataclass(frozen=True)
class WordReport:
    """Words and n-grams of one system.

    Attributes:
        frequencies: Accuracy by frequency; buckets without words are left out.
        counted_in: Name of the text that the frequencies were counted in.
        over: N-grams that the system writes more often than the references, the most typical first.
        under: N-grams that it writes less often.
    """

    frequencies: list[FrequencyBucket] = field(default_factory=list)
    counted_in: str = ""
    over: list[NgramCount] = field(default_factory=list)
    under: list[NgramCount] = field(default_factory=list)


def words(text: str) -> list[str]:
    """Split at white space; split Chinese and Japanese, which have none, into characters."""
    return _WORD.findall(text)


def tokens(text: str) -> list[str]:
    """Split into words and punctuation marks; Chinese and Japanese into characters."""
    return _PUNCTUATED.findall(text)


def frequencies(lines: Iterable[str]) -> Counter[str]:
    """Count the words of a text."""
    found: Counter[str] = Counter()
    for line in lines:
        found.update(tokens(line))
    return found


def word_report(
    hypotheses: Sequence[str],
    by_segment: Sequence[Sequence[str]],
    known: Mapping[str, int],
    counted_in: str,
    number: int = 10,
) -> WordReport:
    """Compare the words of a system with those of the references.

    Args:
        hypotheses: One per segment.
        by_segment: The references of each segment; a word counts as often as in the reference that has it most often.
        known: Frequency of each word.
        counted_in: Name of the text that `known` was counted in.
        number: Number of n-grams to list on either side.
    """
    outputs = [tokens(line) for line in hypotheses]
    references = [[tokens(text) for text in texts] for texts in by_segment]
    produced, expected = Counter[str](), Counter[str]()
    for output, texts in zip(outputs, references, strict=True):
        produced.update(_ngrams(output))
        expected.update(_most(_ngrams(text) for text in texts))
    return WordReport(_accuracy(outputs, references, known), counted_in, *_typical(produced, expected, number))


def _accuracy(
    outputs: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]], known: Mapping[str, int]
) -> list[FrequencyBucket]:
    produced, expected, matched = Counter[int](), Counter[int](), Counter[int]()
    for output, texts in zip(outputs, references, strict=True):
        here, there = Counter(output), _most(Counter(text) for text in texts)
        for counts, total in ((here, produced), (there, expected), (here & there, matched)):
            for word, count in counts.items():
                total[_bucket(known.get(word, 0))] += count
    found = []
    for place, (least, most) in enumerate(FREQUENCIES):
        if expected[place]:
            precision = matched[place] / produced[place] if produced[place] else 0.0
            recall = matched[place] / expected[place]
            f1 = 2 * precision * recall / (precision + recall) if matched[place] else 0.0
            found.append(FrequencyBucket(least, most, expected[place], precision, recall, f1))
    return found


def _bucket(frequency: int) -> int:
    return next(i for i, (_, most) in enumerate(FREQUENCIES) if most is None or frequency <= most)


def _ngrams(output: Sequence[str]) -> Counter[str]:
    return Counter(
        " ".join(output[start : start + size])
        for size in range(1, LONGEST_NGRAM + 1)
        for start in range(len(output) - size + 1)
    )


def _most(counts: Iterable[Counter[str]]) -> Counter[str]:
    """Return the highest of several counts of each item."""
    found: Counter[str] = Counter()
    for each in counts:
        found |= each
    return found


def _typical(produced: Counter[str], expected: Counter[str], number: int) -> tuple[list[NgramCount], list[NgramCount]]:
    """Return the n-grams most typical of the outputs and of the references, by compare-mt's ratio, smoothed by 1."""
    share = {ngram: (produced[ngram] + 1) / (produced[ngram] + expected[ngram] + 2) for ngram in produced | expected}
    order = sorted(share, key=lambda ngram: (-abs(share[ngram] - 0.5), -len(ngram.split(" ")), ngram))

    def first(sign: int) -> list[NgramCount]:
        ngrams = (ngram for ngram in order if (share[ngram] - 0.5) * sign > 0)
        return [NgramCount(ngram, produced[ngram], expected[ngram]) for ngram in itertools.islice(ngrams, number)]

    return first(1), first(-1)
