"""Ensemble decoding: equal to stock `fairseq-generate`, in order, with honest scores."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.base.errors import UserError
from kd.engines.ctranslate2 import export
from kd.engines.fairseq.loading import load
from kd.engines.fairseq.translate import EnsembleTranslator
from kd.engines.members import MembersTranslator
from kd.engines.translator import Translator
from kd.models.description import Languages, Original
from kd.models.folder import ModelFolder
from kd.models.vocabulary import Vocabulary

BEAM = 4
MAX_PIECES = 30


@pytest.fixture(scope="module")
def ensemble(trained, second, task) -> EnsembleTranslator:
    return EnsembleTranslator(
        [trained.folder, second], task.vocabulary, beam=BEAM, nbest=BEAM, max_pieces=MAX_PIECES, batch_tokens=300
    )


@pytest.fixture(scope="module")
def lists(ensemble: EnsembleTranslator, task):
    return ensemble.translate([source for source, _ in task.dev])


def generated(folders: list[Path], data: Path) -> dict[int, list[tuple[float, list[str]]]]:
    """n-best lists of stock `fairseq-generate` on the dev set: natural-log score and pieces, by line."""
    command = [
        *(sys.executable, "-m", "kd.engines.fairseq", "fairseq-generate", str(data), "--gen-subset", "valid"),
        *("--path", ":".join(str(folder / "model.pt") for folder in folders), "--task", "translation", "--cpu"),
        *("--source-lang", "source", "--target-lang", "target", "--max-tokens", "500", "--nbest", str(BEAM)),
        *("--beam", str(BEAM), "--max-len-a", "0", "--max-len-b", str(MAX_PIECES)),
    ]
    output = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    found: dict[int, list[tuple[float, list[str]]]] = {}
    for number, score, pieces in re.findall(r"^H-(\d+)\t(\S+)\t(.*)$", output, re.MULTILINE):
        found.setdefault(int(number), []).append((float(score) * math.log(2), pieces.split(" ") if pieces else []))
    return found


def test_hypotheses_and_scores_equal_those_of_fairseq_generate(lists, trained, second, task) -> None:
    stock = generated([trained.folder, second], task.data)
    assert len(stock) == len(lists) == 100
    for number, ours in enumerate(lists):
        theirs = stock[number]
        assert [hypothesis.score for hypothesis in ours] == pytest.approx([score for score, _ in theirs], abs=1e-4)
        # Hypotheses of equal score may come in either order.
        assert {tuple(hypothesis.pieces) for hypothesis in ours} == {tuple(pieces) for _, pieces in theirs}


def test_the_score_of_an_ensemble_of_one_is_its_member_score(trained, task) -> None:
    for penalty in (1.0, 0.6):
        translator = EnsembleTranslator(
            [trained.folder], task.vocabulary, beam=3, nbest=3, max_pieces=MAX_PIECES, length_penalty=penalty
        )
        for hypotheses in translator.translate([source for source, _ in task.dev[:30]]):
            for hypothesis in hypotheses:
                assert hypothesis.member_scores == pytest.approx([hypothesis.score], abs=1e-4)


def test_the_ensemble_is_at_least_as_sure_as_its_less_sure_member(lists) -> None:
    # Step by step it does; so over a sentence the ensemble is at least as sure as the less sure member.
    for hypotheses in lists:
        for hypothesis in hypotheses:
            assert len(hypothesis.member_scores) == 2
            assert hypothesis.score >= min(hypothesis.member_scores) - 1e-4


def test_scores_descend_and_texts_equal_the_decoded_pieces(lists, task) -> None:
    vocabulary = task.vocabulary
    for hypotheses in lists:
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert all(hypothesis.text == vocabulary.decode_pieces(hypothesis.pieces) for hypothesis in hypotheses)
        assert all(len(hypothesis.pieces) <= MAX_PIECES for hypothesis in hypotheses)


def test_order_and_batches_do_not_matter(ensemble: EnsembleTranslator, lists, task) -> None:
    sources = [source for source, _ in task.dev]
    backwards = ensemble.translate(sources[::-1])[::-1]
    for one, other in zip(backwards, lists, strict=True):
        assert [hypothesis.text for hypothesis in one] == [hypothesis.text for hypothesis in other]
    alone = ensemble.translate(sources[3:4])[0]
    assert [h.text for h in alone] == [h.text for h in lists[3]]
    assert [h.score for h in alone] == pytest.approx([h.score for h in lists[3]], abs=1e-4)


def test_blank_sources_stay_in_place(ensemble: EnsembleTranslator, task) -> None:
    source = task.dev[0][0]
    seen: list[tuple[int, int]] = []
    results = ensemble.translate(["", source, "  ", "\u2028"], lambda done, total: seen.append((done, total)))
    assert [hypotheses[0].text for hypotheses in (results[0], results[2], results[3])] == ["", "", ""]
    assert results[1][0].text == ensemble.translate([source])[0][0].text != ""
    assert seen == [(4, 4)]
    assert ensemble.translate([]) == []


def test_long_sources_are_cut_and_counted(ensemble: EnsembleTranslator) -> None:
    before = ensemble.counts.cut
    [hypotheses] = ensemble.translate(["eins zwei drei " * 40])
    assert ensemble.counts.cut == before + 1
    assert len(hypotheses[0].pieces) <= MAX_PIECES


def test_impossible_wishes_are_explained(trained, task, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nbest is 5"):
        EnsembleTranslator([trained.folder], task.vocabulary, beam=4, nbest=5, max_pieces=9)
    ModelFolder.open(trained.folder).copy(tmp_path)
    (tmp_path / "dict.txt").unlink()
    with pytest.raises(UserError, match=r"There is no .*dict\.txt"):
        EnsembleTranslator([tmp_path], task.vocabulary, beam=4, max_pieces=9)
    (tmp_path / "dict.txt").write_text("piece 1\n")
    with pytest.raises(UserError, match="different vocabularies"):
        EnsembleTranslator([trained.folder, tmp_path], task.vocabulary, beam=4, max_pieces=9)


def likes(trained: Any, piece: str, out: Path) -> Path:
    """Write a model that gives a piece a higher score than the full stop, wherever it would write one."""
    model = ModelFolder.open(trained.folder)
    model.copy(out)
    state = load(model.weights)
    pieces = Vocabulary(trained.folder)
    wanted, stop = pieces.ids_of([piece, "."])
    for name in {"decoder.embed_tokens.weight", "decoder.output_projection.weight"} & state["model"].keys():
        weight = state["model"][name].clone()
        weight[wanted] = 1.2 * weight[stop]
        state["model"][name] = weight
    vars(state["cfg"]["model"]).update(share_all_embeddings=False, share_decoder_input_output_embed=True)
    torch.save(state, out / "model.pt")
    return out


@pytest.mark.parametrize(("piece", "sign"), [("<unk>", "⁇"), ("<0xFF>", "\ufffd")])
@pytest.mark.parametrize("kind", [EnsembleTranslator, MembersTranslator])
def test_unknown_symbols_and_broken_bytes_are_written_only_if_allowed(
    trained, task, tmp_path: Path, piece: str, sign: str, kind: Any
) -> None:
    folder = likes(trained, piece, tmp_path / "model")
    sources = [source for source, _ in task.dev[:20]]
    for allowed in (True, False):
        translator = kind([folder], Vocabulary(folder), beam=4, nbest=4, max_pieces=MAX_PIECES, disable_unk=not allowed)
        lists = translator.translate(sources)
        assert all(lists)
        assert any(sign in each.text for hypotheses in lists for each in hypotheses) == allowed
    export(folder, tmp_path / "export", "float32", Original(Languages(("de",), ("en",))))
    for path in (folder, tmp_path / "export"):
        for allowed in (True, False):
            texts = Translator(path, disable_unk=not allowed, as_is=True).translate(sources)
            assert any(sign in text for text in texts) == allowed


@pytest.mark.parametrize("kind", [EnsembleTranslator, MembersTranslator])
def test_hypotheses_that_reach_the_limit_are_counted(trained, task, kind: Any) -> None:
    translator = kind([trained.folder], task.vocabulary, beam=2, nbest=2, max_pieces=3)
    lists = translator.translate([source for source, _ in task.dev[:20]])
    reached = sum(len(each.pieces) == 3 for hypotheses in lists for each in hypotheses)
    assert translator.counts.limited == reached > 20
    fresh = kind([trained.folder], task.vocabulary, beam=2, nbest=2, max_pieces=MAX_PIECES)
    fresh.translate([source for source, _ in task.dev[:20]])
    assert fresh.counts.limited < reached / 4
