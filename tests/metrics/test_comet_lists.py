"""COMET scores of n-best lists, compared with unbabel-comet called directly on each pair."""

from __future__ import annotations

from pathlib import Path

import pytest
from metrics.tiny_comet import make_checkpoint

from kd.base.errors import UserError
from kd.metrics.comet import Comet
from kd.metrics.comet_lists import ALONE, CometConsensus, CometScorer, ListToScore

LISTS = [
    ListToScore("the rules", ["die Regeln", "Regeln hier ", "der Ausschuss"], "die Regeln gelten"),
    ListToScore("a committee", ["ein Ausschuss", ""], "ein Ausschuss"),
    ListToScore("alone", ["allein"], "einsam"),
    ListToScore("a committee", ["ein Ausschuss", ""], "der Ausschuss"),  # another pair of the same source
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    text = [part for item in LISTS for part in (item.source, *item.hypotheses, item.target)]
    kinds = ["regression_metric", "referenceless_regression_metric", "unified_metric"]
    return {kind: make_checkpoint(tmp_path_factory.mktemp(kind), text * 5, kind) for kind in kinds}


def directly(model: Path, rows: list[tuple[str, ...]]) -> list[float]:
    """Score rows of source, translation and perhaps reference by unbabel-comet, as its documentation says."""
    from comet.models import load_from_checkpoint

    loaded = load_from_checkpoint(str(model / "checkpoints" / "model.ckpt"), local_files_only=True)
    samples = [dict(zip(("src", "mt", "ref"), map(str.strip, row), strict=False)) for row in rows]
    scores: list[float] = loaded.predict(samples, batch_size=1, gpus=0, num_workers=0, progress_bar=False).scores
    return scores


def comet(model: Path) -> Comet:
    return Comet(str(model), batch_size=3, device="cpu")


@pytest.mark.parametrize("with_target", [True, False])
def test_scores_are_those_of_unbabel_comet(models: dict[str, Path], with_target: bool) -> None:
    model = models["regression_metric" if with_target else "referenceless_regression_metric"]
    scorer = CometScorer(comet(model), with_target=with_target)
    rows = [
        (item.source, text, item.target) if with_target else (item.source, text)
        for item in LISTS
        for text in item.hypotheses
    ]
    found = [score for scores in scorer.scores(LISTS) for score in scores]
    assert found == pytest.approx(directly(model, rows), abs=1e-6)
    assert f"model:{model.name}|sha256:" in scorer.signature
    assert scorer.signature.startswith("nrefs:1" if with_target else "nrefs:0")


@pytest.mark.parametrize("kind", ["regression_metric", "unified_metric"])
def test_minimum_bayes_risk_is_the_mean_score_against_the_other_hypotheses(models: dict[str, Path], kind: str) -> None:
    found = CometConsensus(comet(models[kind])).scores(LISTS)
    source, texts, _ = LISTS[0]
    rows = [(source, text, other) for text in texts for other in texts if other != text]
    scores = directly(models[kind], rows)
    assert found[0] == pytest.approx([sum(scores[2 * n : 2 * n + 2]) / 2 for n in range(3)], abs=1e-6)
    source, (one, other), _ = LISTS[1]
    assert found[1] == pytest.approx(directly(models[kind], [(source, one, other), (source, other, one)]), abs=1e-6)
    assert found[2] == [ALONE]
    assert found[3] == found[1]


def test_a_model_of_the_wrong_class_is_refused(models: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"reference-free.*select\.metric=qe"):
        CometScorer(comet(models["referenceless_regression_metric"]), with_target=True)
    with pytest.raises(UserError, match=r"score\.qe\.model\) needs a reference"):
        CometScorer(comet(models["regression_metric"]), with_target=False)
    with pytest.raises(UserError, match="mbr_comet needs references"):
        CometConsensus(comet(models["referenceless_regression_metric"]))
