"""Scores of given translations by fairseq's models: those that the search gave the same tokens.

tests/engines/test_converted.py compares the scores of Hugging Face's models with transformers.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.engines.fairseq.translate import EnsembleTranslator
from kd.engines.scoring import Scoring, load_scorer
from tests.tiny_model import Task, Trained


def test_an_ensemble_scores_text_as_its_search_did(task: Task, trained: Trained, second: Path) -> None:
    folders, sources = [trained.folder, second], [source for source, _ in task.dev[:20]]
    translator = EnsembleTranslator(folders, task.vocabulary, beam=4, nbest=4, max_pieces=30)
    lists = translator.translate(sources)
    scorer = load_scorer(folders, Scoring(("de", "en"), 30, 300, "fp32", 1, "cpu"))
    found = scorer.score(sources, [[each.text for each in hypotheses] for hypotheses in lists])
    pairs = [
        (score, each.score)
        for scores, hypotheses in zip(found, lists, strict=True)
        for score, each in zip(scores, hypotheses, strict=True)
        if task.vocabulary.encode_pieces([each.text]) == [each.pieces]  # a search may find other tokens of a text
    ]
    assert len(pairs) > 40
    assert [score for score, _ in pairs] == pytest.approx([score for _, score in pairs], abs=1e-4)


def test_of_a_translation_beyond_the_limit_the_beginning_is_scored(task: Task, trained: Trained) -> None:
    source, target = task.dev[0]
    scorer = load_scorer([trained.folder], Scoring(("de", "en"), 3, 300, "fp32", 1, "cpu"))
    start = task.vocabulary.decode_pieces(task.vocabulary.encode_pieces([target])[0][:3])
    [[short, long]] = scorer.score([source], [[start, target]])
    assert short == long
    assert scorer.score(["  "], [["one.", ""]]) == [[0.0, 0.0]]
