"""Every source gives the same pairs in the same order, or says which file and line it refuses."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import string
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard
from omegaconf import OmegaConf

from kd.base.errors import UserError
from kd.corpora import download, stdin
from kd.corpora.rejects import read_rejects
from kd.corpora.shards import Corpus
from kd.pipeline.execute import execute
from kd.pipeline.model import StageSpec
from kd.pipeline.plan import Plan, build
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.schema import CorpusConfig
from kd.stages.collect import Collect
from tests.corpora.samples import TORTURE, write_tmx
from tests.corpora.server import Server, serve
from tests.corpora.test_places import tarred, zipped
from tests.messages import messages

MIRRORED = list(zip(TORTURE, TORTURE[::-1], strict=True))
AS_READ = [(left.rstrip("\r"), right.rstrip("\r")) for left, right in MIRRORED]  # line ends are no content
COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".zst": zstandard.compress}


@dataclass
class Place:
    """A folder with files, a recipe that reads them, and the store of its runs."""

    folder: Path

    def write(self, name: str, content: bytes | str) -> Path:
        """A file, compressed as its name says."""
        path = self.folder / name
        content = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(COMPRESS.get(path.suffix, lambda data: data)(content))
        return path

    def plan(self, sources: Mapping[str, Any], **settings: Any) -> Plan:
        """The plan of collect alone, without a recipe: composing one takes a second."""
        schema = OmegaConf.structured(CorpusConfig)
        folders = {"root": str(self.folder), "cache": str(self.folder / "cache")}
        config = OmegaConf.to_object(OmegaConf.merge(schema, {**folders, "sources": dict(sources), **settings}))
        Collect().validate(config)  # type: ignore[arg-type]
        entry = StageSpec("collect", Collect(), config, {}, over="pairs")
        return build(
            {"collect": entry}, {"pairs": {"en-de": {"source": "en", "target": "de"}}}, self.store.file_hashes()
        )

    @property
    def store(self) -> Store:
        """Where artifacts go."""
        return Store(self.folder / "store")

    def compose(self, sources: Mapping[str, Any], *overrides: str) -> Plan:
        """The plan of a recipe with these corpora."""
        recipe: dict[str, Any] = {"defaults": ["/base", "_self_"], "pairs": {"en-de": {}}}
        recipe["corpus"] = {"sources": dict(sources)}
        (self.folder / "own").mkdir(exist_ok=True)
        (self.folder / "own" / "recipe.yaml").write_text(json.dumps(recipe), "utf-8")
        folders = [f"store.dir={self.folder}/store", f"corpus.cache={self.folder}/cache"]
        settings = [*folders, f"corpus.root={self.folder}", "split.min_words=1", "split.dev=0", *overrides]
        return compose.plan(compose.compose(compose.parse_request([f"recipe={self.folder}/own", *settings])))

    def run(self, plan: Plan, upto: str = "collect") -> dict[str, Path]:
        """Run tasks here; returns their folders by the names of stage and task."""
        done = {}
        for stage in plan.needed_for(plan.find(upto)):
            for task in stage.tasks:
                execute(task, self.store, threads=1, device="cpu", machine={})
                done[f"{stage.spec.name}/{task.name}"] = self.store.paths(task).final
        return done

    def collect(self, sources: Mapping[str, Any], **settings: Any) -> dict[str, Path]:
        """The folders of some corpora."""
        done = self.run(self.plan(sources, **settings))
        return {name.removeprefix("collect/"): folder for name, folder in done.items()}

    def read(self, source: Mapping[str, Any], **settings: Any) -> list[tuple[str, str]]:
        """The pairs of one corpus."""
        return pairs(self.collect({"it": source}, **settings)["it"])


def pairs(folder: Path) -> list[tuple[str, str]]:
    """What a folder holds."""
    return [(pair.source, pair.target) for pair in Corpus(folder).read()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty one."""
    return Place(tmp_path)


def manifest(folder: Path) -> dict[str, Any]:
    """What a task recorded."""
    return dict(json.loads((folder / "manifest.json").read_text("utf-8")))


# --- the torture text ------------------------------------------------------------------------------------------------


def aligned(place: Place, suffix: str = "") -> dict[str, str]:
    """As two files without a final newline."""
    place.write(f"x.en{suffix}", "\n".join(left for left, _ in MIRRORED))
    place.write(f"x.de{suffix}", "\n".join(right for _, right in MIRRORED))
    return {"format": "plain", "source": f"x.{{source}}{suffix}", "target": f"x.{{target}}{suffix}"}


def as_tsv() -> bytes:
    """As a TSV file without a final newline."""
    return "\n".join("\t".join(row) for row in MIRRORED).encode()


@pytest.mark.parametrize("suffix", ["", *COMPRESS])
def test_torture_as_plain_files_and_tsv(place: Place, suffix: str) -> None:
    assert place.read(aligned(place, suffix)) == AS_READ
    place.write(f"x.tsv{suffix}", as_tsv())
    assert place.read({"format": "tsv", "source": f"x.tsv{suffix}"}) == AS_READ


def test_torture_from_archives(place: Place) -> None:
    sides = {f"x.{language}": b"\n".join(row[side].encode() for row in MIRRORED) for side, language in
             enumerate(("en", "de"))}  # fmt: skip
    for archive in (zipped(place.folder / "a.zip", sides), tarred(place.folder / "a.tar.gz", sides)):
        where = {"source": f"{archive.name}/*.en", "target": f"{archive.name}/*.de"}
        assert place.read({"format": "plain", **where}) == AS_READ
    zipped(place.folder / "b.zip", {"part.tsv": as_tsv()})
    assert place.read({"format": "tsv", "source": "b.zip"}) == AS_READ


def test_torture_from_standard_input(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (as_tsv(), gzip.compress(as_tsv())):
        stdin.keep_stdin.cache_clear()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        done = place.run(place.compose({"it": {"format": "auto", "source": "-"}}))
        assert pairs(done["collect/it"]) == AS_READ


def test_torture_from_a_url(place: Place, server: Server) -> None:
    server.files = {"/x.tsv": as_tsv()}
    assert place.read({"format": "tsv", "source": f"{server.url}/x.tsv"}) == AS_READ


def test_torture_as_tmx(place: Place) -> None:
    """All that XML can hold; the rest is refused with file and line."""
    possible = [row for row in MIRRORED if not set("\0\f\v\x1c\x1d\x1e") & set("".join(row))]
    assert len(possible) == 10
    write_tmx(place.folder / "x.tmx", possible)
    assert place.read({"format": "tmx", "source": "x.tmx"}) == [
        (left.rstrip("\r"), right.rstrip("\r")) for left, right in possible
    ]
    for text in set(TORTURE) - {text for row in possible for text in row}:
        unit = f'<tu><tuv xml:lang="en"><seg>{text}</seg></tuv><tuv xml:lang="de"><seg>x</seg></tuv></tu>'
        place.write("y.tmx", f'<tmx version="1.4">\n<body>\n{unit}\n</body></tmx>')
        if set("\0\f\v\x1c\x1d\x1e") & set(text):
            with pytest.raises(UserError, match=r"y\.tmx, line 3, byte \d+: .*Char"):
                place.read({"format": "tmx", "source": "y.tmx"})


def test_torture_as_message_catalogues(place: Place) -> None:
    for side, language in enumerate(("en", "de")):
        messages = {str(number): row[side] for number, row in enumerate(MIRRORED)}
        place.write(f"{language}.json", json.dumps(messages))
    source = {"format": "catalogue", "root": "", "files": "{language}.json"}
    assert place.read(source | {"root": str(place.folder)}) == AS_READ


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_invalid_utf_8_at_a_shards_edge(place: Place, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.stages.collect.LINES_PER_SHARD", 5)
    lines = [f"line {number}".encode() for number in range(12)]
    place.write(f"x.de{suffix}", b"\n".join(lines))
    lines[5] += b" \xe2\x82"  # two of three bytes of a euro sign, then the line ends
    place.write(f"x.en{suffix}", b"\n".join(lines))
    source = {"format": "plain", "source": f"x.en{suffix}", "target": f"x.de{suffix}"}
    with pytest.raises(UserError, match=rf"x\.en{suffix}, line 6: byte 8 of the line is not valid UTF-8"):
        place.read(source)
    kept = place.collect({"it": source}, on_error="keep")["it"]
    assert Corpus(kept).pairs == 5
    (told,) = manifest(kept)["facts"]["broken files, read up to the damage"]
    assert "line 6" in told


# --- one corpus, many forms ------------------------------------------------------------------------------------------


def sentences() -> list[tuple[str, str]]:
    """Made-up sentences with characters that XML escapes, and real messages in several scripts."""
    draw = random.Random(3)
    words = ["".join(draw.choices(string.ascii_lowercase + "äöü&<~", k=5)) for _ in range(900)]
    made = [(" ".join(draw.choices(words, k=draw.randint(1, 9))), " ".join(draw.choices(words, k=5)))
            for _ in range(3000)]  # fmt: skip
    return [*made, *(pair for language in ("de", "el", "ja", "ar") for pair in messages(language))]


def test_tmx_tsv_and_compressed_pair_make_identical_shards(place: Place) -> None:
    rows = sentences()
    place.write("x.en.gz", "".join(left + "\n" for left, _ in rows))
    place.write("x.de.gz", "".join(right + "\n" for _, right in rows))
    place.write("x.tsv.xz", "".join(f"{left}\t{right}\n" for left, right in rows))
    write_tmx(place.folder / "x.tmx", rows)
    forms = [
        {"format": "plain", "source": "x.en.gz", "target": "x.de.gz"},
        {"format": "tsv", "source": "x.tsv.xz"},
        {"format": "tmx", "source": "x.tmx"},
    ]
    found = []
    for form in forms:
        plan = place.compose({"it": form}, "split.dev=100", "split.test=100", "shard.lines=1000")
        shards = Corpus(place.run(plan, upto="shard")["shard/all"])
        found.append([shard.file for shard in shards.shards])
        assert shards.pairs > 1000
    assert found[0] == found[1] == found[2]


# --- mixing, columns, origins ----------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An empty one."""
    monkeypatch.setattr(download, "PAUSE", 0)
    with serve() as running:
        yield running


def column(folder: Path, name: str) -> list[str]:
    """A further column of a corpus."""
    return [value for shard in Corpus(folder).shards for _, (value,) in shard.rows(name)]


def test_further_columns_scores_and_provenance(place: Place) -> None:
    place.write("x.tsv", "0.5\teins\tone\tCC\n0.25\tzwei\ttwo\t\n")
    place.write("x.en", "one\ntwo\n")
    place.write("x.de", "eins\nzwei\n")
    place.write("x.scores.gz", "0.5\n0.25\n")
    unit = '<tu creationdate="20260101T000000Z"><prop type="Txt::Domain">law</prop>{}</tu>'
    tuvs = '<tuv xml:lang="en"><seg>one</seg></tuv><tuv xml:lang="de"><seg>eins</seg></tuv>'
    place.write("x.tmx", f'<tmx version="1.4"><body>{unit.format(tuvs)}</body></tmx>')
    sources = {
        "a": {"format": "tsv", "source": "x.tsv", "columns": {"bicleaner": 1, "target": 2, "source": 3, "licence": 4}},
        "b": {"format": "plain", "source": "x.en", "target": "x.de", "scores": {"comet_qe": "x.scores.gz"}},
        "c": {"format": "tmx", "source": "x.tmx", "keep": {"creationdate": True, "prop:Txt::Domain": True, "x": False}},
    }
    done = place.collect(sources)
    assert [Corpus(done[name]).columns[3:] for name in "abc"] == [
        ("bicleaner", "licence"), ("comet_qe",), ("creationdate", "prop_txt_domain"),
    ]  # fmt: skip
    assert column(done["a"], "bicleaner") == ["0.5", "0.25"]
    assert column(done["a"], "licence") == ["CC", ""]
    assert column(done["b"], "comet_qe") == ["0.5", "0.25"]
    assert column(done["c"], "prop_txt_domain") == ["law"]
    assert [pair.source for pair in Corpus(done["a"]).read()] == ["one", "two"]


def test_wildcards_join_files_in_the_order_of_their_names(place: Place) -> None:
    for name in ("b", "a"):
        place.write(f"{name}.en", f"{name} one\n{name} two\n")
        place.write(f"{name}.de.gz", f"{name} eins\n{name} zwei\n")
        place.write(f"{name}.tsv", f"{name}\t1\n")
    source = {"format": "plain", "source": "?.en", "target": "?.de.gz"}
    assert [left for left, _ in place.read(source)] == ["a one", "a two", "b one", "b two"]
    assert place.read({"format": "tsv", "source": "*.tsv"}) == [("a", "1"), ("b", "1")]
    place.write("c.en", "c\n")
    with pytest.raises(UserError, match=r"c\.en has no partner"):
        place.plan({"it": source})


def test_translation_memories_of_other_languages_may_lie_beside(place: Place) -> None:
    write_tmx(place.folder / "a.tmx", [("un", "eins")], source="fr")
    write_tmx(place.folder / "b.tmx", [("one", "eins")])
    source = {"format": "tmx", "source": "*.tmx"}
    folder = place.collect({"it": source})["it"]
    assert pairs(folder) == [("one", "eins")]
    assert manifest(folder)["dropped"] == {"no en": 1}
    assert manifest(folder)["facts"]["files without the pair"] == 1
    with pytest.raises(UserError, match=r"a\.tmx has both en and de: there are DE, fr"):
        place.read({**source, "source": "a.tmx"})


def test_name_licence_and_weight_stay_with_the_origin(place: Place) -> None:
    place.write("x.tsv", "".join(f"sentence number {number}\tSatz {number}\n" for number in range(50)))
    place.write("y.tsv", "".join(f"line number {number}\tZeile {number}\n" for number in range(50)))
    sources = {
        "first": {"format": "tsv", "source": "x.tsv", "licence": "CC0-1.0", "weight": 2.0},
        "second": {"format": "tsv", "source": "y.tsv"},
    }
    done = place.run(place.compose(sources, "split.dev=2", "split.test=2"), upto="shard")
    for stage in ("clean/all", "shard/all"):
        origins = {origin.name: origin for origin in Corpus(done[stage]).origins.values()}
        assert {name: (origin.licence, origin.weight) for name, origin in origins.items()} == {
            "first": ("CC0-1.0", 2.0), "second": ("unknown", 1.0),
        }  # fmt: skip


def test_what_makes_another_corpus_and_what_does_not(place: Place, server: Server) -> None:
    place.write("x.tsv", "a\tb\tc\n")
    (place.folder / "sub").mkdir()
    place.write("sub/x.tsv", "a\tb\tc\n")
    server.files = {"/x.tsv": b"a\tb\n"}

    def fingerprint(on_error: str = "fail", cache: str = "cache", **changes: object) -> str:
        plan = place.plan({"it": {"format": "tsv", "source": "x.tsv", **changes}}, on_error=on_error, cache=cache)
        return plan.task("collect.en-de", "it").fingerprint

    first = fingerprint()
    same = [fingerprint(licence="MIT"), fingerprint(source="sub/x.tsv"), fingerprint(format="auto")]
    same += [fingerprint(columns={}), fingerprint(cache="elsewhere")]
    assert same == [first] * 5
    other = [
        fingerprint(weight=2.0), fingerprint(columns={"target": 3}), fingerprint(columns={"score": 3}),
        fingerprint(header=True), fingerprint(on_error="keep"), fingerprint(use="test"),
        fingerprint(source=f"{server.url}/x.tsv"), fingerprint(source=f"{server.url}/y.tsv"),
        fingerprint(source=f"{server.url}/y.tsv", sha256={"source": "0" * 64}),
    ]  # fmt: skip
    assert len({first, *other}) == 10
    named = [fingerprint(format="auto", source="mtdata:A-b-1-deu-eng")]
    named += [fingerprint(format="mtdata", source=None, id=name) for name in ("A-b-1-deu-eng", "A-b-2-deu-eng")]
    assert named[0] == named[1] != named[2]
    mirror = fingerprint(source="https://mirror.example.org/y.tsv", sha256={"source": "0" * 64})
    assert mirror == other[-1]  # the same file, wherever it comes from
    assert server.asked == []  # nothing is fetched for a plan


def test_broken_files_of_a_corpus_are_used_as_far_as_they_go(place: Place) -> None:
    whole = "".join(f"line {number}\tZeile {number}\n" for number in range(20_000))
    place.write("a.tsv.gz", whole)
    content = (place.folder / "a.tsv.gz").read_bytes()
    (place.folder / "a.tsv.gz").write_bytes(content[: len(content) // 2])
    place.write("b.tsv.gz", "last\tletzte\n")
    source = {"format": "tsv", "source": "*.tsv.gz"}
    with pytest.raises(UserError, match=r"a\.tsv\.gz is truncated after line \d+.*corpus\.on_error=keep"):
        place.read(source)
    rows = place.read(source, on_error="keep")
    assert rows[0] == ("line 0", "Zeile 0")
    assert rows[-1] == ("last", "letzte")
    assert 5_000 < len(rows) < 20_000


def test_a_truncated_translation_memory_is_used_as_far_as_it_goes(place: Place) -> None:
    rows = [(f"line {number}", f"Zeile {number}") for number in range(3000)]
    write_tmx(place.folder / "x.tmx", rows)
    content = (place.folder / "x.tmx").read_bytes()
    (place.folder / "x.tmx").write_bytes(content[: len(content) // 2])
    source = {"format": "tmx", "source": "x.tmx"}
    with pytest.raises(UserError, match=r"x\.tmx, line \d+, byte \d+: .*on_error=keep"):
        place.read(source)
    folder = place.collect({"it": source}, on_error="keep")["it"]
    kept = pairs(folder)
    assert kept == rows[: len(kept)]
    assert 1400 < len(kept) < 1600
    (told,) = manifest(folder)["facts"]["broken files, read up to the damage"]
    assert "x.tmx, line " in told


def test_raw_files_are_hashed_once_and_changes_are_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("x.tsv", "a\tb\n")
    plan = place.plan({"it": {"format": "tsv", "source": "x.tsv"}})
    task, store = plan.task("collect.en-de", "it"), place.store
    with monkeypatch.context() as patch:
        patch.setattr("kd.base.hashing.sha256", None)
        execute(task, store, threads=1, device="cpu", machine={})
    plan = place.plan({"it": {"format": "tsv", "source": "x.tsv", "weight": 3.0}})
    place.write("x.tsv", "a\tc and more\n")
    with pytest.raises(UserError, match=r"x\.tsv has changed since the run was planned"):
        execute(plan.task("collect.en-de", "it"), store, threads=1, device="cpu", machine={})


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"format": "plain", "source": "a"}, "lacks a side"),
        ({"format": "auto", "source": "a.txt"}, "lacks a side"),
        ({"format": "tsv"}, "has no file"),
        ({"format": "tsv", "source": "a", "target": "b"}, r"it\.target has no effect on the format tsv"),
        ({"format": "tsv", "source": "a", "columns": {"Score": 3}}, "Score is not a valid column name"),
        ({"format": "plain", "source": "a", "target": "b", "scores": {"id": "c"}}, "id is not a valid column name"),
        ({"format": "tmx", "source": "a", "keep": {"prop:a": True, "prop_a": True}}, "columns of the same name"),
        ({"format": "mtdata", "id": "news-commentary"}, "not an id of mtdata"),
        ({"format": "sacrebleu"}, r"it\.name is missing"),
        ({"format": "sacrebleu", "name": "wmt12345"}, r"no test set called wmt12345"),
        ({"format": "catalogue", "files": "{language}.po"}, "is incomplete"),
        ({"format": "tsv", "source": "a", "sha256": {"x": "0"}}, r"sha256\.x belongs to no file"),
        ({"format": "tsv", "source": "*.nowhere"}, "No file matches"),
        ({"format": "tsv", "source": "missing.tsv"}, r"missing\.tsv does not exist"),
    ],
)
def test_settings_that_cannot_work_are_told_before_anything_runs(
    place: Place, source: Mapping[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        place.plan({"it": source})


@pytest.mark.parametrize("content", [b"", None])
def test_nothing_on_standard_input_is_one_sentence(
    place: Place, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin.keep_stdin.cache_clear()
    monkeypatch.setattr(sys, "stdin", None if content is None else io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(UserError, match=r"standard input\), but .*cat corpus"):
        place.compose({"it": {"format": "tsv", "source": "-"}})


def test_gettext_in_another_language_than_english(place: Place) -> None:
    place.write("en.po", 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"\n\nmsgid "eins"\nmsgstr "one"\n')
    source = {"format": "catalogue", "root": str(place.folder), "files": "{language}.po", "gettext_language": "de"}
    assert place.read(source) == [("one", "eins")]


def test_broken_rows_are_left_out_counted_and_sampled(place: Place) -> None:
    place.write("x.tsv", b"a\tb\nonly one\nc\td\n\xff\te\n1\t2\t3\ne\tf\n")
    folder = place.collect({"it": {"format": "tsv", "source": "x.tsv"}}, on_error="skip")["it"]
    assert pairs(folder) == [("a", "b"), ("c", "d"), ("e", "f")]
    assert manifest(folder)["dropped"] == {"too few cells": 1, "invalid UTF-8": 1, "too many cells": 1}
    assert sorted(read_rejects(folder / "rejected.tsv.zst")) == [
        ("invalid UTF-8", (4, "\ufffd\te", "")),
        ("too few cells", (2, "only one", "")),
        ("too many cells", (5, "1\t2\t3", "")),
    ]
    assert "left out 3 of 6" in manifest(folder)["facts"]["note"]


def test_malformed_units_of_a_translation_memory_are_left_out(place: Place) -> None:
    good = '<tu><tuv xml:lang="en"><seg>{0}</seg></tuv><tuv xml:lang="de"><seg>{0} x</seg></tuv></tu>\n'
    texts = ["one", "a &#x1f; b", "two", "a \x02 b", "three & four", "five", "<b>six", "seven"]
    body = "".join(good.format(text) for text in texts)
    body += (
        good.format("unclosed").replace("</tu>", "") + "<!-- " + good.format("comment") + " -->" + good.format("last")
    )
    place.write("x.tmx", f'<?xml version="1.0"?>\n<tmx version="1.4"><body>\n{body}</body></tmx>')
    source = {"format": "tmx", "source": "x.tmx"}
    folder = place.collect({"it": source}, on_error="skip")["it"]
    assert pairs(folder) == [(text, f"{text} x") for text in ("one", "two", "five", "seven", "last")]
    assert manifest(folder)["dropped"] == {"malformed unit": 5}
    assert "x.tmx, the unit in line 4: " in manifest(folder)["facts"]["first broken row"]
    place.write("y.tmx", f'<tmx version="1.4"><body>\n{body}')
    with pytest.raises(UserError, match="the file ends before </tmx>"):
        place.read({**source, "source": "y.tmx"}, on_error="skip")


def test_skipped_rows_have_a_ceiling_beyond_a_hundred(place: Place) -> None:
    rows = [f"line {number}\tZeile {number}" for number in range(5000)]
    place.write("few.tsv", "\n".join(["first\terste", *["broken"] * 100, *rows[:50]]))
    assert len(place.read({"format": "tsv", "source": "few.tsv"}, on_error="skip")) == 51
    place.write("many.tsv", "\n".join([*rows, *["broken"] * 101, "last\tletzte"]))
    source = {"format": "tsv", "source": "many.tsv"}
    with pytest.raises(UserError, match=r"101 of 5,102 rows of corpus\.sources\.it are broken \(too few cells 101\)"):
        place.read(source, on_error="skip")
    assert len(place.read(source, on_error="skip", skip_share=0.02)) == 5001


def test_more_than_a_tenth_left_out_is_a_warning(place: Place) -> None:
    write_tmx(place.folder / "x.tmx", [("one", "eins")] * 9)
    with (place.folder / "x.tmx").open("r+b") as file:
        content = file.read()
    unit = b'<tu><tuv xml:lang="en"><seg>x</seg></tuv></tu>'
    folder = {}
    for count in (1, 2):
        place.write(f"{count}.tmx", content.replace(b"</body>", unit * count + b"</body>"))
        folder[count] = place.collect({"it": {"format": "tmx", "source": f"{count}.tmx"}})["it"]
    assert manifest(folder[1])["facts"]["note"] == "left out 1 of 10 (no de 1)"
    assert "MORE THAN A TENTH" in manifest(folder[2])["facts"]["note"]


def test_given_dev_and_test_sets_have_no_windows_line_ends(place: Place) -> None:
    place.write("t.en", "".join(f"training sentence {number}\n" for number in range(40)))
    place.write("t.de", "".join(f"Trainingssatz {number}\n" for number in range(40)))
    place.write("d.en", "\ufeffA dog.\r\nA cat.\r\n")
    place.write("d.de", "\ufeffEin Hund.\r\nEine Katze.\r\n")
    sources = {
        "t": {"format": "plain", "source": "t.en", "target": "t.de"},
        "d": {"format": "plain", "source": "d.en", "target": "d.de", "use": "dev"},
    }
    split = place.run(place.compose(sources, "split.test=5"), upto="split")["split/all"]
    assert (split / "en-de" / "dev.source").read_bytes() == b"A dog.\nA cat.\n"
    assert (split / "en-de" / "dev.target").read_bytes() == b"Ein Hund.\nEine Katze.\n"


def test_a_tar_without_an_end_mark_is_read_with_a_warning(place: Place) -> None:
    path = tarred(place.folder / "a.tar", {"x.tsv": b"one\teins\n"})
    path.write_bytes(gzip.decompress(path.read_bytes())[:1024])
    folder = place.collect({"it": {"format": "tsv", "source": "a.tar"}})["it"]
    assert pairs(folder) == [("one", "eins")]
    assert "a.tar has no end mark" in manifest(folder)["facts"]["note"]


def test_a_password_is_in_no_config_manifest_or_fingerprint(
    place: Place, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    server.login, server.parameters, server.files = "alice:hunter2", "token=T0PSECRET", {"/x.tsv": b"one\teins\n"}
    address = server.url.replace("://", "://alice:hunter2@")
    plan = place.compose({"it": {"format": "tsv", "source": f"{address}/x.tsv?token=T0PSECRET"}})
    done = place.run(plan)
    assert pairs(done["collect/it"]) == [("one", "eins")]
    again = place.compose({"it": {"format": "tsv", "source": f"{server.url}/x.tsv?token=an0ther"}})
    assert again.task("collect.en-de", "it").fingerprint == plan.task("collect.en-de", "it").fingerprint
    for path in [*(place.folder / "store").rglob("*"), *(place.folder / "cache").rglob("*")]:
        text = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
        assert not [secret for secret in (b"alice", b"hunter2", b"T0PSECRET") if secret in text]
    with pytest.raises(UserError, match="differs from another URL only in its secret parameters"):
        place.compose(
            {
                "a": {"format": "tsv", "source": f"{server.url}/x.tsv?token=1"},
                "b": {"format": "tsv", "source": f"{server.url}/x.tsv?token=2"},
            }
        )
