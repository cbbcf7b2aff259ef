"""What is part of a fingerprint and what is not."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from kd.pipeline.fingerprint import canonical, digest, identity_and_extent


class Colour(Enum):
    red = "r"


@dataclass
class Cell:
    depth: int = 6
    updates: int = field(default=10, metadata={"fingerprint": "extent"})
    log: int = field(default=1, metadata={"fingerprint": "transient"})


@dataclass
class Config:
    width: int
    name: str = "plain"
    table: dict[str, int] = field(default_factory=dict)
    updates: int = field(default=100, metadata={"fingerprint": "extent"})
    log_every: int = field(default=10, metadata={"fingerprint": "transient"})
    inner: Cell = field(default_factory=Cell)
    cells: dict[str, Cell] = field(default_factory=dict)


def test_digest_is_the_hash_of_sorted_compact_json() -> None:
    # By hand: printf '{"a":[1,"ü"],"b":null}' | sha256sum
    expected = hashlib.sha256('{"a":[1,"ü"],"b":null}'.encode()).hexdigest()[:16]
    assert digest({"b": None, "a": (1, "ü")}) == expected


def test_order_of_keys_is_irrelevant_and_of_lists_is_not() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest([1, 2]) != digest([2, 1])


def test_what_has_no_stable_form_is_refused() -> None:
    assert canonical({"p": Path("/a"), "e": Colour.red, 1: (True, None)}) == {"p": "/a", "e": "r", "1": [True, None]}
    with pytest.raises(TypeError, match="set"):
        canonical({1, 2})


def test_fields_at_their_default_are_left_out() -> None:
    assert identity_and_extent(Config(width=8)) == ({"width": 8}, {})


@pytest.mark.parametrize(
    ("changed", "in_identity", "in_extent"),
    [
        ({"width": 9}, {"width": 9}, {}),
        ({"name": "fancy"}, {"width": 8, "name": "fancy"}, {}),
        ({"table": {"a": 1}}, {"width": 8, "table": {"a": 1}}, {}),
        ({"updates": 200}, {"width": 8}, {"updates": 200}),
        ({"log_every": 1}, {"width": 8}, {}),
        ({"inner": Cell(depth=12)}, {"width": 8, "inner": {"depth": 12}}, {}),
        ({"inner": Cell(updates=20, log=5)}, {"width": 8}, {"inner": {"updates": 20}}),
        ({"cells": {"a": Cell(log=5)}}, {"width": 8, "cells": {"a": {}}}, {}),
        (
            {"cells": {"a": Cell(), "b": Cell(3, 20)}},
            {"width": 8, "cells": {"a": {}, "b": {"depth": 3}}},
            {"cells": {"b": {"updates": 20}}},
        ),
    ],
)
def test_each_part_is_where_it_belongs(
    changed: dict[str, Any], in_identity: dict[str, Any], in_extent: dict[str, Any]
) -> None:
    assert identity_and_extent(dataclasses.replace(Config(width=8), **changed)) == (in_identity, in_extent)
