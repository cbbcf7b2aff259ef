"""Another text is another corpus, also where the same files on disk hold it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.corpora.shards import Corpus
from tests.corpora.test_places import zipped
from tests.stages.test_collect_stage import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty one."""
    return Place(tmp_path)


def test_what_is_read_of_an_archive_makes_another_corpus(place: Place) -> None:
    archive = zipped(place.folder / "x.zip", {"x.en": b"a\n", "x.de": b"b\n", "x.tsv": b"c\td\n", "y.tsv": b"e\tf\n"})
    sides = {"source": "x.zip/*.en", "target": "x.zip/*.de"}
    assert place.read({"format": "plain", **sides}) == [("a", "b")]
    assert place.read({"format": "plain", "source": sides["target"], "target": sides["source"]}) == [("b", "a")]
    assert place.read({"format": "tsv", "source": "x.zip/x.tsv"}) == [("c", "d")]
    assert place.read({"format": "tsv", "source": "x.zip/y.tsv"}) == [("e", "f")]

    def fingerprint(source: str, **settings: object) -> str:
        plan = place.plan({"it": {"format": "tsv", "source": source}}, **settings)
        return plan.task("collect.en-de", "it").fingerprint

    first = fingerprint("x.zip/x.tsv")
    assert fingerprint("x.tsv", root=str(archive)) == first != fingerprint("y.tsv", root=str(archive))
    (place.folder / "sub").mkdir()
    archive.rename(place.folder / "sub" / "moved.zip")
    assert fingerprint("sub/moved.zip/x.tsv") == first


def test_scores_that_change_places_make_another_corpus(place: Place) -> None:
    for name, content in {"x.en": "a\n", "x.de": "b\n", "1": "0.1\n", "2": "0.2\n"}.items():
        place.write(name, content)
    sides = {"format": "plain", "source": "x.en", "target": "x.de"}
    for scores, values in (({"cos": "1", "qe": "2"}, ["0.1", "0.2"]), ({"qe": "1", "cos": "2"}, ["0.2", "0.1"])):
        corpus = Corpus(place.collect({"it": {**sides, "scores": scores}})["it"])
        assert [next(corpus.column(name)) for name in ("cos", "qe")] == values


def test_a_language_of_gettexts_ids_with_an_empty_catalogue_is_another_corpus_than_it_was(place: Place) -> None:
    def identity(**settings: str) -> object:
        place.write(settings["files"].replace("{language}", "en"), "")
        place.write(settings["files"].replace("{language}", "de"), "")
        plan = place.plan({"it": {"format": "catalogue", "root": str(place.folder), **settings}})
        return plan.task("collect.en-de", "it").identity.get("empty")

    assert identity(files="{language}.po") == "message id"
    assert identity(files="{language}.po", gettext_language="fr") is None
    assert identity(files="{language}.json") is None
