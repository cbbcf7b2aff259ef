"""Estimates keep their sources, and what is unknown stays so."""

from __future__ import annotations

from kd.base.estimate import NOT_KNOWN, Estimate, total


def test_a_product_has_both_sources() -> None:
    product = Estimate(3.0, "counted").times(Estimate(4.0, "assumed"))
    assert (product.value, product.source) == (12.0, "counted; assumed")


def test_a_sum_with_an_unknown_part_is_unknown_and_says_what_is_known() -> None:
    found = total([Estimate(2.0, "a"), NOT_KNOWN, Estimate(3.0, "a")])
    assert found.value is None and found.at_least == 5.0
    assert found.source == "a; unknown"
    assert not found and found.times(10).at_least == 50.0


def test_a_sum_of_sums_keeps_what_is_known_of_the_inner_one() -> None:
    assert total([total([Estimate(2.0), NOT_KNOWN]), Estimate(1.0)]).at_least == 3.0
