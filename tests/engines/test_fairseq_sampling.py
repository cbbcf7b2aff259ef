"""Sampling is reproducible and follows the models' distribution; diverse beam search finds what fairseq's finds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from kd.engines.fairseq.sampling import DiverseSearch, Diversity, SampledSearch, Sampling
from kd.engines.fairseq.search import Found, StackedSearch
from kd.engines.fairseq.stock import ForcedScorer
from tests.engines import test_fairseq_search
from tests.engines.test_fairseq_search import SETTINGS, built, sources

dictionary = test_fairseq_search.dictionary  # a fixture
LENGTHS = [9, 7, 7, 4, 2, 1]


@pytest.fixture(scope="module")
def models(dictionary: Any) -> list[Any]:
    return [built(dictionary, seed) for seed in (3, 4)]


@pytest.fixture(scope="module")
def tokens(dictionary: Any) -> torch.Tensor:
    torch.manual_seed(1)
    return sources(dictionary, LENGTHS)


def samples(models: list[Any], dictionary: Any, tokens: Any, seed: int = 1, **changes: Any) -> list[list[Found]]:
    sampling = Sampling(seed, changes.pop("temperature", 1.0), changes.pop("top", 0))
    return SampledSearch(models, dictionary, sampling=sampling, **{**SETTINGS, **changes}).search(tokens)


def ids(lists: list[list[Found]]) -> list[list[list[int]]]:
    return [[each.ids for each in found] for found in lists]


def test_samples_depend_on_seed_and_source_but_not_on_the_batch(
    models: list[Any],
    dictionary: Any,
    tokens: Any,
) -> None:
    whole = ids(samples(models, dictionary, tokens))
    assert ids(samples(models, dictionary, tokens)) == whole
    assert ids(samples(models, dictionary, tokens.flip(0))) == whole[::-1]
    assert [ids(samples(models, dictionary, tokens[row : row + 1]))[0] for row in range(len(tokens))] == whole
    assert ids(samples(models, dictionary, tokens, seed=2)) != whole
    assert all(len(found) == SETTINGS["beam"] for found in whole)
    assert len({tuple(each) for found in whole for each in found}) > 2 * len(whole)
    assert {len(each) for found in whole for each in found} != {SETTINGS["max_pieces"] + 1}


def test_scores_of_samples_are_the_models_own(models: list[Any], dictionary: Any, tokens: Any) -> None:
    found = samples(models, dictionary, tokens, temperature=0.7, top=20)
    scored = ForcedScorer(models, dictionary, length_penalty=1.0).score(tokens, ids(found))
    for one, other in zip(found, scored, strict=True):
        assert [each.score for each in one] == sorted((each.score for each in one), reverse=True)
        for mine, theirs in zip(one, other, strict=True):
            assert mine.score == pytest.approx(theirs.score, rel=1e-4, abs=1e-4)
            assert mine.member_scores == pytest.approx(theirs.member_scores, rel=1e-4, abs=1e-4)


def test_one_most_probable_token_is_greedy_search(models: list[Any], dictionary: Any, tokens: Any) -> None:
    greedy = StackedSearch(models, dictionary, **{**SETTINGS, "beam": 1}).search(tokens)
    assert ids(samples(models, dictionary, tokens, beam=1, top=1)) == ids(greedy)


def test_samples_follow_the_mean_of_the_members_distributions(models: list[Any], dictionary: Any) -> None:
    """Pearson's chi-squared test of first tokens, each expected at least five times; 1,000 samples of one source."""
    from scipy.stats import chisquare

    tokens = sources(dictionary, [3])
    drawn = Counter(each.ids[0] for each in samples(models, dictionary, tokens, beam=1000, max_pieces=1)[0])
    start = tokens.new_full((1, 1), dictionary.eos())
    with torch.no_grad():
        outputs = [model(tokens, torch.tensor([tokens.shape[1]]), start)[0] for model in models]
    mean = sum(torch.softmax(output[0, 0].double(), -1) for output in outputs)
    mean[[dictionary.pad(), dictionary.eos()]] = 0
    expected = 1000 * mean / mean.sum()
    common = (expected >= 5).nonzero().flatten().tolist()
    rest = 1000 - sum(drawn[token] for token in common)
    observed = [*(drawn[token] for token in common), rest]
    wanted = [*(float(expected[token]) for token in common), 1000 - float(expected[common].sum())]
    assert len(common) > 10
    assert drawn[dictionary.eos()] == drawn[dictionary.pad()] == 0
    assert chisquare(observed, wanted).pvalue > 1e-3


@pytest.mark.parametrize(("beam", "groups", "strength"), [(4, 2, 0.5), (6, 3, 1.5), (4, 4, 0.5), (4, 1, 0.5)])
def test_diverse_search_finds_what_fairseq_finds(
    models: list[Any],
    dictionary: Any,
    tokens: Any,
    beam: int,
    groups: int,
    strength: float,
) -> None:
    from fairseq.search import DiverseBeamSearch
    from fairseq.sequence_generator import SequenceGenerator

    generator = SequenceGenerator(
        models, dictionary, beam_size=beam, max_len_a=0, max_len_b=14,
        search_strategy=DiverseBeamSearch(dictionary, groups, strength),
    )  # fmt: skip
    source = {"src_tokens": tokens, "src_lengths": tokens.ne(dictionary.pad()).sum(1)}
    theirs = generator.generate(models, {"net_input": source})
    search = DiverseSearch(models, dictionary, diversity=Diversity(groups, strength), **{**SETTINGS, "beam": beam})
    ours = search.search(tokens)
    scored = ForcedScorer(models, dictionary, length_penalty=1.0).score(tokens, ids(ours))
    for mine, stock, forced in zip(ours, theirs, scored, strict=True):
        assert sorted(each.ids for each in mine) == sorted(each["tokens"].tolist() for each in stock)
        assert [each.score for each in mine] == pytest.approx([each.score for each in forced], rel=1e-4, abs=1e-4)
        assert all(len(each.member_scores) == 2 for each in mine)
    if groups == 1:
        plain = StackedSearch(models, dictionary, **{**SETTINGS, "beam": beam}).search(tokens)
        assert ids(ours) == ids(plain)
