"""Engine members: hypotheses of single members with the ensemble's scores, compared with CTranslate2's."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd.base.errors import UserError
from kd.engines.ctranslate2 import PieceScorer, convert
from kd.engines.fairseq.model import load_models
from kd.engines.fairseq.stock import ForcedScorer, padded
from kd.engines.fairseq.translate import Ensemble, EnsembleTranslator
from kd.engines.hypotheses import Hypothesis
from kd.engines.members import MembersTranslator, _require_alike
from kd.models.folder import ModelFolder

BEAM, MAX_PIECES = 4, 30


@pytest.fixture(scope="module")
def members(trained, second, task) -> MembersTranslator:
    return MembersTranslator(
        [trained.folder, second], task.vocabulary, beam=BEAM, nbest=BEAM, max_pieces=MAX_PIECES, batch_tokens=300
    )


@pytest.fixture(scope="module")
def sources(task) -> list[str]:
    return [source for source, _ in task.dev]


@pytest.fixture(scope="module")
def lists(members: MembersTranslator, sources: list[str]) -> list[list[Hypothesis]]:
    return members.translate(sources)


def test_scores_equal_the_ensembles_for_common_hypotheses(lists, sources: list[str], trained, second, task) -> None:
    ensemble = EnsembleTranslator(
        [trained.folder, second], task.vocabulary, beam=BEAM, nbest=BEAM, max_pieces=MAX_PIECES
    )
    compared = same = 0
    for ours, theirs in zip(lists, ensemble.translate(sources), strict=True):
        scores = {tuple(each.pieces): each for each in theirs}
        same += ours[0].pieces == theirs[0].pieces
        for each in ours:
            if (other := scores.get(tuple(each.pieces))) is not None:
                compared += 1
                assert each.score == pytest.approx(other.score, abs=1e-4)
                assert each.member_scores == pytest.approx(other.member_scores, abs=1e-4)
                assert each.text == other.text
    assert compared > 150
    assert same > 80


def test_member_scores_are_those_of_ctranslate2(
    lists, sources: list[str], trained, second, task, tmp_path: Path
) -> None:
    import ctranslate2

    pieces = task.vocabulary.encode_pieces(sources)
    rows = [(number, each) for number, found in enumerate(lists) for each in found]
    for member, folder in enumerate((trained.folder, second)):
        convert(ModelFolder.open(folder), tmp_path / str(member), "float32")
        model = ctranslate2.Translator(str(tmp_path / str(member)), compute_type="float32")
        scored = model.score_batch([pieces[number] for number, _ in rows], [each.pieces for _, each in rows])
        for (_, each), result in zip(rows, scored, strict=True):
            assert len(result.log_probs) == len(each.pieces) + 1  # the end counts
            expected = sum(result.log_probs) / len(result.log_probs)
            assert each.member_scores[member] == pytest.approx(expected, abs=1e-4)


def test_scores_are_those_of_fairseqs_own_models(sources: list[str], trained, second, task) -> None:
    folders = [trained.folder, second]
    translator = MembersTranslator(
        folders, task.vocabulary, beam=BEAM, nbest=BEAM, max_pieces=MAX_PIECES, length_penalty=0.6
    )
    models, dictionary = load_models(folders)
    scorer = ForcedScorer(models, dictionary, length_penalty=0.6)
    for source, found in zip(sources[:30], translator.translate(sources[:30]), strict=True):
        [ids] = task.vocabulary.encode_ids([source])
        targets = [[*task.vocabulary.ids_of(each.pieces), dictionary.eos()] for each in found]
        [expected] = scorer.score(padded([[*ids, dictionary.eos()]], dictionary.pad(), left=True), [targets])
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)
            assert ours.member_scores == pytest.approx(theirs.member_scores, abs=1e-4)


def test_a_model_with_other_scores_in_ctranslate2_is_refused(trained, task) -> None:
    class Other:
        def log_probabilities(self, sources: list[list[str]], targets: list[list[str]]) -> list[list[float]]:
            return [[-1.0] * (len(target) + 1) for target in targets]

    ensemble = Ensemble([trained.folder], task.vocabulary, threads=1, device="cpu", precision="fp32")
    with pytest.raises(UserError, match="does not support member 1"):
        _require_alike(ensemble, task.vocabulary, [Other()])  # type: ignore[list-item]


def test_batches_are_halved_until_they_fit() -> None:
    class Small:
        sizes: list[int] = []  # noqa: RUF012

        def score_batch(self, sources: Any, targets: Any, *, max_batch_size: int, **_: Any) -> list[Any]:
            self.sizes.append(max_batch_size)
            if max_batch_size > 30:
                raise RuntimeError("CUDA failed with error out of memory")
            return [SimpleNamespace(log_probs=[-1.0, -2.0]) for _ in targets]

    scorer = PieceScorer(Small(), batch_tokens=100)
    assert scorer.log_probabilities([["a"] * 40, ["b"]], [["c"], ["d"]]) == [[-1.0, -2.0]] * 2
    assert (Small.sizes, scorer.halved) == ([100, 50, 25], 2)
    scorer = PieceScorer(Small(), batch_tokens=100)
    with pytest.raises(UserError, match="single sentence"):
        scorer.log_probabilities([["a"] * 60], [["c"]])


def test_int8_touches_the_search_alone(lists, sources: list[str], trained, second, task) -> None:
    quantised = MembersTranslator(
        [trained.folder, second],
        task.vocabulary,
        beam=BEAM,
        nbest=BEAM,
        max_pieces=MAX_PIECES,
        compute_type="int8",
        batch_tokens=300,
    ).translate(sources[:30])
    compared = 0
    for found, exact in zip(quantised, lists[:30], strict=True):
        scores = {tuple(each.pieces): each.score for each in exact}
        for each in found:
            if (other := scores.get(tuple(each.pieces))) is not None:
                compared += 1
                assert each.score == pytest.approx(other, abs=1e-5)
    assert compared > 30


def test_lists_are_distinct_ranked_and_of_the_length_asked_for(lists) -> None:
    for hypotheses in lists:
        assert 1 <= len(hypotheses) <= BEAM
        assert len({tuple(each.pieces) for each in hypotheses}) == len(hypotheses)
        scores = [each.score for each in hypotheses]
        assert scores == sorted(scores, reverse=True)


def test_more_of_each_member_makes_no_worse_lists(lists, sources: list[str], trained, second, task) -> None:
    fewer = MembersTranslator(
        [trained.folder, second], task.vocabulary, beam=BEAM, nbest=2, member_nbest=1, max_pieces=MAX_PIECES
    ).translate(sources)
    assert all(len(found) <= 2 for found in fewer)
    for many, few in zip(lists, fewer, strict=True):
        assert many[0].score >= few[0].score - 1e-5


def test_order_batches_and_blanks(members: MembersTranslator, lists, sources: list[str], trained, task) -> None:
    seen: list[tuple[int, int]] = []
    found = members.translate(["", sources[3], " "], lambda done, total: seen.append((done, total)))
    assert [each.pieces for each in found[1]] == [each.pieces for each in lists[3]]
    assert (found[0][0].text, found[0][0].score, found[2][0].member_scores) == ("", 0.0, [0.0, 0.0])
    assert seen == [(3, 3)]
    assert members.translate([]) == []


def test_hypotheses_at_the_limit_are_scored_with_their_end(trained, task, sources: list[str]) -> None:
    short = MembersTranslator([trained.folder], task.vocabulary, beam=2, nbest=1, max_pieces=3)
    ensemble = EnsembleTranslator([trained.folder], task.vocabulary, beam=2, nbest=2, max_pieces=3)
    for ours, theirs in zip(short.translate(sources[:20]), ensemble.translate(sources[:20]), strict=True):
        assert len(ours[0].pieces) <= 3
        assert math.isfinite(ours[0].score)
        assert any(
            each.score == pytest.approx(ours[0].score, abs=1e-4) for each in theirs if each.pieces == ours[0].pieces
        )


def test_impossible_wishes_are_explained(trained, task) -> None:
    with pytest.raises(UserError, match="member_nbest is 5 but beam is 4"):
        MembersTranslator([trained.folder], task.vocabulary, beam=4, nbest=2, member_nbest=5, max_pieces=9)
