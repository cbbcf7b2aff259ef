"""sacreBLEU's test sets, from a server on this machine: its reading of their files, our download, home untouched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sacrebleu.dataset import DATASETS
from sacrebleu.dataset.fake_sgml import FakeSGMLDataset
from sacrebleu.dataset.wmt_xml import WMTXMLDataset

from kd.base.errors import UserError
from kd.corpora import download
from kd.corpora.testsets import read_test_set
from tests.corpora.server import Server, serve
from tests.corpora.test_places import tarred

XML = """<?xml version='1.0' encoding='utf-8'?><dataset id="newstest2099"><doc id="a" origlang="en">
<src lang="en"><p><seg id="1">One   and two</seg><seg id="2">Three</seg></p></src>
<ref lang="de" translator="B"><p><seg id="1">B 1</seg><seg id="2">B 3</seg></p></ref>
<ref lang="de" translator="A"><p><seg id="1">Eins und zwei</seg><seg id="2">Drei</seg></p></ref></doc></dataset>"""
SGM = '<srcset><doc sysid="x" docid="d" genre="n" origlang="en">\n<seg id="1">{}</seg>\n</doc></srcset>\n'


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """Two test sets of sacreBLEU's kinds, known to it by name."""
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with serve() as running:
        content = tarred(tmp_path / "a.tgz", {"xml/2099.en-de.all.xml": XML.encode()}).read_bytes()
        running.files["/wmt99.tar.gz"] = content
        md5 = hashlib.md5(content).hexdigest()
        sets = {
            "wmt99": WMTXMLDataset("wmt99", data=[running.url + "/wmt99.tar.gz"], md5=[md5],
                                   langpairs={"en-de": ["xml/2099.en-de.all.xml"]}, refs=["A"]),
            "old/dev": FakeSGMLDataset("old/dev", data=[running.url + "/old.tgz"], md5=["0" * 32],
                                       langpairs={"en-de": ["src.sgm", "ref.sgm"]}),
        }  # fmt: skip
        members = {"src.sgm": SGM.format("fish &amp; chips").encode(), "ref.sgm": SGM.format("Fisch").encode()}
        running.files["/old.tgz"] = tarred(tmp_path / "b.tgz", members).read_bytes()
        for name, data_set in sets.items():
            monkeypatch.setitem(DATASETS, name, data_set)
        yield running


def test_a_test_set_is_read_as_sacrebleu_does(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for _ in range(2):
        assert list(read_test_set("wmt99", "en", "de", cache)) == [("One and two", "Eins und zwei"), ("Three", "Drei")]
    assert len(server.asked) == 1
    assert [path.name for path in cache.iterdir()] == ["downloads"]
    assert not (tmp_path / "home").exists()


def test_older_ones_and_checksums(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="another md5"):
        list(read_test_set("old/dev", "en", "de", tmp_path))
    monkeypatch.setattr(DATASETS["old/dev"], "md5", None)
    assert list(read_test_set("old/dev", "en", "de", tmp_path)) == [("fish &amp; chips", "Fisch")]


@pytest.mark.parametrize(
    ("name", "told"), [("wmt99", "has no fi-de.*It has en-de"), ("wmt21x", "no test set called wmt21x.*near: wmt21")]
)
def test_unknown_names_and_pairs(server: Server, tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        list(read_test_set(name, "fi", "de", tmp_path))


def test_what_cannot_be_had_says_which_file_to_put_where(server: Server, tmp_path: Path) -> None:
    content = server.files.pop("/wmt99.tar.gz")
    with pytest.raises(UserError, match="answers 404") as caught:
        list(read_test_set("wmt99", "en", "de", tmp_path))
    Path(caught.value.hint.split(" there as ")[1].rstrip(".")).write_bytes(content)
    assert len(list(read_test_set("wmt99", "en", "de", tmp_path))) == 2
