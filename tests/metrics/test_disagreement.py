"""Disagreement of an ensemble: the mean of sacreBLEU's own chrF over all ordered pairs of translations."""

from __future__ import annotations

from itertools import permutations

import pytest
import sacrebleu

from kd.corpora.nbest import Hypothesis
from kd.metrics.disagreement import Disagreement, opinions

LISTS = [
    ["Der Hund bellt laut.", "Ein Hund bellt.", "Der Hund bellt laut.", "Etwas ganz anderes"],
    ["gleich", "gleich"],
    ["allein"],
    ["a b c", "ä ö ü"],
]


def test_it_is_the_mean_distance_over_all_pairs() -> None:
    found = Disagreement().scores(LISTS)
    expected = [
        sum(1 - sacrebleu.sentence_chrf(one, [other]).score / 100 for one, other in pairs) / len(pairs)
        for pairs in ([*permutations(texts, 2)] for texts in LISTS)
        if pairs
    ]
    assert found == [pytest.approx(expected[0]), 0.0, None, pytest.approx(expected[2])]


def test_each_member_of_an_ensemble_has_one_opinion() -> None:
    scores = {"eins": (-1.0, -3.0, -2.0), "zwei": (-2.0, -1.0, -3.0), "drei": (-3.0, -2.0, -2.5)}
    ensemble = [
        Hypothesis(text, {f"F{member}": (score,) for member, score in enumerate(each)} | {"QE": (1.0,)}, 0.0, "")
        for text, each in scores.items()
    ]
    assert opinions(ensemble) == ["eins", "zwei", "eins"]
    alone = [Hypothesis(text, {"F0": (-1.0,), "FX": (0.0,)}, 0.0, "") for text in scores]
    assert opinions(alone) == ["eins", "zwei", "drei"]
