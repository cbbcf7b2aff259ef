"""Scores of given translations: those of fairseq's own scorer, for trained models, ensembles and exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kd.engines import forced
from kd.engines.ctranslate2 import export
from kd.engines.fairseq.model import load_models
from kd.models.description import Languages
from kd.models.folder import ModelFolder, write_ensemble

LANGUAGES = ("de", "en")
LIMITS = {"source": 40, "target": 40}


def reference(folders: list[Path], pairs: list[tuple[str, str]], task: Any) -> list[float]:
    """The scores of fairseq's own `SequenceScorer`: mean log-probability of the tokens, one pair at a time."""
    from fairseq.sequence_scorer import SequenceScorer

    models, dictionary = load_models(folders)
    scorer, found = SequenceScorer(dictionary), []
    for pair in pairs:
        source, target = (torch.tensor([[*ids, 2]]) for ids in task.vocabulary.encode_ids(pair))
        shifted = torch.cat([target[:, -1:], target[:, :-1]], 1)
        sample = {
            "net_input": {"src_tokens": source, "src_lengths": torch.tensor([source.shape[1]]),
                          "prev_output_tokens": shifted},
            "target": target,
        }  # fmt: skip
        with torch.no_grad():
            found.append(float(scorer.generate(models, sample)[0][0]["score"]))
    return found


def scores(folder: Path, pairs: list[tuple[str, str]], batch_tokens: int = 200) -> list[float]:
    model = forced.load(folder, LANGUAGES, batch_tokens=batch_tokens, threads=1, device="cpu")
    sources, targets = zip(*pairs, strict=True)
    return model.scores(sources, targets)


@pytest.mark.parametrize("form", ["trained", "ensemble", "exported"])
def test_scores_are_those_of_fairseqs_own_scorer(form: str, trained, second, task, tmp_path: Path) -> None:
    members = [trained.folder, second] if form == "ensemble" else [trained.folder]
    folder = trained.folder
    if form == "ensemble":
        folder, models = tmp_path, [ModelFolder.open(member) for member in members]
        write_ensemble(models, folder, languages=Languages(("de",), ("en",)), longest=LIMITS)
    if form == "exported":
        folder = tmp_path / "exported"
        export(trained.folder, folder, "float32", languages=Languages(("de",), ("en",)))
    sides = [source for source, _ in task.dev[:30]], [target for _, target in task.dev[:30]]
    pairs = [*task.dev[:30], *zip(sides[0], reversed(sides[1]), strict=True)]  # right and wrong translations
    expected = reference(members, pairs, task)
    assert scores(folder, pairs) == pytest.approx(expected, abs=1e-4)
    assert sum(expected[:30]) > sum(expected[30:])


def test_text_longer_than_in_training_is_cut(trained, task) -> None:
    source, target = (" ".join([text] * 40) for text in task.dev[0])
    (found,) = scores(trained.folder, [(source, target)])
    assert -20 < found < 0
