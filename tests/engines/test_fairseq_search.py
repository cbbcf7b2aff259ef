"""kd's beam search equals fairseq's, for every kind of Transformer that it supports."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kd.base.errors import UserError
from kd.engines.fairseq import compat
from kd.engines.fairseq.decoding_batches import halving
from kd.engines.fairseq.search import StackedSearch, _largest
from kd.engines.fairseq.stacked import Stack
from kd.engines.fairseq.stacked_weights import unsupported
from kd.engines.fairseq.stock import ForcedScorer, StockSearch, padded
from kd.engines.fairseq.translate import Frame, _search
from kd.engines.hypotheses import Counts

PIECES = 60
SETTINGS: dict[str, Any] = {"beam": 4, "max_pieces": 14, "length_penalty": 1.0}
SMALL = ["--encoder-layers", "2", "--decoder-layers", "2", "--encoder-embed-dim", "16", "--decoder-embed-dim", "16"]
SMALL += ["--encoder-ffn-embed-dim", "24", "--decoder-ffn-embed-dim", "24"]
SMALL += ["--encoder-attention-heads", "2", "--decoder-attention-heads", "2"]
PRE_NORM = ["--encoder-normalize-before", "--decoder-normalize-before"]


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory: pytest.TempPathFactory) -> Any:
    compat.install()
    from fairseq.data import Dictionary

    path = tmp_path_factory.mktemp("dictionary") / "dict.txt"
    path.write_text("".join(f"p{number} 1\n" for number in range(PIECES)), "utf-8")
    return Dictionary.load(str(path))


def built(dictionary: Any, seed: int, *flags: str) -> Any:
    """A model of stock fairseq with random weights, its end of sentence not too rare."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.tasks.translation import TranslationConfig, TranslationTask

    torch.manual_seed(seed)
    arguments = options.parse_args_and_arch(
        options.get_training_parser(), input_args=["", "--arch", "transformer", *SMALL, *flags]
    )
    task = TranslationTask(TranslationConfig(), dictionary, dictionary)
    model = task.build_model(convert_namespace_to_omegaconf(arguments).model).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))  # gains of 1 and biases of 0 would hide mistakes
        if model.decoder.output_projection is not None:
            model.decoder.output_projection.weight[dictionary.eos()] *= 6
    return model


def sources(dictionary: Any, lengths: list[int]) -> torch.Tensor:
    rows = [[*torch.randint(4, PIECES, (length,)).tolist(), dictionary.eos()] for length in lengths]
    return padded(rows, dictionary.pad(), left=True)


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal hypotheses, scores and members' scores, in order; only neighbours of equal score may have swapped."""
    assert len(ours) == len(theirs)
    for mine, stock in zip(ours, theirs, strict=True):
        assert [each.score for each in mine] == pytest.approx([each.score for each in stock], rel=1e-5, abs=1e-5)
        expected = {tuple(each.ids): each for each in stock}
        assert {tuple(each.ids) for each in mine} == set(expected)
        for each in mine:
            other = expected[tuple(each.ids)]
            assert each.score == pytest.approx(other.score, rel=1e-5, abs=1e-5)
            assert each.member_scores == pytest.approx(other.member_scores, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param([PRE_NORM] * 3, id="pre-norm, untied"),
        pytest.param([[*PRE_NORM, "--share-all-embeddings"]] * 4, id="pre-norm, tied"),
        pytest.param([["--share-decoder-input-output-embed"]] * 2, id="post-norm"),
        pytest.param([["--activation-fn", "gelu", "--layernorm-embedding"]] * 2, id="gelu, normalised embeddings"),
        pytest.param(
            [["--encoder-learned-pos", "--decoder-learned-pos", "--no-scale-embedding"]] * 2, id="learned positions"
        ),
        pytest.param([[*PRE_NORM, "--no-token-positional-embeddings"]] * 2, id="no positions"),
        pytest.param([["--encoder-embed-dim", "24"]] * 2, id="a wider encoder"),
        pytest.param([PRE_NORM, [], PRE_NORM, ["--decoder-layers", "3"]], id="members of several shapes"),
        pytest.param([[]], id="one model"),
    ],
)
def test_hypotheses_equal_fairseqs(dictionary: Any, kinds: list[list[str]]) -> None:
    models = [built(dictionary, seed, *flags) for seed, flags in enumerate(kinds)]
    assert [unsupported(model) for model in models] == [None] * len(models)
    tokens = sources(dictionary, [9, 9, 7, 5, 4, 2, 1, 1])
    theirs = StockSearch(models, dictionary, **SETTINGS).search(tokens)
    ours = StackedSearch(models, dictionary, **SETTINGS).search(tokens)
    assert_same(ours, theirs)
    if len(models) > 1:  # they do not all run to the limit
        assert {len(each.ids) for found in ours for each in found} != {15}


@pytest.mark.parametrize(("beam", "penalty"), [(1, 1.0), (2, 0.6), (5, 0.0), (12, 1.4)])
def test_any_beam_and_penalty(dictionary: Any, beam: int, penalty: float) -> None:
    models = [built(dictionary, seed) for seed in (5, 6)]
    tokens = sources(dictionary, [6, 6, 5, 3])
    settings: dict[str, Any] = {"beam": beam, "max_pieces": 20, "length_penalty": penalty}
    theirs = StockSearch(models, dictionary, **settings).search(tokens)
    assert_same(StackedSearch(models, dictionary, **settings).search(tokens), theirs)


def test_unsupported_models_are_decoded_by_fairseq(dictionary: Any) -> None:
    for flags in (
        ["--decoder-output-dim", "8"],
        ["--adaptive-softmax-cutoff", "20,40"],
        ["--cross-self-attention"],
        ["--quant-noise-pq", "0.1"],
    ):
        model = built(dictionary, 1, *flags)
        assert unsupported(model), flags
        ensemble: Any = SimpleNamespace(models=[model], dictionary=dictionary, frame=Frame())
        if flags[0] == "--decoder-output-dim":
            name, search = _search(ensemble, None, score_members=True, **SETTINGS)
            assert name == "stock"
            [found] = search.search(sources(dictionary, [3]))
            assert found[0].member_scores == pytest.approx([found[0].score], rel=1e-5, abs=1e-5)


def test_scores_of_found_translations_are_found_again(dictionary: Any) -> None:
    models = [built(dictionary, seed) for seed in (1, 2)]
    tokens = sources(dictionary, [6, 4])
    found = StackedSearch(models, dictionary, **SETTINGS).search(tokens)
    scored = ForcedScorer(models, dictionary, length_penalty=1.0).score(
        tokens, [[each.ids for each in one] for one in found]
    )
    for one, other in zip(found, scored, strict=True):
        assert [each.score for each in one] == pytest.approx([each.score for each in other], rel=1e-5, abs=1e-5)


def test_the_largest_are_found_by_chunks() -> None:
    generator = torch.Generator().manual_seed(3)
    for size, count in ((10_000, 8), (4001, 10), (700, 3), (64 * 40, 12), (50, 5)):
        values = torch.rand((7, size), generator=generator)
        assert torch.equal(_largest(values, count), values.topk(count, dim=1)[1])


def test_caches_grow(dictionary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.engines.fairseq.stacked._FIRST_SLOTS", 2)
    models = [built(dictionary, seed) for seed in (1, 2)]
    tokens = sources(dictionary, [5, 2])
    theirs = StockSearch(models, dictionary, **SETTINGS).search(tokens)
    assert_same(StackedSearch(models, dictionary, **SETTINGS).search(tokens), theirs)


def test_the_output_layer_may_be_computed_in_parts(dictionary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [built(dictionary, seed) for seed in (1, 2)]
    tokens = sources(dictionary, [5, 5, 2])
    whole = StackedSearch(models, dictionary, **SETTINGS).search(tokens)
    monkeypatch.setattr("kd.engines.fairseq.stacked._LOGITS", 5 * 2 * len(dictionary))
    assert_same(StackedSearch(models, dictionary, **SETTINGS).search(tokens), whole)


def test_tied_matrices_stay_one(dictionary: Any) -> None:
    stack = Stack([built(dictionary, seed, "--share-all-embeddings") for seed in (1, 2)])
    assert stack._output is stack._embedding


def test_batches_are_halved_until_they_fit() -> None:
    seen: list[int] = []

    def work(batch: list[int]) -> list[int]:
        seen.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [number * number for number in batch]

    counts = Counts()
    assert halving(work, list(range(11)), counts) == [number * number for number in range(11)]
    assert seen == [11, 5, 2, 3, 6, 3, 3]
    assert counts.halved == 3


def test_a_sentence_that_does_not_fit_is_explained() -> None:
    def work(batch: list[int]) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match="single sentence") as caught:
        halving(work, [1, 2], Counts())
    assert "decode.max_pieces" in caught.value.hint


def test_half_precision_finds_nearly_the_same(dictionary: Any) -> None:
    models = [built(dictionary, seed) for seed in (1, 2)]
    tokens = sources(dictionary, [5, 4, 3, 2])
    exact = StackedSearch(models, dictionary, **SETTINGS).search(tokens)
    half = StackedSearch([model.to(torch.bfloat16) for model in models], dictionary, **SETTINGS).search(tokens)
    for one, other in zip(exact, half, strict=True):
        assert one[0].score == pytest.approx(other[0].score, abs=0.1)
