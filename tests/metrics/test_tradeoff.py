"""The rule of a search and the Pareto front, on numbers written by hand: the expected results follow by looking."""

from __future__ import annotations

import random
import statistics

import pytest

from kd.metrics.tradeoff import Candidate, choose, front

#            quality of three seeds   sentences/s
DEEP = Candidate("12-2", (30.2, 30.0, 30.4), 100, 60)  # mean 30.2
USUAL = Candidate("12-1", (29.9, 29.7, 29.8), 150, 55)  # 29.8
SMALL = Candidate("6-1", (29.2, 29.3, 29.4), 220, 40)  # 29.3
TINY = Candidate("2-1", (24.0, 25.0, 26.0), 400, 20)  # 25.0
SLOW = Candidate("6-6", (29.0, 29.0, 29.0), 60, 60)  # worse than 12-2, and slower
GRID = [SLOW, TINY, DEEP, SMALL, USUAL]


def names(found: list[Candidate]) -> list[str]:
    return [each.name for each in found]


def test_the_front_is_what_nothing_beats() -> None:
    assert names(front(GRID)) == ["2-1", "6-1", "12-1", "12-2"]
    assert names(front([SLOW])) == ["6-6"]
    # As fast as another and worse, or as good and slower: neither is on it.
    beaten = [Candidate("as fast", (29.0,), 220), Candidate("as good", USUAL.quality, 140)]
    assert names(front([*GRID, *beaten])) == ["2-1", "6-1", "12-1", "12-2"]


def test_the_front_by_its_definition() -> None:
    dice = random.Random(3)
    for _ in range(50):
        made = [Candidate(str(i), (dice.randint(0, 6),), dice.randint(1, 6)) for i in range(12)]

        def beats(one: Candidate, other: Candidate) -> bool:
            better = one.mean > other.mean or one.rate > other.rate
            return one.mean >= other.mean and one.rate >= other.rate and better

        expected = {(c.mean, c.rate) for c in made if not any(beats(other, c) for other in made)}
        assert {(c.mean, c.rate) for c in front(made)} == expected
        assert len(front(made)) == len(expected)  # of equals one stands for all


@pytest.mark.parametrize(
    ("loss", "chosen"),
    [(0.0, "12-2"), (0.39, "12-2"), (0.4, "12-1"), (0.89, "12-1"), (0.9, "6-1"), (5.0, "6-1"), (5.2, "2-1")],
)
def test_the_fastest_of_those_that_lose_no_more_than_is_allowed(loss: float, chosen: str) -> None:
    choice = choose(GRID, loss)
    assert (choice.chosen.name, choice.best.name) == (chosen, "12-2")
    assert choice.limit == pytest.approx(30.2 - loss)


def test_ties_have_an_order_whatever_order_they_come_in() -> None:
    by_quality = [Candidate("a", (20.0,), 100, 10), Candidate("b", (20.5,), 100, 10)]
    by_size = [Candidate("a", (20.5,), 100, 10), Candidate("b", (20.5,), 100, 9)]
    by_name = [Candidate("b", (20.5,), 100, 9), Candidate("a", (20.5,), 100, 9)]
    for candidates, expected in ((by_quality, "b"), (by_size, "b"), (by_name, "a")):
        for order in (candidates, candidates[::-1]):
            assert choose(order, 1.0).chosen.name == expected
            assert names(front(order)) == [expected]


def test_means_and_spreads_are_those_of_the_seeds() -> None:
    assert (TINY.mean, TINY.spread) == (25.0, 1.0)  # 24, 25, 26: sample standard deviation 1
    assert Candidate("one seed", (25.0,), 1).spread is None
    assert DEEP.spread == pytest.approx(statistics.stdev(DEEP.quality))


def test_nothing_is_doubted_where_seeds_agree() -> None:
    assert choose(GRID, 0.5).doubts == ()


def test_what_chance_may_have_decided_is_said() -> None:
    unsure = Candidate("12-1", (29.0, 29.8, 30.6), 150)  # mean 29.8, spread 0.8
    [doubt] = choose([DEEP, unsure], 0.5, "BLEU").doubts
    assert doubt == "12-1 is 0.40 BLEU below 12-2, the best, and the spread over seeds is 0.80: it may be as good."
    other_data = Candidate("12-1-gold", (28.9, 29.7, 30.5), 150)  # as fast, 0.1 below
    doubts = choose([DEEP, unsure, other_data], 0.5, "BLEU").doubts
    assert len(doubts) == 2
    assert "12-1-gold is as fast and 0.10 BLEU apart, and the spread over seeds is 0.80" in doubts[1]
    near = Candidate("6-1", (29.0, 29.6, 30.2), 300)  # mean 29.6: misses 29.7 by 0.1, spread 0.6
    [told] = choose([DEEP, USUAL, near], 0.5, "BLEU").doubts
    assert told.startswith("6-1 is faster but misses the limit by 0.10 BLEU, and its spread over seeds is 0.60")
    [single] = choose([Candidate("a", (20.0,), 1), Candidate("b", (10.0,), 2)], 1.0).doubts
    assert "one seed" in single
