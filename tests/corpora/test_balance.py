"""Shares of languages by the papers' formulas, in cases worked out by hand; rounds that favour nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.base.errors import UserError
from kd.corpora.balance import LONGEST_ROUND, Size, in_words, plan_round, shares, temperature, unimax
from kd.recipe.schema import BalanceConfig, BalanceMethod


def test_temperature_by_hand() -> None:
    """Arivazhagan et al. (2019): p ~ D^(1/T). Sizes 16 and 1 with T = 2 stand as 4 to 1, with T = 4 as 2 to 1."""
    assert temperature({"big": 16, "small": 1}, 2) == pytest.approx({"big": 4 / 5, "small": 1 / 5})
    assert temperature({"big": 16, "small": 1}, 4) == pytest.approx({"big": 2 / 3, "small": 1 / 3})
    assert temperature({"big": 30, "small": 10}, 1) == pytest.approx({"big": 3 / 4, "small": 1 / 4})


def test_unimax_by_hand() -> None:
    """Algorithm 1 of Chung et al. (2023), step by step.

    Sizes 10, 100 and 1,000, a budget of 600, a cap of 4: the smallest may have 600 / 3 = 200 and takes 4 * 10 = 40;
    the next may have 560 / 2 = 280, below 4 * 100; the last has what is left, 280.
    """
    sizes = {"big": 1000.0, "small": 10.0, "middle": 100.0}
    assert unimax(sizes, 600, 4) == {"big": 280, "small": 40, "middle": 280}
    # A cap of 2: 20 of the smallest, 200 of the middle one (290 would be its part), 380 for the big one.
    assert unimax(sizes, 600, 2) == {"big": 380, "small": 20, "middle": 200}
    # More than can be used: everybody at the cap.
    assert unimax(sizes, 10**9, 1) == sizes


def test_unimax_counts_pieces_and_draws_pairs() -> None:
    """A language whose sentences are twice as long is drawn half as often for the same number of pieces."""
    sizes = {"short": Size(100, 1000), "long": Size(100, 2000)}
    config = BalanceConfig(BalanceMethod.unimax, budget=1000, max_epochs=10)
    assert shares(config, sizes) == pytest.approx({"short": 2 / 3, "long": 1 / 3})


def test_weights_are_of_all_groups() -> None:
    sizes = {"da-en": Size(10, 10), "nl-en": Size(10, 10)}
    config = BalanceConfig(BalanceMethod.weights, weights={"da-en": 3, "nl-en": 1})
    assert shares(config, sizes) == {"da-en": 0.75, "nl-en": 0.25}
    config.weights["sv-en"] = 1
    with pytest.raises(UserError, match="has da-en, nl-en, sv-en, but the language pairs are da-en, nl-en"):
        shares(config, sizes)


def test_a_round_shows_a_large_language_whole_and_repeats_a_small_one() -> None:
    """Shares of a half each, of 90 and 10 pairs, by 20 a virtual epoch: nine epochs until all 90 were drawn."""
    sizes = {"big": Size(90, 90), "small": Size(10, 10)}
    drawn = plan_round({"big": 0.5, "small": 0.5}, sizes, 20)
    assert drawn.epochs == 9
    assert drawn.drawn["big"] == tuple((10 * place, 10) for place in range(9))
    assert drawn.drawn["small"] == ((0, 10),) * 9
    assert drawn.repetitions(sizes) == {"big": 1, "small": 9}


def test_epochs_are_of_what_is_drawn_where_a_round_cannot_show_a_language_whole() -> None:
    sizes = {"big": Size(10_000, 10_000), "small": Size(10, 10)}
    drawn = plan_round({"big": 0.5, "small": 0.5}, sizes, 20)
    assert drawn.epochs == LONGEST_ROUND == 64
    balance = {
        group: {"pairs": size.pairs, "target": size.pieces, "token_share": 0.5, "repetitions": repeated}
        for (group, size), repeated in zip(sizes.items(), drawn.repetitions(sizes).values(), strict=True)
    }
    assert in_words(balance, 2 * 640) == [
        "big: 50.0% of target tokens, 1.00 epochs of 640 of 10,000 pairs (a larger encode.folder_pairs has room for "
        "more)",
        "small: 50.0% of target tokens, 64.00 epochs of 10 pairs",
    ]


@given(
    st.lists(st.integers(1, 5000), min_size=2, max_size=6),
    st.lists(st.floats(0.05, 1), min_size=6, max_size=6),
    st.integers(1, 3000),
)
def test_any_round_follows_the_shares_and_goes_through_each_group_in_turn(
    pairs: list[int], weights: list[float], epoch_pairs: int
) -> None:
    sizes = {str(number): Size(count, count) for number, count in enumerate(pairs)}
    weight = dict(zip(sizes, weights, strict=False))
    share = {group: value / sum(weight.values()) for group, value in weight.items()}
    drawn = plan_round(share, sizes, epoch_pairs)
    size = min(epoch_pairs, sum(pairs))
    for group, parts in drawn.drawn.items():
        at = 0
        for begin, count in parts:
            assert begin == at % sizes[group].pairs
            assert abs(count - size * share[group]) <= 1
            at += count
