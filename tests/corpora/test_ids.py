"""Ids fit 63 bits, name their origin, and never come twice in a recipe."""

from __future__ import annotations

import hashlib

import pytest

from kd.base.errors import UserError
from kd.corpora import ids
from kd.corpora.ids import Origin, Pair, check_origins, origin_prefix, place_of, prefix_of


def test_prefix_is_the_hash_that_the_format_names() -> None:
    digest = hashlib.sha256(b"en-de\0europarl").hexdigest()
    assert origin_prefix("en-de", "europarl") == int(digest[:6], 16) % 2**23


def test_pairs_are_numbered_and_their_origin_can_be_told() -> None:
    origin = Origin("en-de", "europarl")
    pairs = list(origin.number([("a", "b"), ("c", "d")]))
    assert [pair[1:] for pair in pairs] == [("a", "b"), ("c", "d")]
    assert [place_of(pair.id) for pair in pairs] == [0, 1]
    assert {prefix_of(pair.id) for pair in pairs} == {origin.prefix}
    assert all(0 <= pair.id < 2**63 for pair in pairs)
    assert Pair(1, "a", "b") == (1, "a", "b")


def test_an_origin_survives_its_index_entry() -> None:
    origin = Origin("en-de", "europarl", use="dev")
    assert origin.to_json()["prefix"] == origin.prefix
    assert Origin.from_json(origin.to_json()) == origin
    known = Origin("en-de", "europarl", licence="CC0-1.0", weight=0.5)
    assert Origin.from_json(known.to_json()) == known
    earlier = {"pair": "en-de", "name": "europarl", "use": "dev", "prefix": origin.prefix}  # before there was more
    assert Origin.from_json(earlier) == origin


def test_corpora_with_one_prefix_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Origin("en-de", "a"), Origin("en-fr", "b")
    assert check_origins([first, second, first]) == {first.prefix: first, second.prefix: second}
    monkeypatch.setattr(ids, "origin_prefix", lambda pair, corpus: 7)
    with pytest.raises(UserError, match=r"a \(en-de\) and b \(en-fr\) would get the same ids\. Rename"):
        check_origins([first, second])
