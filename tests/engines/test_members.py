"""Engine members: what single members wrote, scored as the ensemble would have; compared with CTranslate2's scores."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from kd.engines.ctranslate2 import convert
from kd.engines.fairseq.translate import EnsembleTranslator, Hypothesis
from kd.engines.members import MembersTranslator
from kd.errors import UserError

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


def test_it_agrees_with_the_ensemble_on_what_both_found(lists, sources: list[str], trained, second, task) -> None:
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
    assert compared > 200
    assert same >= 95


def test_member_scores_are_those_of_ctranslate2(
    lists, sources: list[str], trained, second, task, tmp_path: Path
) -> None:
    import ctranslate2

    pieces = task.vocabulary.encode_pieces(sources)
    rows = [(number, each) for number, found in enumerate(lists) for each in found]
    for member, folder in enumerate((trained.folder, second)):
        convert(folder / "model.pt", folder / "dict.txt", tmp_path / str(member), "float32")
        model = ctranslate2.Translator(str(tmp_path / str(member)), compute_type="float32")
        scored = model.score_batch([pieces[number] for number, _ in rows], [each.pieces for _, each in rows])
        for (_, each), result in zip(rows, scored, strict=True):
            assert len(result.log_probs) == len(each.pieces) + 1  # the end counts
            expected = sum(result.log_probs) / len(result.log_probs)
            assert each.member_scores[member] == pytest.approx(expected, abs=1e-4)


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


def test_what_reaches_the_limit_is_scored_with_its_end(trained, task, sources: list[str]) -> None:
    short = MembersTranslator([trained.folder], task.vocabulary, beam=2, nbest=1, max_pieces=3)
    ensemble = EnsembleTranslator([trained.folder], task.vocabulary, beam=2, nbest=2, max_pieces=3)
    for ours, theirs in zip(short.translate(sources[:20]), ensemble.translate(sources[:20]), strict=True):
        assert len(ours[0].pieces) <= 3
        assert math.isfinite(ours[0].score)
        assert any(
            each.score == pytest.approx(ours[0].score, abs=1e-4) for each in theirs if each.pieces == ours[0].pieces
        )


def test_impossible_wishes_are_explained(trained, task) -> None:
    with pytest.raises(UserError, match="list of a member has 5"):
        MembersTranslator([trained.folder], task.vocabulary, beam=4, nbest=2, member_nbest=5, max_pieces=9)
