"""The readers, each with a whole input and a check that says what a mutated input may do.

A reader may raise UserError (the user sees one sentence) or accept the input. What it accepts must be right: text of
formats with checksums is equal to the original, and a pair of other formats stands in one row of the file.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import shutil
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polib
import zstandard

from kd.base.errors import UserError
from kd.corpora.archives import members
from kd.corpora.catalogue import read_catalogues
from kd.corpora.given_lists import read_fairseq, read_moses
from kd.corpora.ids import Origin
from kd.corpora.lines import open_text
from kd.corpora.moses import group_fairseq, group_given, read_nbest
from kd.corpora.nbest import NBestCorpus
from kd.corpora.plain import read_plain
from kd.corpora.records import read_jsonl, read_parquet, read_xlsx
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.tmx import read_tmx
from kd.corpora.tsv import read_tsv
from tests.fuzz.reader import Reader
from tests.fuzz.records import RECORDS

ROWS = [(f"source {number} äöü", f"target {number} 日本") for number in range(40)]
SOURCES = "".join(f"{source}\n" for source, _ in ROWS).encode()
TARGETS = "".join(f"{target}\n" for _, target in ROWS).encode()
TABLE = "".join(f"{source}\t{target}\t0.5\n" for source, target in ROWS).encode()
LINES = [source for source, _ in ROWS]


def read_all(path: Path) -> None:
    """Read a translation memory in both ways; a unit that is accepted is one of those in the file."""
    for broken in (None, lambda *_: None):
        rows = list(read_tmx(path, "en", "de", broken=broken))
        assert all(len(row) == 2 and "\n" not in "".join(row) for row in rows)


def memory() -> bytes:
    """Return a translation memory."""
    units = "".join(
        f'<tu tuid="{number}"><tuv xml:lang="en"><seg>{source} <ph>{{0}}</ph></seg></tuv>'
        f'<tuv xml:lang="de"><seg>{target}</seg></tuv></tu>\n'
        for number, (source, target) in enumerate(ROWS)
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><body>\n{units}</body></tmx>\n'.encode()


def check_table(path: Path) -> None:
    """Compare each row of a TSV file with the file's own lines."""
    text = path.read_bytes().decode("utf-8", "replace").removeprefix("\ufeff")
    cells = {tuple(cell.rstrip("\r").strip("\ufeff\x1a") for cell in line.split("\t")[:2]) for line in text.split("\n")}
    for broken in (None, lambda *_: None):
        for row in read_tsv(path, [1, 2], broken=broken):
            assert tuple(cell.strip("\ufeff\x1a") for cell in row) in cells


def check_sides(path: Path) -> None:
    """Compare each pair of two files with the lines of the same number."""
    other = path.with_name("other")
    other.write_bytes(TARGETS)
    for number, (_, target) in enumerate(read_plain(path, other)):
        assert target == ROWS[number][1]


def unchanged(suffix: str) -> Callable[[Path], None]:
    """Return a check that an accepted file with a checksum holds the original lines."""

    def check(path: Path) -> None:
        renamed = path.rename(path.with_name(f"input{suffix}"))
        assert is_original(list(open_text(renamed)))

    return check


def is_original(lines: list[str]) -> bool:
    """Tell whether lines are the original ones, once or as often as a whole stream was repeated."""
    return lines == LINES * (len(lines) // len(LINES))


def archive(suffix: str) -> Callable[[Path], None]:
    """Return a check that the members of an accepted archive hold the original lines."""

    def check(path: Path) -> None:
        renamed = path.rename(path.with_name(f"input{suffix}"))
        for member in members(renamed):
            lines = list(open_text(member))
            assert suffix == ".tar" or is_original(lines)  # an uncompressed tar has no checksums

    return check


def zipped() -> bytes:
    """Return a zip with two files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.en", SOURCES)
        file.writestr("b.en", SOURCES)
    return content.getvalue()


def tarred() -> bytes:
    """Return a tar with two files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as file:
        for name in ("a.en", "b.en"):
            info = tarfile.TarInfo(name)
            info.size = len(SOURCES)
            file.addfile(info, io.BytesIO(SOURCES))
    return content.getvalue()


def catalogue(suffix: str) -> Callable[[Path], None]:
    """Return a check of one kind of message catalogue."""

    def check(path: Path) -> None:
        folder = path.parent / "locale"
        folder.mkdir()
        shutil.copy(path, folder / f"de{suffix}")
        if suffix == ".json":
            (folder / "en.json").write_text(json.dumps(dict(enumerate(LINES))), "utf-8")
        for pair in read_catalogues(folder, "{language}" + suffix, "en", "de"):
            assert "\n" not in "".join(pair)

    return check


def messages() -> polib.POFile:
    """Return a catalogue of gettext's."""
    file = polib.POFile()
    file.metadata = {"Content-Type": "text/plain; charset=UTF-8", "Plural-Forms": "nplurals=2; plural=(n != 1);"}
    for source, target in ROWS:
        file.append(polib.POEntry(msgid=source, msgstr=target))
    file.append(polib.POEntry(msgid="%d file", msgid_plural="%d files", msgstr_plural={0: "a", 1: "b"}))
    return file


def nbest() -> bytes:
    """Return n-best lists in the Moses format."""
    lines = (f"{number} ||| hypothesis {k} ||| F0= -0.5 ||| -{k}.25\n" for number in range(20) for k in range(3))
    return "".join(lines).encode()


def check_nbest(path: Path) -> None:
    """Read n-best lists in every way."""
    for read in (read_nbest, group_given, read_moses):
        _within(lambda read=read: list(read(path)))  # type: ignore[misc]
    list(read_nbest(path))


def generated() -> bytes:
    """Return what fairseq-generate prints."""
    return "".join(f"S-{n}\tx\nH-{n}\t-0.5\ty\nD-{n}\t-0.5\ttarget {n}\n" for n in range(20)).encode()


def check_generated(path: Path) -> None:
    """Read fairseq's output in both ways."""
    _within(lambda: list(group_fairseq(path)))
    list(read_fairseq(path))


def shards(name: str) -> Callable[[Path], None]:
    """Return a check of a corpus folder in which one file is mutated."""

    def check(path: Path) -> None:
        folder = path.parent / "corpus"
        write_corpus(folder)
        shutil.copy(path, folder / name)
        corpus = Corpus(folder)
        corpus.verify()
        assert [(pair.source, pair.target) for pair in corpus.read()] == ROWS or name == "index.json"

    return check


def write_corpus(folder: Path) -> None:
    """Write a corpus folder of two shards."""
    origin = Origin("en-de", "web")
    with CorpusWriter(folder, ("en", "de"), 20, origins=[origin]) as writer:
        for pair in origin.number(ROWS):
            writer.add(pair)


def shard_file(name: str) -> Callable[[], bytes]:
    """Return a function that makes one file of a corpus folder."""

    def content() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            write_corpus(Path(folder))
            return (Path(folder) / name).read_bytes()

    return content


def lists_index() -> bytes:
    """Return the index of a folder of n-best lists."""
    shard = {"name": "00000", "lists": 1, "lines": 2, "bytes": 1, "sha256": "0" * 64, "facts": {"capped": 0}}
    return json.dumps({"format": "kd.nbest", "version": 2, "facts": {}, "shards": [shard]}).encode()


def check_lists(path: Path) -> None:
    """Read the index of a folder of n-best lists."""
    path.rename(path.with_name("index.json"))
    NBestCorpus(path.parent).verify()


def record_lines() -> bytes:
    """Return JSON lines."""
    return "".join(json.dumps({"en": source, "de": target}) + "\n" for source, target in ROWS).encode()


def parquet_table() -> bytes:
    """Return a Parquet file whose pages have checksums."""
    import pyarrow
    from pyarrow import parquet

    content = io.BytesIO()
    rows = pyarrow.Table.from_pylist([{"en": source, "de": target} for source, target in ROWS])
    parquet.write_table(rows, content, write_page_checksum=True)
    return content.getvalue()


def spreadsheet() -> bytes:
    """Return an XLSX file."""
    import openpyxl

    book, content = openpyxl.Workbook(), io.BytesIO()
    for row in ROWS:
        book.active.append(row)  # type: ignore[union-attr]
    book.save(content)
    return content.getvalue()


def table_of(
    suffix: str, read: Callable[..., Iterator[tuple[str, ...]]], fields: Sequence[Any]
) -> Callable[[Path], None]:
    """Return a check of a file of records; no text that is accepted holds a line break."""

    def check(path: Path) -> None:
        renamed = path.rename(path.with_name(f"input{suffix}"))
        for row in read(renamed, fields, Counter()):
            assert len(row) == 2 and "\n" not in "".join(row)

    return check


def _within(read: Callable[[], object]) -> None:
    with contextlib.suppress(UserError):
        read()


def _compressed(suffix: str, compress: Callable[[bytes], bytes]) -> Reader:
    return Reader(f"plain{suffix}", lambda: compress(SOURCES), unchanged(suffix))


_zstandard = zstandard.ZstdCompressor(write_checksum=True).compress
READERS = (
    Reader("tmx", memory, read_all),
    Reader("tsv", lambda: TABLE, check_table),
    Reader("plain", lambda: SOURCES, check_sides),
    _compressed(".gz", gzip.compress),
    _compressed(".xz", lzma.compress),
    _compressed(".bz2", bz2.compress),
    _compressed(".zst", _zstandard),
    Reader("zip", zipped, archive(".zip")),
    Reader("tar", tarred, archive(".tar")),
    Reader("tgz", lambda: gzip.compress(tarred()), archive(".tgz")),
    Reader("txz", lambda: lzma.compress(tarred()), archive(".tar.xz")),
    Reader("jsonl", record_lines, table_of(".jsonl", read_jsonl, ["en", "de"])),
    Reader("parquet", parquet_table, table_of(".parquet", read_parquet, ["en", "de"])),
    Reader("xlsx", spreadsheet, table_of(".xlsx", read_xlsx, [1, 2])),
    Reader("json", lambda: json.dumps(dict(enumerate(t for _, t in ROWS))).encode(), catalogue(".json")),
    Reader("po", lambda: str(messages()).encode(), catalogue(".po")),
    Reader("mo", lambda: messages().to_binary(), catalogue(".mo")),
    Reader("nbest", nbest, check_nbest),
    Reader("fairseq", generated, check_generated),
    Reader("index of shards", shard_file("index.json"), shards("index.json")),
    Reader("shard", shard_file("00000.tsv.zst"), shards("00000.tsv.zst")),
    Reader("index of n-best lists", lists_index, check_lists),
    *RECORDS,
)
