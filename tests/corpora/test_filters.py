"""Each filter rejects at its threshold and not before, and the first that applies is the one that is counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kd.config import CleanConfig
from kd.corpora.filters import clean, filters
from kd.corpora.ids import Pair


def config(**changes: Any) -> CleanConfig:
    return CleanConfig(
        **{
            "min_words": 1,
            "max_words": 3,
            "max_characters": 20,
            "max_ratio": 2.0,
            "ratio_slack": 4,
            "drop_copies": True,
            "drop_duplicates": True,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("a", "b", None),
        ("", "b", "empty"),
        ("a", " \u2028\u00a0", "empty"),
        ("a b c", "d e f", None),
        ("a b c d", "d e f", "words"),
        ("a", "d e f g", "words"),
        ("x" * 20, "y" * 20, None),
        ("x" * 20, "y" * 21, "characters"),
        ("xx", "y" * 8, None),  # (8 + 4) / (2 + 4) = 2
        ("xx", "y" * 9, "ratio"),
        ("y" * 9, "xx", "ratio"),
        ("same", "same ", "copy"),
        ("Same", "same", None),
    ],
)
def test_a_filter_rejects_at_its_threshold(source: str, target: str, reason: str | None) -> None:
    counts: Counter[str] = Counter()
    kept = list(clean([Pair(1, source, target)], config(), counts))
    assert +counts == ({reason: 1} if reason else {})
    assert kept == ([] if reason else [Pair(1, source, target)])


def test_short_sources_go_where_a_recipe_wants_sentences() -> None:
    pairs = [Pair(1, "a b", "c"), Pair(2, "a", "b c")]
    counts: Counter[str] = Counter()
    assert list(clean(pairs, config(min_words=2), counts)) == pairs[:1]
    assert counts["short"] == 1


def test_the_order_is_stated_and_every_filter_reports() -> None:
    counts: Counter[str] = Counter()
    assert list(clean([], config(), counts)) == []
    always = ["empty", "short", "words", "characters", "ratio"]
    assert list(filters(config())) == list(counts) == [*always, "copy", "duplicate"]
    assert list(filters(config(drop_copies=False, drop_duplicates=False))) == always


def test_the_first_of_equal_pairs_stays() -> None:
    rows = [("a", "b"), ("a", "c"), ("a", "b"), ("a b", ""), ("b", "a"), ("a", "b")]
    pairs = [Pair(place, *row) for place, row in enumerate(rows)]
    counts: Counter[str] = Counter()
    assert [pair.id for pair in clean(pairs, config(), counts)] == [0, 1, 4]
    assert +counts == {"duplicate": 2, "empty": 1}
    assert [pair.id for pair in clean(pairs, config(drop_duplicates=False))] == [0, 1, 2, 4, 5]
