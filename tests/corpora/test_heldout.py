"""Held-out sets are plain text, and are refused when they were changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kd.base.errors import IncompleteArtifact, UserError
from kd.corpora.heldout import heldout_path, read_heldout, read_sets, side_of, verify_heldout, write_heldout
from kd.corpora.ids import Origin, Pair
from tests.corpora.samples import TORTURE


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    pairs = [Pair(place, text, text[::-1]) for place, text in enumerate(TORTURE)]
    assert write_heldout(tmp_path, "en-de", {"dev": pairs[:3], "test": iter(pairs)}) == {"dev": 3, "test": len(pairs)}
    return pairs


def test_sets_survive(tmp_path: Path, pairs: list[Pair]) -> None:
    assert read_heldout(tmp_path, "en-de", "dev") == pairs[:3]
    assert read_heldout(tmp_path, "en-de", "test") == pairs
    verify_heldout(tmp_path, "en-de")
    assert heldout_path(tmp_path, "en-de", "test", "source").read_bytes() == ("\n".join(TORTURE) + "\n").encode()


@pytest.mark.parametrize("column", ["id", "source", "target"])
def test_a_lost_line_is_noticed(tmp_path: Path, pairs: list[Pair], column: str) -> None:
    path = heldout_path(tmp_path, "en-de", "dev", column)
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:2]))
    with pytest.raises(UserError, match=rf"dev\.{column} ends after line 2"):
        read_heldout(tmp_path, "en-de", "dev")
    with pytest.raises(IncompleteArtifact, match=rf"dev\.{column} was changed"):
        verify_heldout(tmp_path, "en-de")


def test_what_is_no_id_is_named(tmp_path: Path, pairs: list[Pair]) -> None:
    heldout_path(tmp_path, "en-de", "dev", "id").write_text("0\none\n2\n")
    with pytest.raises(UserError, match=r"dev\.id, line 2: 'one' is not an id"):
        read_heldout(tmp_path, "en-de", "dev")


def test_a_set_or_pair_that_is_not_there_is_one_sentence(tmp_path: Path, pairs: list[Pair]) -> None:
    with pytest.raises(UserError, match=r"holds no set train\. It holds: dev, test"):
        read_heldout(tmp_path, "en-de", "train")
    with pytest.raises(UserError, match="is missing"):
        read_heldout(tmp_path, "en-fr", "dev")


def test_the_index_says_how_a_set_came_about(tmp_path: Path) -> None:
    law, news = Origin("en-de", "law"), Origin("en-de", "news", "test")
    drawn = [*law.number([("a", "b"), ("c", "d")])]
    given = [*news.number([("e", "f")])]
    sets = {"dev": drawn, "test": given}
    write_heldout(tmp_path, "en-de", sets, ("en", "de"), "target", {"dev": {"seed": 7}}, [news, law])
    write_heldout(tmp_path, "pt-en", {"dev": [], "test": given}, ("pt-BR", "en"))
    index = json.loads((tmp_path / "en-de" / "index.json").read_text("utf-8"))
    assert index["sets"]["dev"]["drawn"] == {"seed": 7}
    assert [(origin["name"], origin["lines"]) for origin in index["sets"]["dev"]["origins"]] == [("law", 2)]
    assert index["sets"]["test"]["drawn"] is None
    dev, test, other = read_sets(tmp_path)
    assert (dev.name, dev.drawn, dev.languages, dev.texts()) == ("en-de dev", True, ("en", "de"), {"b", "d"})
    assert (test.name, test.drawn, test.pairs) == ("en-de test (news)", False, given)
    assert (other.name, other.languages, other.side) == ("pt-en test", ("pt-BR", "en"), "source")
    assert [side_of(tmp_path, pair) for pair in ("en-de", "pt-en")] == ["target", "source"]
