"""Minimum Bayes risk over n-best lists, compared with sacreBLEU called for each pair of hypotheses."""

from __future__ import annotations

from typing import Any

import pytest
from sacrebleu.metrics import BLEU, CHRF

from kd.metrics.selection import Chooser
from kd.metrics.sentence import Candidates, sentence_metric
from kd.recipe.schema import SelectConfig

LISTS = [
    ["Der Hund bellt laut.", "Der Hund bellt.", "Ein Hund bellt laut.", "Die Katze schläft."],
    ["Artikel 12", "Artikel 13 des Vertrags"],
    ["nur eine"],
    ["doppelt", "doppelt", "anders"],
]


def config(metric: str) -> SelectConfig:
    return SelectConfig(metric=metric, smoothing="exp", tokenizer="13a")


def candidates(hypotheses: list[str], reference: str = "") -> Candidates:
    return Candidates(hypotheses, reference, [-0.1 * rank for rank in range(len(hypotheses))])


@pytest.mark.parametrize(("name", "stock"), [("mbr_bleu", BLEU(effective_order=True)), ("mbr_chrf", CHRF())])
def test_a_score_is_the_mean_against_the_other_hypotheses(name: str, stock: Any) -> None:
    metric = sentence_metric(config(name))
    assert metric.name == name
    assert metric.signature.startswith("mbr|nrefs:1|")
    for hypotheses, found in zip(LISTS, metric.scores([candidates(each) for each in LISTS]), strict=True):
        if len(hypotheses) == 1:
            assert found == [100.0]
            continue
        expected = []
        for rank, hypothesis in enumerate(hypotheses):
            others = [other for place, other in enumerate(hypotheses) if place != rank]
            expected.append(sum(stock.sentence_score(hypothesis, [other]).score for other in others) / len(others))
        assert found == pytest.approx(expected)


def test_the_hypothesis_that_the_others_agree_with_is_chosen_whatever_gold_says() -> None:
    """Gold is the model's best, with which no other has a word in common."""
    hypotheses = ["Die Katze schläft.", "Der Hund bellt laut.", "Der Hund bellt.", "Der Hund bellte."]
    [choice] = Chooser(config("mbr_chrf")).choose([candidates(hypotheses, reference=hypotheses[0])])
    # sacreBLEU 2.6.0, chrF2: means against the others of 8.20, 58.26, 54.52 and 55.01.
    assert (choice.rank, choice.score) == (1, pytest.approx(58.26, abs=0.01))
    [by_gold] = Chooser(config("chrf")).choose([candidates(hypotheses, reference=hypotheses[0])])
    assert by_gold.rank == 0
