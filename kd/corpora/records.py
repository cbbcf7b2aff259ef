"""Read parallel text from records and cells: JSON lines, Parquet and spreadsheets (XLSX).

All three readers stream, and treat broken rows as for TSV: an error names the row, or the row is counted and left out.
A line break within a text becomes a space and is counted.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.corpora.archives import UNREADABLE, Member, is_fault_of_disk, reason_of
from kd.corpora.lines import Broken, BrokenRow, BrokenText, PathLike, check_file, open_marked, open_text, without_breaks
from kd.corpora.tsv import refuse

Row = tuple[str, ...]  # source, target, further columns
BREAKS = "line breaks made spaces"
NO_TEXT, MALFORMED, INVALID = "a side without text", "malformed records", "invalid UTF-8"
BATCH_ROWS = 4096  # of a Parquet file in memory
BUFFER_BYTES = 1 << 20  # of a column of a Parquet file, before it is decompressed
LARGEST_STRINGS = 1 << 28  # bytes of the texts of a spreadsheet, which openpyxl keeps in memory


def read_jsonl(
    path: PathLike | Member, fields: Sequence[str], counts: Counter[str], broken: Broken | None = None
) -> Iterator[Row]:
    """Yield the values of fields of the JSON objects in a file, one object a line. Blank lines are left out.

    Args:
        path: The file, compressed or not.
        fields: Names of the fields of source, target and additional columns; a dot leads into a nested object.
        counts: Receives the number of replaced line breaks.
        broken: Receives each line that is not such an object. Without it, such a line raises BrokenRow.

    Raises:
        UserError: Immediately for a missing file; while reading, the errors of `open_text`.
    """
    place = check_file(path)
    lines = open_text(place) if broken is None else open_marked(place)
    return _texts(f"{place}, line", _objects(place, lines), fields, counts, broken)


def read_parquet(
    path: PathLike | Member, fields: Sequence[str], counts: Counter[str], broken: Broken | None = None
) -> Iterator[Row]:
    """Yield the values of columns of a Parquet file, in constant memory whatever the size of its row groups.

    The arguments are those of `read_jsonl`; a dot in a field leads into a struct.

    Raises:
        UserError: For a missing file or column, or a side that is not text.
        BrokenText: For a damaged or truncated file; checksums of pages are checked.
    """
    import pyarrow
    from pyarrow import parquet

    place = _on_disk(path)
    try:
        file = parquet.ParquetFile(place, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: of a column's name
        raise _damaged(place, "is damaged or not a Parquet file", error) from None
    _check_columns(place, file.schema, fields)
    return _texts(f"{place}, row", _parquet_records(place, file, fields), fields, counts, broken)


def read_xlsx(
    path: PathLike | Member,
    columns: Sequence[int],
    counts: Counter[str],
    header: bool = False,
    sheet: str | None = None,
    broken: Broken | None = None,
) -> Iterator[Row]:
    """Yield the cells of the given columns of each row of a spreadsheet. Rows without any text are left out.

    Whole numbers are text as written. Dates, truth values, errors and other numbers are not text, since a spreadsheet
    does not store how it displays them; columns after the target may have numbers.

    Args:
        path: The file.
        columns: Numbers of the columns of source, target and additional values, counted from 1.
        counts: Receives the number of replaced line breaks.
        header: Leave out the first row.
        sheet: Name of the sheet; needed if several sheets have content.
        broken: Receives each row in which a side has no text. Without it, such a row raises BrokenRow.

    Raises:
        UserError: For a missing file or sheet.
        BrokenText: For a damaged, truncated or encrypted file.
    """
    place = _on_disk(path)
    names = [f"column {number}" for number in columns]
    return _texts(f"{place}, row", _cells(place, columns, header, sheet), names, counts, broken)


# --- what they share ---------------------------------------------------------------------------------------------


class _NoText(Exception):
    """A value that is not text, with a sentence that describes it."""


Record = Mapping[str, Any] | Sequence[Any] | BrokenRow  # values by field, or in the order of the fields


def _texts(
    label: str,
    records: Iterable[tuple[int, Record]],
    fields: Sequence[str],
    counts: Counter[str],
    broken: Broken | None,
) -> Iterator[Row]:
    take = broken or refuse
    for number, record in records:
        if isinstance(record, BrokenRow):
            take(record, [record.text])
            continue
        values = [_value(record, field) for field in fields] if isinstance(record, Mapping) else record
        try:
            yield tuple([_text(value, place, counts) for place, value in enumerate(values)])
        except _NoText as error:
            place, what = error.args
            problem = f"{label} {number}: {fields[place]} {what}."
            texts = ["" if value is None else str(value) for value in values[:2]]
            take(BrokenRow(problem, "Mend the file.", NO_TEXT, number), texts)


def _value(record: Mapping[str, Any], field: str) -> Any:
    """Return the value of a field, None if it is missing. A field whose own name contains the dot takes precedence."""
    if field in record:
        return record[field]
    first, dot, rest = field.partition(".")
    inner = record.get(first) if dot else None
    return _value(inner, rest) if isinstance(inner, Mapping) else None


def _text(value: Any, place: int, counts: Counter[str]) -> str:
    """Return a value as text. place: index of its field; from 2 on, numbers are allowed and None becomes empty."""
    if place >= 2:
        if value is None:
            return ""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return repr(value)
    if not isinstance(value, str):
        raise _NoText(place, "is missing" if value is None else f"is {str(value)[:40]}, which is not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON's escapes can spell
        raise _NoText(place, "holds half a character") from None
    if "\n" in value:
        counts[BREAKS] += 1
    return without_breaks(value)


def _on_disk(path: PathLike | Member) -> Path:
    place = check_file(path)
    if isinstance(place, Member):
        raise UserError(f"{place} is in an archive, where its format cannot be read.", "Unpack the archive.")
    return place


def _damaged(place: Path, what: str, error: Exception) -> Exception:
    if is_fault_of_disk(error):
        return error
    return BrokenText(f"{place} {what}: {reason_of(error)}.", "Fetch or make it again.")


# --- JSON lines --------------------------------------------------------------------------------------------------


def _objects(label: Path | Member, lines: Iterable[str | BrokenRow]) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(lines, 1):
        if isinstance(line, BrokenRow):
            yield number, line
        elif line.strip():
            yield number, _object(label, number, line)


def _object(label: Path | Member, number: int, line: str) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "it is nested too deeply")
        return BrokenRow(f"{label}, line {number}: {reason}.", "Mend the line.", MALFORMED, number, line)
    if isinstance(value, dict):
        return value
    return BrokenRow(f"{label}, line {number}: it is not a JSON object.", "Mend the line.", MALFORMED, number, line)


# --- Parquet -----------------------------------------------------------------------------------------------------


def _check_columns(place: Path, schema: Any, fields: Sequence[str]) -> None:
    columns = {schema.column(number).path: schema.column(number) for number in range(len(schema))}
    for number, field in enumerate(fields):
        if field not in columns:
            raise UserError(
                f"{place} has no column {field}.",
                f"Set `fields` to columns of the file: {', '.join(columns)}.",
            )
        if number < 2 and columns[field].physical_type != "BYTE_ARRAY":
            raise UserError(
                f"The column {field} of {place} is not text.", f"Set `fields` to text columns: {', '.join(columns)}."
            )


def _parquet_records(place: Path, file: Any, fields: Sequence[str]) -> Iterator[tuple[int, Record]]:
    import pyarrow

    number = 0
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(dict.fromkeys(fields)), use_threads=False):
            for values in zip(*(_values(batch, field) for field in fields), strict=True):
                number += 1
                bad = next((value for value in values if isinstance(value, bytes)), None)
                if bad is None:
                    yield number, values
                else:
                    text = bad.decode("utf-8", "replace")
                    problem = f"{place}, row {number}: a text is not valid UTF-8."
                    yield number, BrokenRow(problem, "Make the file again.", INVALID, number, text)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(place, f"is damaged after row {number}", error) from None


def _values(batch: Any, field: str) -> list[Any]:
    """Return the values of a column of a batch; texts with invalid UTF-8 stay bytes."""
    import pyarrow
    from pyarrow import compute

    column = batch.column(field) if field in batch.schema.names else None
    if column is None:
        first, *rest = field.split(".")
        column = compute.struct_field(batch.column(first), rest)
    if not (pyarrow.types.is_binary(column.type) or pyarrow.types.is_large_binary(column.type)):
        try:
            return list(column.to_pylist())
        except UnicodeDecodeError:
            column = column.cast(pyarrow.large_binary())
    return [None if value is None else _decoded(value) for value in column.to_pylist()]


def _decoded(value: bytes) -> str | bytes:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


# --- spreadsheets ------------------------------------------------------------------------------------------------


def _cells(place: Path, columns: Sequence[int], header: bool, name: str | None) -> Iterator[tuple[int, Record]]:
    number = 0
    try:
        with place.open("rb") as file:
            sheet = _open_sheet(place, file, name)
            for number, row in enumerate(sheet.iter_rows(), 1):
                values = [_cell(row[column - 1]) if column <= len(row) else None for column in columns]
                if not (header and number == 1) and any(value is not None for value in values):
                    yield number, values
    except (*UNREADABLE, OSError, SyntaxError) as error:  # a SyntaxError is what ElementTree raises for bad XML
        raise _damaged(
            place, f"is damaged after row {number}" if number else "is not a readable XLSX file", error
        ) from None


def _open_sheet(place: Path, file: Any, name: str | None) -> Any:
    from openpyxl import load_workbook

    with zipfile.ZipFile(file) as archive:
        large = [entry for entry in archive.infolist() if entry.filename.endswith("sharedStrings.xml")]
    if any(entry.file_size > LARGEST_STRINGS for entry in large):
        raise UserError(f"{place} has more than {LARGEST_STRINGS >> 20} MiB of text.", "Save it as .tsv, in UTF-8.")
    book = load_workbook(file, read_only=True, data_only=True)
    names = [sheet.title for sheet in book.worksheets]
    if name is not None and name not in names:
        raise UserError(f"{place} has no sheet {name}.", f"Set `sheet` to one of {', '.join(names)}.")
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # as other programs write it, the recorded size may be too small
    chosen = [sheet for sheet in book.worksheets if sheet.title == name] if name else [
        sheet for sheet in book.worksheets if next(sheet.iter_rows(), None)
    ]  # fmt: skip
    if len(chosen) > 1:
        raise UserError(
            f"{place} has several sheets: {', '.join(names)}.", "Set `sheet` to the name of the corpus' sheet."
        )
    if not chosen:
        raise UserError(f"{place} is empty.", "Give another file.")
    return chosen[0]


def _cell(cell: Any) -> Any:
    """Return the value of a cell; a whole number as text, an empty text as None."""
    value = cell.value
    if cell.data_type == "e":
        return Exception(value)  # such as #REF!
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None if value == "" else value
