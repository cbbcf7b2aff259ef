"""Words by frequency and typical n-grams; the expected values are worked out by hand from compare-mt's definitions."""

from __future__ import annotations

import pytest

from kd.metrics.words import FrequencyBucket, NgramCount, frequencies, tokens, word_report

HYPOTHESES = ["the cat sat", "the the dog"]
REFERENCES = [["the cat slept"], ["the dog ran"]]
KNOWN = {"the": 2000, "cat": 3, "dog": 3, "ran": 1}


def test_word_accuracy_is_f1_by_frequency_in_the_training_text() -> None:
    found = word_report(HYPOTHESES, REFERENCES, KNOWN, "the training text")
    assert found.counted_in == "the training text"
    assert found.frequencies == [
        FrequencyBucket(0, 0, 1, 0.0, 0.0, 0.0),  # slept; the output has sat instead
        FrequencyBucket(1, 1, 1, 0.0, 0.0, 0.0),  # ran
        FrequencyBucket(2, 4, 2, 1.0, 1.0, 1.0),  # cat, dog
        FrequencyBucket(1000, None, 2, pytest.approx(2 / 3), 1.0, pytest.approx(0.8)),  # the: 3 in the output
    ]


def test_a_word_counts_as_often_as_the_reference_with_most_of_it_has_it() -> None:
    [bucket] = word_report(["a a"], [["a", "a a a"]], {"a": 5}, "").frequencies
    assert (bucket.words, bucket.precision, bucket.recall) == (3, 1.0, pytest.approx(2 / 3))


def test_typical_ngrams_are_ordered_by_the_smoothed_ratio() -> None:
    found = word_report(["x x x", "b"], [["x"], ["b c c"]], {}, "", number=3)
    # Smoothed by 1 as compare-mt does: "x x" (2 + 1) / (2 + 0 + 2), "x x x" 2 / 3, "x" (3 + 1) / (3 + 1 + 2).
    assert found.over == [NgramCount("x x", 2, 0), NgramCount("x x x", 1, 0), NgramCount("x", 3, 1)]
    # "c" 1 / 4; the others (0 + 1) / (0 + 1 + 2): longer ones first, then by the alphabet.
    assert found.under == [NgramCount("c", 0, 2), NgramCount("b c c", 0, 1), NgramCount("b c", 0, 1)]


def test_punctuation_is_apart_and_chinese_is_cut_at_characters() -> None:
    assert tokens("Don't panic, it's 3.5!") == ["Don't", "panic", ",", "it's", "3", ".", "5", "!"]
    assert tokens("今天 good") == ["今", "天", "good"]
    assert frequencies(["a b", "a"]) == {"a": 2, "b": 1}
