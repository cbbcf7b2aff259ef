"""Scores of given translations by fairseq's models and kd's exports: those of fairseq's own scorer and of the search.

tests/engines/test_converted.py compares the scores of Hugging Face's models with transformers, and test_moses_bpe.py
those of models with BPE codes with fairseq's scorer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.engines.ctranslate2 import export
from kd.engines.fairseq.model import load_models
from kd.engines.fairseq.translate import EnsembleTranslator
from kd.engines.scoring import Scoring, load_scorer
from kd.models.description import Languages, Original
from kd.models.folder import ModelFolder, write_ensemble
from tests.tiny_model import Task, Trained

SCORING = Scoring(("de", "en"), batch_tokens=300, threads=1, device="cpu")
ORIGINAL = Original(Languages(("de",), ("en",)))
LIMITS = {"source": 40, "target": 40}


def reference_of_ids(folders: Sequence[Path], pairs: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """The scores of fairseq's own `SequenceScorer`: mean log-probability of the tokens, one pair at a time."""
    from fairseq.sequence_scorer import SequenceScorer

    models, dictionary = load_models(folders)
    scorer, found = SequenceScorer(dictionary), []
    for pair in pairs:
        source, target = (torch.tensor([[*ids, 2]]) for ids in pair)
        shifted = torch.cat([target[:, -1:], target[:, :-1]], 1)
        sample = {
            "net_input": {"src_tokens": source, "src_lengths": torch.tensor([source.shape[1]]),
                          "prev_output_tokens": shifted},
            "target": target,
        }  # fmt: skip
        with torch.no_grad():
            found.append(float(scorer.generate(models, sample)[0][0]["score"]))
    return found


def reference(folders: Sequence[Path], pairs: Sequence[tuple[str, str]], task: Any) -> list[float]:
    """The scores of `SequenceScorer` for text."""
    return reference_of_ids(folders, [tuple(task.vocabulary.encode_ids(pair)) for pair in pairs])


@pytest.mark.parametrize("form", ["trained", "members", "ensemble", "exported"])
def test_scores_are_those_of_fairseqs_own_scorer(
    form: str, trained: Trained, second: Path, task: Task, tmp_path: Path
) -> None:
    folders = members = [trained.folder, second] if form in ("members", "ensemble") else [trained.folder]
    if form == "ensemble":
        models = [ModelFolder.open(member) for member in members]
        write_ensemble(models, tmp_path, ORIGINAL, longest=LIMITS)
        folders = [tmp_path]
    if form == "exported":
        folders = [tmp_path / "exported"]
        export(trained.folder, folders[0], "float32", ORIGINAL)
    sources, right = zip(*task.dev[:30], strict=True)
    wrong = right[::-1]
    expected = [reference(members, list(zip(sources, side, strict=True)), task) for side in (right, wrong)]
    found = load_scorer(folders, SCORING).score(sources, list(zip(right, wrong, strict=True)))
    for side, scores in zip(expected, zip(*found, strict=True), strict=True):
        assert scores == pytest.approx(side, abs=1e-4)
    assert sum(expected[0]) > sum(expected[1])


@pytest.mark.parametrize("exported", [False, True])
def test_without_a_source_all_targets_have_the_score_of_blank_text(
    exported: bool, trained: Trained, tmp_path: Path
) -> None:
    folder = trained.folder
    if exported:
        folder = tmp_path / "exported"
        export(trained.folder, folder, "float32", ORIGINAL)
    scorer = load_scorer([folder], SCORING)
    assert scorer.score(["  ", "eins."], [["one.", ""], []]) == [[0.0, 0.0], []]
    [[of_nothing]] = scorer.score(["eins."], [[""]])
    assert -40 < of_nothing < 0, "the end of the sentence is scored"
    assert load_scorer([folder], replace(SCORING, blank=-math.inf)).score([""], [["one."]]) == [[-math.inf]]


def test_an_ensemble_scores_text_as_its_search_did(task: Task, trained: Trained, second: Path) -> None:
    folders, sources = [trained.folder, second], [source for source, _ in task.dev[:20]]
    translator = EnsembleTranslator(folders, task.vocabulary, beam=4, nbest=4, max_pieces=30)
    lists = translator.translate(sources)
    scorer = load_scorer(folders, replace(SCORING, max_pieces=30))
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
    scorer = load_scorer([trained.folder], replace(SCORING, max_pieces=3))
    start = task.vocabulary.decode_pieces(task.vocabulary.encode_pieces([target])[0][:3])
    [[short, long]] = scorer.score([source], [[start, target]])
    assert short == long
    assert scorer.score(["  "], [["one.", ""]]) == [[0.0, 0.0]]


def test_text_longer_than_in_training_is_cut(trained: Trained, task: Task) -> None:
    source, target = (" ".join([text] * 40) for text in task.dev[0])
    [[found]] = load_scorer([trained.folder], SCORING).score([source], [[target]])
    assert -20 < found < 0
