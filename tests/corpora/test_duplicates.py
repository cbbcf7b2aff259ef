"""Deduplication on disk leaves what a naive one in memory leaves, whatever the number of buckets."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.corpora.duplicates import DuplicateFinder, key_function
from kd.recipe.schema import DuplicatesConfig, SameBy


def naive(keys: list[bytes]) -> list[bool]:
    seen: set[bytes] = set()
    return [key in seen or seen.add(key) is not None for key in keys]


@given(
    st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=6),
    st.sampled_from([1, 2, 3, 7, 64]),
)
def test_equal_to_a_set_in_memory(parts: list[list[int]], buckets: int) -> None:
    chunks = [[hashlib.sha256(bytes([value])).digest()[:8] for value in part] for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        finder = DuplicateFinder(folder, expected=10, buckets=buckets)
        for chunk in chunks:
            finder.add(b"".join(chunk))
        verdicts = finder.find()
        expected = naive([key for chunk in chunks for key in chunk])
        assert verdicts.found == sum(expected)
        first = 0
        for chunk in chunks:
            again = verdicts.of(first, len(chunk))
            assert [bool(flag) for flag in again] == expected[first : first + len(chunk)]
            first += len(chunk)
        assert [path.name for path in Path(folder).iterdir()] == ["duplicates.bits"], "buckets are removed"


@pytest.mark.parametrize(
    ("by", "normalised", "same"),
    [
        (SameBy.pair, False, [("a", "b"), ("a", "b")]),
        (SameBy.source, False, [("a", "b"), ("a", "c")]),
        (SameBy.target, False, [("x", "b"), ("a", "b")]),
        (SameBy.pair, True, [("A cat.", "Eine Katze"), ("a  cat", "eine KATZE!")]),
    ],
)
def test_what_counts_as_equal(by: SameBy, normalised: bool, same: list[tuple[str, str]]) -> None:
    key = key_function(DuplicatesConfig(True, by, normalised))
    assert key(*same[0]) == key(*same[1])
    assert key(*same[0]) != key("another", "one")


def test_what_does_not_count_as_equal() -> None:
    exact = key_function(DuplicatesConfig(True, SameBy.pair, False))
    assert exact("a b", "c") != exact("a", "b c")
    assert exact("a", "b") != exact("A", "b")
    loose = key_function(DuplicatesConfig(True, SameBy.source, True))
    assert loose("---", "") != loose("...", "")
    assert loose("10", "") != loose("11", "")
    assert loose("कि", "") != loose("की", "")  # vowel signs are no punctuation
