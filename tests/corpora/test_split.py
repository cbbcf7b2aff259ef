"""No source sentence stands on two sides, in whatever language pair, and the draw is what it says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.corpora.ids import Pair
from kd.corpora.split import HeldOut, Split, choose
from kd.errors import UserError


def corpus(sources: list[str], language: str) -> list[Pair]:
    return [Pair(place, source, f"{language} {place}") for place, source in enumerate(sources)]


@given(
    st.dictionaries(st.sampled_from(["de", "fr", "sv"]), st.lists(st.integers(0, 60), min_size=150), min_size=1),
    st.integers(0, 2**40),
)
def test_what_is_held_out_is_trained_on_nowhere(numbers: dict[str, list[int]], seed: int) -> None:
    corpora = {
        language: corpus([f"sentence number {number}" for number in (*own, *range(40))], language)
        for language, own in numbers.items()
    }
    given_sources = frozenset({"sentence number 3"})
    sizes = {"dev": 3, "test": 4, "min_words": 3, "seed": seed, "given": given_sources}
    held_out = {language: choose(pairs, **sizes) for language, pairs in corpora.items()}  # type: ignore[arg-type]
    everywhere = given_sources.union(*(each.all for each in held_out.values()))
    splits = {language: Split(each, everywhere, seed) for language, each in held_out.items()}
    train = {language: list(split.train(corpora[language])) for language, split in splits.items()}

    dev = {pair.source for split in splits.values() for pair in split.dev}
    test = {pair.source for split in splits.values() for pair in split.test}
    trained = {pair.source for pairs in train.values() for pair in pairs}
    assert not dev & test
    assert not (dev | test | given_sources) & trained
    assert not (dev | test) & given_sources
    for language, split in splits.items():
        assert (len(split.dev), len(split.test)) == (3, 4)
        assert len({pair.source for pair in split.dev + split.test}) == 7
        assert split.counts.total() == len(corpora[language])
        assert split.counts["train"] == len(train[language])
        for pair in split.dev + split.test:  # the first of its source
            assert pair == next(each for each in corpora[language] if each.source == pair.source)


def test_the_draw_follows_from_seed_and_text_alone() -> None:
    pairs = corpus([f"one two {number}" for number in range(1000)], "de")
    mixed = random.Random(1).sample(pairs + pairs, 2000)
    sizes = {"dev": 20, "test": 30, "min_words": 3}
    assert choose(pairs, **sizes, seed=1) == choose(mixed, **sizes, seed=1)
    assert choose(pairs, **sizes, seed=1).test != choose(pairs, **sizes, seed=2).test
    smaller, larger = (choose(pairs, dev=5, test=size, min_words=3, seed=1) for size in (10, 20))
    assert smaller.test < larger.test
    assert smaller.dev == larger.dev


def test_short_sources_are_trained_on() -> None:
    pairs = corpus(["two words", "three words here", "four\u00a0words and more"] * 3, "de")
    drawn: set[str] = set()
    for seed in range(64):
        try:
            drawn |= choose(pairs, dev=0, test=1, min_words=3, seed=seed).all
        except UserError:  # both long sources fell into the half that dev is drawn from
            continue
    assert drawn == {"three words here", "four\u00a0words and more"}


def test_a_corpus_too_small_is_one_sentence() -> None:
    pairs = corpus(["a b c d"] * 10, "de")
    with pytest.raises(UserError, match=r"en-de has only [01] distinct sources of 4 words or more .* split\.test"):
        choose(pairs, dev=0, test=2, min_words=4, seed=1, name="en-de")


def test_nothing_is_held_out_where_nothing_is_asked_for() -> None:
    pairs = corpus(["a", "b"], "de")
    assert choose(pairs, dev=0, test=0, min_words=0, seed=1) == HeldOut()
    split = Split(HeldOut(), {"b"})
    assert list(split.train(pairs)) == pairs[:1]
    assert split.counts == {"train": 1, "held out elsewhere": 1}


def test_sets_come_in_an_order_of_their_own() -> None:
    pairs = corpus([f"one two {number}" for number in range(400)], "de")
    split = Split(choose(pairs, dev=0, test=50, min_words=1, seed=5), seed=5)
    list(split.train(pairs))
    assert [pair.id for pair in split.test] != sorted(pair.id for pair in split.test)
    other = Split(split.own, seed=5)
    list(other.train(reversed(pairs)))
    assert other.test == split.test
