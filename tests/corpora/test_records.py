"""JSON lines, Parquet and XLSX give the text of their records, and refuse what TSV refuses with file and row."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pytest
from pyarrow import parquet

from kd.base.errors import UserError
from kd.corpora.lines import BrokenRow, BrokenText
from kd.corpora.records import read_jsonl, read_parquet, read_xlsx
from kd.corpora.skips import Skips
from tests.corpora.samples import TORTURE

ROWS = [{"translation": {"en": text, "de": text[::-1]}, "score": 0.25} for text in TORTURE if "\n" not in text]
FIELDS = ["translation.en", "translation.de", "score"]
WANTED = [(row["translation"]["en"].rstrip("\r"), row["translation"]["de"].rstrip("\r"), "0.25") for row in ROWS]  # type: ignore[index]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def table(path: Path, rows: list[Any], **options: Any) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)
    return path


def sheet(path: Path, *rows: tuple[Any, ...]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)  # type: ignore[union-attr]
    book.save(path)
    return path


def test_json_lines_give_fields_of_objects_within_objects(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ROWS)
    assert list(read_jsonl(path, FIELDS, Counter())) == WANTED
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes() + b"\n"))
    assert list(read_jsonl(packed, FIELDS, Counter())) == WANTED


def test_parquet_gives_columns_of_structs_across_row_groups(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", ROWS, row_group_size=3, compression="zstd")
    assert list(read_parquet(path, FIELDS, Counter())) == WANTED


def test_a_field_whose_name_holds_a_dot_comes_before_a_field_within(tmp_path: Path) -> None:
    row = {"a.b": "one", "de": "eins"}
    assert list(read_jsonl(jsonl(tmp_path / "a.jsonl", [row]), ["a.b", "de"], Counter())) == [("one", "eins")]
    assert list(read_parquet(table(tmp_path / "a.parquet", [row]), ["a.b", "de"], Counter())) == [("one", "eins")]


@pytest.mark.parametrize("read", [read_jsonl, read_parquet])
def test_line_breaks_become_spaces_and_are_counted(
    tmp_path: Path, read: Callable[..., Iterator[tuple[str, ...]]]
) -> None:
    make: Callable[..., Path] = jsonl if read is read_jsonl else table
    counts: Counter[str] = Counter()
    path = make(tmp_path / "a", [{"en": "one\r\ntwo ", "de": "a\nb"}])
    assert list(read(path, ["en", "de"], counts)) == [("one two", "a b")]
    assert counts == {"line breaks made spaces": 2}


@pytest.mark.parametrize("read", [read_jsonl, read_parquet])
def test_a_missing_side_is_a_broken_row_and_a_missing_score_is_empty(
    tmp_path: Path, read: Callable[..., Iterator[tuple[str, ...]]]
) -> None:
    make: Callable[..., Path] = jsonl if read is read_jsonl else table
    rows = [{"en": "a", "de": "b", "s": 1}, {"en": "c", "de": None, "s": 2}, {"en": "e", "de": "f", "s": None}]
    path = make(tmp_path / "a", rows)
    with pytest.raises(BrokenRow, match=r"a, (line|row) 2: de is missing"):
        list(read(path, ["en", "de", "s"], Counter()))
    skips = Skips()
    assert [row[:2] for row in read(path, ["en", "de", "s"], Counter(), skips.take)] == [("a", "b"), ("e", "f")]
    assert skips.counts == {"a side without text": 1}


@pytest.mark.parametrize(
    ("line", "problem", "reason"),
    [
        (b'{"en": "a", "de": ', "line 2: Expecting value", "malformed records"),
        (b'["a", "b"]', "line 2: it is not a JSON object", "malformed records"),
        (b"[" * 100_000, "line 2: it is nested too deeply", "malformed records"),
        (b'{"en": "a", "de": 5}', "line 2: de is 5, which is not text", "a side without text"),
        (b'{"en": "a", "de": true}', "line 2: de is True, which is not text", "a side without text"),
        (rb'{"en": "a", "de": "\ud83d"}', "line 2: de holds half a character", "a side without text"),
        (b'{"en": "a\xff", "de": "b"}', "line 2: byte 10", "invalid UTF-8"),
    ],
)
def test_a_broken_line_of_json_is_named_or_skipped(tmp_path: Path, line: bytes, problem: str, reason: str) -> None:
    good = b'{"en": "x", "de": "y"}\n'
    (tmp_path / "a.jsonl").write_bytes(good + line + b"\n" + good)
    with pytest.raises(BrokenRow, match=problem):
        list(read_jsonl(tmp_path / "a.jsonl", ["en", "de"], Counter()))
    skips = Skips()
    assert list(read_jsonl(tmp_path / "a.jsonl", ["en", "de"], Counter(), skips.take)) == [("x", "y"), ("x", "y")]
    assert skips.counts == {reason: 1}


def test_invalid_text_in_parquet_is_named_or_skipped(tmp_path: Path) -> None:
    raw = pyarrow.array([b"a", b"b\xff", b"c"])
    strings = pyarrow.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    parquet.write_table(pyarrow.table({"en": strings, "de": ["x", "y", "z"]}), tmp_path / "a.parquet")
    with pytest.raises(BrokenRow, match=r"a\.parquet, row 2: a text is not valid UTF-8"):
        list(read_parquet(tmp_path / "a.parquet", ["en", "de"], Counter()))
    skips = Skips()
    assert list(read_parquet(tmp_path / "a.parquet", ["en", "de"], Counter(), skips.take)) == [("a", "x"), ("c", "z")]
    assert skips.counts == {"invalid UTF-8": 1}


def test_a_changed_byte_or_a_missing_end_of_parquet_is_refused(tmp_path: Path) -> None:
    rows = [{"en": f"number {n}", "de": f"Nummer {n}"} for n in range(100)]
    path = table(tmp_path / "a.parquet", rows, compression="none", use_dictionary=False, write_page_checksum=True)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"number 55", b"number 95"))
    assert path.read_bytes() != content
    with pytest.raises(BrokenText, match=r"a\.parquet is damaged after row 0"):
        list(read_parquet(path, ["en", "de"], Counter()))
    for size in (0, 3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(BrokenText, match=r"a\.parquet is damaged or not a Parquet file"):
            list(read_parquet(path, ["en", "de"], Counter()))


def test_a_name_of_a_column_of_parquet_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", [{"quelle": "a", "de": "b"}], store_schema=False)
    content = path.read_bytes()
    assert content.count(b"quelle") > 0
    path.write_bytes(content.replace(b"quelle", b"\xe5uelle"))
    with pytest.raises(BrokenText, match=r"a\.parquet is damaged or not a Parquet file"):
        list(read_parquet(path, ["quelle", "de"], Counter()))


def test_columns_that_are_missing_or_no_text_are_named(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", [{"translation": {"en": "a"}, "n": 1}])
    with pytest.raises(UserError, match=r"has no column en\. Set `fields` to columns of .*: translation\.en, n\."):
        list(read_parquet(path, ["en", "n"], Counter()))
    with pytest.raises(UserError, match=r"The column n of .* is not text"):
        list(read_parquet(path, ["translation.en", "n"], Counter()))


def test_a_spreadsheet_gives_columns_by_number(tmp_path: Path) -> None:
    rows = [("id", "English", "German"), (1, "a term", "ein Begriff"), (None,), (2, "2023", 2023), (3, " x\ny", "ß")]
    path = sheet(tmp_path / "a.xlsx", *rows)
    counts: Counter[str] = Counter()
    wanted = [("a term", "ein Begriff", "1"), ("2023", "2023", "2"), ("x y", "ß", "3")]
    assert list(read_xlsx(path, [2, 3, 1], counts, header=True)) == wanted
    assert counts == {"line breaks made spaces": 1}


@pytest.mark.parametrize("value", [None, 2.5, True, date(2026, 11, 30), "=1/0"])
def test_a_cell_without_text_is_a_broken_row(tmp_path: Path, value: Any) -> None:
    path = sheet(tmp_path / "a.xlsx", ("a", "b"), ("c", value), ("e", "f"))
    with pytest.raises(BrokenRow, match=r"a\.xlsx, row 2: column 2 is "):
        list(read_xlsx(path, [1, 2], Counter()))
    skips = Skips()
    assert list(read_xlsx(path, [1, 2], Counter(), broken=skips.take)) == [("a", "b"), ("e", "f")]
    assert skips.counts == {"a side without text": 1}


def test_the_sheet_is_named_where_several_have_content(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.create_sheet("Terms").append(["a", "b"])
    book.save(tmp_path / "a.xlsx")
    assert list(read_xlsx(tmp_path / "a.xlsx", [1, 2], Counter())) == [("a", "b")]  # the other sheet is empty
    book["Sheet"].append(["c", "d"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(UserError, match="has several sheets: Sheet, Terms"):
        list(read_xlsx(tmp_path / "a.xlsx", [1, 2], Counter()))
    assert list(read_xlsx(tmp_path / "a.xlsx", [1, 2], Counter(), sheet="Sheet")) == [("c", "d")]
    with pytest.raises(UserError, match=r"has no sheet Words\. Set `sheet` to one of Sheet, Terms"):
        list(read_xlsx(tmp_path / "a.xlsx", [1, 2], Counter(), sheet="Words"))


def test_a_recorded_size_that_is_too_small_hides_no_row(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", *[(f"a{n}", f"b{n}") for n in range(9)])
    small = tmp_path / "b.xlsx"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(small, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'ref="A1:B9"', b'ref="A1:A2"'))
    assert len(list(read_xlsx(small, [1, 2], Counter()))) == 9


def test_a_damaged_spreadsheet_is_refused(tmp_path: Path) -> None:
    content = sheet(tmp_path / "a.xlsx", *[(f"a{n}", f"b{n}") for n in range(900)]).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.xlsx") as archive:
        entry = archive.getinfo("xl/worksheets/sheet1.xml")
    changed = bytearray(content)
    changed[entry.header_offset + entry.compress_size // 2] ^= 0xFF
    for broken in (b"", b"a\tb\n", content[: len(content) // 2], bytes(changed)):
        (tmp_path / "a.xlsx").write_bytes(broken)
        with pytest.raises(BrokenText, match=r"a\.xlsx is (damaged after row|not a readable XLSX file)"):
            list(read_xlsx(tmp_path / "a.xlsx", [1, 2], Counter()))
