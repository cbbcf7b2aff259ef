"""`assume.KEY=NUMBER` among overrides of the recipe."""

from __future__ import annotations

import pytest

from kd.base.errors import UserError
from kd.planning.assumptions import parse_assumptions


def test_assumptions_are_separated_from_overrides() -> None:
    found, rest = parse_assumptions(["recipe=x", "assume.pairs.en-de=499_000_000", "assume.kept=0.9", "decode.beam=4"])
    assert rest == ["recipe=x", "decode.beam=4"]
    pairs = found.get("pairs.en-de")
    assert pairs is not None and pairs.value == 499e6 and "assumed by you" in pairs.source
    assert found.get("pairs.da-en") is None


def test_the_more_specific_assumption_wins() -> None:
    found, _ = parse_assumptions(["assume.seconds.teacher=5", "assume.seconds.teacher.en-de=7"])
    chosen = found.get("seconds.teacher.en-de", "seconds.teacher")
    assert chosen is not None and chosen.value == 7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("assume.pair.en-de=3", "Did you mean assume.pairs.*"),
        ("assume.kept=much", "not a number"),
        ("assume.kept=-1", "not a number"),
        ("assume.kept=nan", "not a number"),
        ("assume.tflops=3", "assume.tflops"),
    ],
)
def test_impossible_assumptions_are_refused(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told.replace("*", r"\*")):
        parse_assumptions([text])


def test_an_assumption_about_an_unknown_stage_is_refused() -> None:
    found, _ = parse_assumptions(["assume.seconds.techer=3"])
    with pytest.raises(UserError, match="Did you mean teacher"):
        found.check_stages(["teacher", "student"], ["en-de"])
    found, _ = parse_assumptions(["assume.pairs.de-en=3"])
    with pytest.raises(UserError, match="en-de"):
        found.check_stages(["teacher"], ["en-de"])
