"""Corpora by mtdata's ids: looked up in an index as mtdata caches it, fetched from a server on this machine.

tests/system/test_sources.py asks the real index.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.corpora import download
from kd.corpora.formats import FORMATS
from kd.corpora.mtdata import look_up, read_mtdata
from kd.corpora.reading import Reading
from kd.recipe.schema import CorpusConfig, SourceConfig
from tests.corpora.server import Server, serve
from tests.corpora.test_places import tarred, zipped

# Writes an index as mtdata caches it, with entries of our own. Importing mtdata.index would build the real one.
INDEX = """
import json, pickle, sys, types
from mtdata.entry import Entry
module = sys.modules["mtdata.index"] = types.ModuleType("mtdata.index")
exec("class Index: pass", module.__dict__)
index = module.Index()
entries = [Entry(**each) for each in json.load(sys.stdin)]
index.__dict__ = {"entries": {entry.did: entry for entry in entries}, "papers": {}, "ref_db": None, "version": ""}
with open(sys.argv[1], "wb") as file:
    pickle.dump(index, file)
"""
GERMAN, ENGLISH = "eins\nzwei\x85\rdrei\n".encode(), "one\ntwo\x85\rthree\n".encode()
PAIRS = [("one", "eins"), ("two\x85\rthree", "zwei\x85\rdrei")]
TSV = "eins\tone\tx\nzwei\x85\rdrei\ttwo\x85\rthree\ty\n".encode()
BIG = gzip.compress(b"".join(b"%d\t%d\n" % (number, -number) for number in range(60_000)))
TMX = (
    '<tmx version="1.4"><body><tu><tuv xml:lang="de-DE"><seg>eins</seg></tuv>'
    '<tuv xml:lang="en"><seg>one</seg></tuv></tu></body></tmx>'
)


def sgm(text: str) -> bytes:
    """A document of two segments in WMT's old form."""
    return f'<refset>\n<doc>\n<seg id="1">{text} &amp; so </seg>\n<seg id="2">{text}</seg>\n</doc></refset>\n'.encode()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder of its own, in which nothing may appear."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "PAUSE", 0)
        patch.setenv("HOME", str(folder))
        patch.delenv("MTDATA", raising=False)
        yield folder
    assert list(folder.iterdir()) == []


@dataclass
class Place:
    """A cache whose index names files of a server on this machine."""

    server: Server
    cache: Path

    def read(self, name: str, source: str = "en", target: str = "de") -> list[tuple[str, ...]]:
        """All rows of an id."""
        return list(read_mtdata(f"mtdata:Here-{name}-1-deu-eng", source, target, self.cache, Counter()))


@pytest.fixture
def place(served: Place, tmp_path: Path) -> Iterator[Place]:
    """A copy of the cache for one test; afterwards the server has its files again."""
    files = dict(served.server.files)
    yield Place(served.server, shutil.copytree(served.cache, tmp_path / "cache"))
    served.server.files = files


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[Place]:
    """Files in the forms that mtdata's entries have; the ids name German first."""
    folder = tmp_path_factory.mktemp("files")
    both = {"x/c.de": GERMAN, "x/c.en": ENGLISH, "README": b""}
    sgms = {"s.de.sgm": sgm("ja"), "s.en.sgm": sgm("yes")}
    text = {"in_paths": ["*.de", "*.en"], "in_ext": "txt"}
    forms: list[tuple[str, str, bytes, dict[str, object]]] = [
        ("zip", "/a.zip", zipped(folder / "a.zip", both).read_bytes(), text),
        ("tar", "/a.tgz", tarred(folder / "a.tgz", both).read_bytes(), text | {"in_paths": ["x/c.de", "x/c.en"]}),
        ("tsv", "/a.tsv.gz", gzip.compress(TSV), {}),
        ("columns", "/b.tsv.gz", gzip.compress(TSV), {"cols": [2, 1]}),
        ("tmx", "/get/7/", zipped(folder / "b.zip", {"b.tmx": TMX.encode()}).read_bytes(),
         {"in_paths": ["*.tmx"], "in_ext": "tmx", "filename": "b.zip", "ext": "zip"}),
        ("sgm", "/s.tgz", tarred(folder / "s.tgz", sgms).read_bytes(), {"in_paths": list(sgms), "in_ext": "sgm"}),
        ("big", "/big.tsv.gz", BIG, {}),
        ("sheet", "/x.xlsx", b"", {}),
        ("lacking", "/a2.zip", zipped(folder / "a.zip", both).read_bytes(), text | {"in_paths": ["*.fr", "*.en"]}),
    ]  # fmt: skip
    cache = folder / "cache"
    (cache / "mtdata").mkdir(parents=True)
    with serve() as server:
        server.files = {path: content for _, path, content, _ in forms}
        entries = [{"did": f"Here-{name}-1-deu-eng", "url": server.url + path, **more} for name, path, _, more in forms]
        index = cache / "mtdata" / f"mtdata.index.{version('mtdata')}.pkl"
        command = [sys.executable, "-c", INDEX, str(index)]
        subprocess.run(command, input=json.dumps(entries), text=True, check=True, capture_output=True)
        yield Place(server, cache)


@pytest.mark.parametrize(
    ("name", "pair", "told"),
    [
        ("Here-zipp-1-deu-eng", ("de", "en"), r"has no corpus .* Did you mean Here-zip-1-deu-eng"),
        ("Here-zip-1-deu-eng", ("fr", "en"), "is not a corpus of fr-en"),
        ("nonsense", ("de", "en"), "is not an id of mtdata"),
    ],
)
def test_unknown_ids_and_other_languages_are_told(place: Place, name: str, pair: tuple[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        look_up(name, *pair, place.cache)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zip", PAIRS),
        ("tar", PAIRS),
        ("tsv", PAIRS),
        ("columns", [("one", "x"), ("two\x85\rthree", "y")]),
        ("tmx", PAIRS[:1]),
        ("sgm", [("yes & so", "ja & so"), ("yes", "ja")]),
    ],
)
def test_kinds_of_entries(place: Place, name: str, expected: list[tuple[str, str]]) -> None:
    assert place.read(name) == expected
    assert {each.name for each in place.cache.iterdir()} == {"mtdata", "downloads"}


def test_the_ids_own_order(place: Place) -> None:
    assert place.read("tsv", "de", "en") == [(right, left) for left, right in PAIRS]


def test_an_id_may_name_the_languages_the_other_way_round_or_leave_them_to_the_pair(place: Place) -> None:
    assert look_up("Here-tsv-1-en-de", "en", "de", place.cache) == look_up(
        "Here-tsv-1-deu-eng", "en", "de", place.cache
    )
    source = SourceConfig("mtdata", id="Here-tsv-1-{source}-{target}")
    for pair, expected in {("en", "de"): PAIRS, ("de", "en"): [(right, left) for left, right in PAIRS]}.items():
        reading = Reading("here", source, CorpusConfig(cache=str(place.cache)), *pair)
        assert list(FORMATS["mtdata"].rows(reading)) == expected


def test_interrupted_and_missing(place: Place) -> None:
    place.server.breaks = [len(BIG) // 2]
    place.server.asked.clear()
    rows = place.read("big", "de", "en")
    assert len(rows) == 60_000
    assert rows[-1] == ("59999", "-59999")
    assert place.server.asked[1][1].startswith("bytes=")
    (path,) = (place.cache / "downloads").rglob("big.tsv.gz")
    path.unlink()
    del place.server.files["/big.tsv.gz"]
    with pytest.raises(UserError, match="answers 404") as caught:
        place.read("big")
    assert caught.value.hint.endswith(f"put it there as {path}.")
    path.write_bytes(BIG)  # by hand
    assert len(place.read("big")) == 60_000


@pytest.mark.parametrize(
    ("name", "told"),
    [("sheet", "has the type xlsx, which kd does not read"), ("lacking", r"\*\.fr to match one file of")],
)
def test_what_cannot_be_read_is_told(place: Place, name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        place.read(name)
