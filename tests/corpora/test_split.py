"""No held-out sentence stands on two sides, in whatever language pair, and the draw is what it says."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.base.errors import UserError
from kd.corpora.heldout import HeldOutSet
from kd.corpora.ids import Pair
from kd.corpora.leakage import Guard
from kd.corpora.split import Draw, Drawn, candidates, held_side, merged


def corpus(sources: list[str], language: str) -> list[Pair]:
    return [Pair(place, source, f"{language} {place}") for place, source in enumerate(sources)]


def choose(pairs: list[Pair], guard: Guard | None = None, name: str = "x", parts: int = 1, **draw: Any) -> Drawn:
    chosen = Draw(**draw)
    size = -(-len(pairs) // parts) or 1
    found = (candidates(pairs[start : start + size], chosen, guard) for start in range(0, len(pairs), size))
    return merged(found, chosen, name)


@given(
    st.dictionaries(st.sampled_from(["de", "fr", "sv"]), st.lists(st.integers(0, 60), min_size=150), min_size=1),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_what_one_pair_tests_on_no_other_validates_on(
    numbers: dict[str, list[int]], seed: int, turned_round: bool
) -> None:
    corpora = {
        language: corpus([f"sentence number {number}" for number in (*own, *range(40))], language)
        for language, own in numbers.items()
    }
    given_sentences = frozenset({"sentence number 3"})
    side = "source"
    if turned_round:
        side = "target"
        corpora = {name: [Pair(p.id, p.target, p.source) for p in pairs] for name, pairs in corpora.items()}
    drawn = {
        name: choose(pairs, dev=3, test=4, min_words=3, seed=seed, side=side, given=given_sentences)
        for name, pairs in corpora.items()
    }
    dev = {getattr(pair, side) for each in drawn.values() for pair in each.dev}
    test = {getattr(pair, side) for each in drawn.values() for pair in each.test}
    assert not dev & test
    assert not (dev | test) & given_sentences
    for name, each in drawn.items():
        assert (len(each.dev), len(each.test)) == (3, 4)
        assert len({getattr(pair, side) for pair in each.dev + each.test}) == 7
        for pair in each.dev + each.test:  # the first of its sentence
            assert pair == next(p for p in corpora[name] if getattr(p, side) == getattr(pair, side))


def test_the_draw_follows_from_seed_and_text_alone() -> None:
    pairs = corpus([f"one two {number}" for number in range(1000)], "de")
    mixed = random.Random(1).sample(pairs + pairs, 2000)
    sizes = {"dev": 20, "test": 30, "min_words": 3}
    assert choose(pairs, **sizes, seed=1) == choose(mixed, **sizes, seed=1)
    assert choose(pairs, **sizes, seed=1).test != choose(pairs, **sizes, seed=2).test
    smaller, larger = (choose(pairs, dev=5, test=size, min_words=3, seed=1) for size in (10, 20))
    assert smaller.test == larger.test[:10]
    assert smaller.dev == larger.dev


def test_a_sentence_meets_the_same_fate_on_whichever_side_it_stands() -> None:
    english = [f"sentence number {number}" for number in range(300)]
    from_english = [Pair(i, text, f"de {i}") for i, text in enumerate(english)]
    into_english = [Pair(i, f"da {i}", text) for i, text in enumerate(reversed(english))]
    sizes = {"dev": 20, "test": 30, "min_words": 1, "seed": 4}
    first, second = choose(from_english, **sizes), choose(into_english, **sizes, side="target")
    assert [pair.source for pair in first.test] == [pair.target for pair in second.test]
    assert [pair.source for pair in first.dev] == [pair.target for pair in second.dev]


def test_short_sources_are_trained_on() -> None:
    pairs = corpus(["two words", "three words here", "four\u00a0words and more"] * 3, "de")
    drawn: set[str] = set()
    for seed in range(64):
        try:
            drawn |= {pair.source for pair in choose(pairs, dev=0, test=1, min_words=3, seed=seed).test}
        except UserError:  # both long sources fell into the half that dev is drawn from
            continue
    assert drawn == {"three words here", "four\u00a0words and more"}


def test_a_corpus_too_small_is_one_sentence() -> None:
    pairs = corpus(["a b c d"] * 10, "de")
    with pytest.raises(UserError, match=r"en-de has only [01] distinct sources of 4 words or more .* split\.test"):
        choose(pairs, dev=0, test=2, min_words=4, seed=1, name="en-de")


def test_sizes_that_fit_a_small_corpus_are_proposed() -> None:
    pairs = corpus([f"one two {number}" for number in range(600)], "de")
    with pytest.raises(UserError, match=r"only \d+ .* split\.test=1000 can be drawn") as error:
        choose(pairs, dev=1000, test=1000, min_words=1, seed=1)
    assert error.value.hint == "Add split.dev=50 split.test=50."
    assert len(choose(pairs, dev=50, test=50, min_words=1, seed=1).test) == 50
    with pytest.raises(UserError) as error:
        choose(pairs, dev=1000, test=0, min_words=1, seed=1)  # test is given as a corpus
    assert error.value.hint == "Add split.dev=60."


def test_the_draw_depends_on_no_number_of_parts() -> None:
    numbers = random.Random(3).choices(range(400), k=1000)  # sentences return, in one part and across parts
    pairs = corpus([f"one two {number}" for number in numbers], "de")
    draw: dict[str, Any] = {"dev": 20, "test": 30, "min_words": 3, "seed": 1, "given": frozenset({"one two 7"})}
    whole = choose(pairs, **draw)
    assert all(choose(pairs, parts=parts, **draw) == whole for parts in (2, 3, 10, 1000))


def test_nothing_is_held_out_where_nothing_is_asked_for() -> None:
    pairs = corpus(["a", "b"], "de")
    assert choose(pairs, dev=0, test=0, min_words=0, seed=1) == Drawn()


def test_sets_come_in_an_order_of_their_own() -> None:
    pairs = corpus([f"one two {number}" for number in range(400)], "de")
    sizes = {"dev": 0, "test": 50, "min_words": 1, "seed": 5}
    drawn = choose(pairs, **sizes)
    assert [pair.id for pair in drawn.test] != sorted(pair.id for pair in drawn.test)
    assert choose(list(reversed(pairs)), **sizes) == drawn


def test_by_a_side_or_a_language() -> None:
    assert held_side("source", ("da", "en"), "da-en") == "source"
    assert held_side("target", ("da", "en"), "da-en") == "target"
    assert held_side("en", ("da", "en"), "da-en") == "target"
    assert held_side("en", ("en-GB", "da"), "en-da") == "source"
    assert held_side("en-US", ("en-GB", "en-US"), "x") == "target"
    assert held_side("en", ("en", "en-US"), "x") == "source"
    with pytest.raises(UserError, match=r"No side of da-fi \(da to fi\) is in en"):
        held_side("en", ("da", "fi"), "da-fi")
    with pytest.raises(UserError, match=r"Both sides of gb-us \(en-GB to en-US\) are in en"):
        held_side("en", ("en-GB", "en-US"), "gb-us")


def test_what_matches_a_given_set_is_not_drawn() -> None:
    pairs = corpus([f"This is the sentence with number {number}." for number in range(60)], "de")
    test = [Pair(pair.id, pair.source.upper(), "x") for pair in pairs[::2]]
    guard = Guard([HeldOutSet("en-de", "test", ("en", "de"), "source", False, "", test)], ("en", "de"), 5)
    sizes = {"dev": 8, "test": 8, "min_words": 1, "seed": 2}
    drawn = choose(pairs, **sizes, guard=guard)
    assert all(pair.id % 2 for pair in drawn.dev + drawn.test)
    freely = choose(pairs, **sizes)
    assert not all(pair.id % 2 for pair in freely.dev + freely.test)
