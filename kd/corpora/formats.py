"""The file formats of a recipe's corpora: the settings of each format, its files, and its reader.

A new format is a class with three methods, and a line in `FORMATS`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kd.base.errors import UserError
from kd.corpora.catalogue import GETTEXT, catalogue_files, read_catalogues
from kd.corpora.format import Format
from kd.corpora.hub import check_address, is_hub
from kd.corpora.lines import COMPRESSED
from kd.corpora.package import fetch_package
from kd.corpora.places import within
from kd.corpora.plain import read_plain
from kd.corpora.reading import Reading, Row
from kd.corpora.records import read_jsonl, read_parquet, read_xlsx
from kd.corpora.tsv import read_tsv
from kd.models.languages import primary
from kd.recipe.schema import CorpusFormat, SourceConfig, Use

COMMON = frozenset(("format", "use", "pairs", "licence", "weight"))
COLUMN = re.compile(r"[a-z][a-z0-9_]*")
ACCELERATORS = ("_", "&", "~")  # marks of the letters of menus: GTK; Qt, Windows and KDE; LibreOffice


class Plain(Format):
    """Aligned files, one sentence a line."""

    takes = frozenset(("source", "target", "scores", "sha256"))

    def check(self, where: str, source: SourceConfig) -> None:
        """Raise UserError unless both sides are given, or the source for `use: source`."""
        if not (source.source and (source.target or source.use is Use.source)):
            name = where.rpartition(".")[2]
            short = "" if name == "files" else f"{name}."
            sides = f"Set {where}.source and {where}.target to paths (recipe=files: {short}source=… {short}target=…)"
            raise UserError(
                f"{where} lacks a side.",
                f"{sides}; a single file must be a .tsv, .tmx, .jsonl, .parquet or .xlsx file.",
            )
        _check_columns(f"{where}.scores", source.scores)

    def columns(self, source: SourceConfig) -> tuple[str, ...]:
        """Return a column for each file of scores."""
        return tuple(sorted(source.scores))

    def identity(self, reading: Reading) -> dict[str, object]:
        """Return the names of the scores as well, without their paths."""
        scores = sorted(reading.source.scores)
        return {**super().identity(reading), **({"scores": scores} if scores else {})}

    def rows(self, reading: Reading) -> Iterator[Row]:
        """Yield the pairs of lines in their order."""
        for files in reading.fetched():
            scores = [files[name] for name in self.columns(reading.source)]
            rows = read_plain(files["source"], files.get("target"), *scores, broken=reading.on_broken_row)
            yield from reading.tolerate(rows)


class Tsv(Format):
    """Tab-separated files."""

    takes = frozenset(("source", "sha256", "columns", "header"))

    def check(self, where: str, source: SourceConfig) -> None:
        """Check that a file is given and that every column has a number."""
        _check_one_file(where, source)
        _check_columns(f"{where}.columns", self.columns(source))

    def columns(self, source: SourceConfig) -> tuple[str, ...]:
        """Return the names of all named columns except source and target."""
        return tuple(sorted(set(source.columns) - {"source", "target"}))

    def rows(self, reading: Reading) -> Iterator[Row]:
        """Yield the rows of the files in their order."""
        chosen = _numbers(reading.source)
        for files in reading.fetched():
            for place in within(files["source"], _endings(".tsv")):
                rows = read_tsv(place, chosen, reading.source.header, reading.on_broken_row)
                yield from reading.tolerate(rows)


class _Records(Format):
    """Files of records with named fields."""

    takes = frozenset(("source", "sha256", "fields"))

    def check(self, where: str, source: SourceConfig) -> None:
        """Check that a file is given and that the names of additional fields are valid column names."""
        _check_one_file(where, source)
        _check_columns(f"{where}.fields", self.columns(source))

    def columns(self, source: SourceConfig) -> tuple[str, ...]:
        """Return all named fields except source and target."""
        return tuple(sorted(set(source.fields) - {"source", "target"}))

    def _fields(self, reading: Reading) -> list[str]:
        """Return the field names of source, target and additional columns in the file."""
        named = {"source": "source", "target": "target", **reading.source.fields}
        chosen = [named[name] for name in (*_sides(reading.source), *self.columns(reading.source))]
        return [name.replace("{source}", reading.left).replace("{target}", reading.right) for name in chosen]


class Jsonl(_Records):
    """JSON lines: an object a line."""

    def rows(self, reading: Reading) -> Iterator[Row]:
        """Yield the pairs of lines in their order."""
        for files in reading.fetched():
            for place in within(files["source"], _endings(".jsonl")):
                rows = read_jsonl(place, self._fields(reading), reading.counts, reading.on_broken_row)
                yield from reading.tolerate(rows)


class Parquet(_Records):
    """Parquet files."""

    def rows(self, reading: Reading) -> Iterator[Row]:
        """Yield the rows of batches that are read one at a time."""
        for files in reading.fetched():
            rows = read_parquet(files["source"], self._fields(reading), reading.counts, reading.on_broken_row)
            yield from reading.tolerate(rows)


class Xlsx(Format):
    """Spreadsheets; columns are named as in TSV."""

    takes = frozenset(("source", "sha256", "columns", "header", "sheet"))

    def check(self, where: str, source: SourceConfig) -> None:
        """Check that a file is given and that every column has a number."""
        Tsv().check(where, source)

    def columns(self, source: SourceConfig) -> tuple[str, ...]:
        """Return the names of all named columns except source and target."""
        return Tsv().columns(source)

    def rows(self, reading: Reading) -> Iterator[Row]:
        """Yield the rows of the files in their order."""
        source = reading.source
        for files in reading.fetched():
            settings = source.header, source.sheet, reading.on_broken_row
            rows = read_xlsx(files["source"], _numbers(source), reading.counts, *settings)
            yield from reading.tolerate(rows)


class Tmx(Format):
    """Translation memories."""

    takes = frozenset(("source", "sha256", "keep", "keep_codes"))

    def check(self, where: str, source: SourceConfig) -> None:
        """Check that a file is given and that the kept properties yield distinct column names."""
        _check_one_file(where, source)
        names = self.columns(source)
        _check_columns(f"{where}.keep", names)
        if len(set(names)) < len(names):
            raise UserError(f"Two entries of {where}.keep yield columns of the same name.", "Keep one of them.")

    def columns(self, source: SourceConfig) -> tuple[str, ...]:
        """Return the names of the kept properties: `prop:domain` becomes `prop_domain`."""
        return tuple(re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in _kept(source))

    def rows(self, reading: Reading) -> Iterator[Row]:
        """Yield the pairs, unit by unit. Raise UserError if no file has both languages."""
        from kd.corpora.tmx import NoSuchPair, read_tmx

        keep, found, absent = _kept(reading.source), False, None
        for files in reading.fetched():
            for place in within(files["source"], _endings(".tmx")):
                try:
                    units = read_tmx(place, reading.left, reading.right, keep, reading.counts, reading.on_broken_row)
                    for row in reading.tolerate(units):
                        found = True
                        yield row
                except NoSuchPair as error:  # exports of many languages lie side by side
                    absent = error
                    reading.counts["files without the pair"] += 1
        if absent is not None and not found:
            raise absent


class Catalogue(Format):
    """Message catalogues of software."""

    takes = frozenset(("root", "package", "files", "gettext_language", "accelerators"))

    def check(self, where: str, source: SourceConfig) -> None:
        """Raise UserError unless files and their root or package are given."""
        if not (source.files and (source.root or source.package)):
            raise UserError(f"{where} is incomplete.", f"Set {where}.files, and {where}.root or .package.")
        if source.accelerators not in ("", *ACCELERATORS):
            raise UserError(
                f"{where}.accelerators is {source.accelerators!r}.", f"Set it to one of {' '.join(ACCELERATORS)}"
            )

    def identity(self, reading: Reading) -> dict[str, object]:
        """Return the identity, marked if empty entries stand for gettext's message ids, unlike in earlier versions."""
        by_id = primary(reading.source.gettext_language) in (primary(reading.left), primary(reading.right))
        gettext = {"empty": "message id"} if by_id and str(reading.source.files).endswith(GETTEXT) else {}
        return {**super().identity(reading), **gettext}

    def files(self, reading: Reading) -> list[Path]:
        """Return the catalogues of both languages, or the archive that holds them."""
        if reading.source.package is not None:
            return []
        root = reading.path(str(reading.source.root))
        return catalogue_files(root, str(reading.source.files), reading.left, reading.right)

    def rows(self, reading: Reading) -> Iterator[Row]:
        """Yield the messages in their order."""
        source = reading.source
        if source.package is not None:
            package = source.package
            root = fetch_package(package.name, package.version, package.sha256, reading.config.cache)
        else:
            root = reading.path(str(source.root))
        yield from read_catalogues(
            root,
            str(source.files),
            reading.left,
            reading.right,
            reading.counts,
            source.gettext_language,
            source.accelerators,
        )


class Mtdata(Format):
    """Corpora given by their ids in mtdata."""

    takes = frozenset(("id",))

    def check(self, where: str, source: SourceConfig) -> None:
        """Raise UserError if the id has a wrong form. The lookup takes seconds, so `collect` does it."""
        parts = (source.id or "").removeprefix(MTDATA).split("-")
        if len(parts) != 5 or not all(parts):
            hint = "Ids look like Statmt-news_commentary-16-deu-eng; `mtdata list -id -l eng-deu` prints them."
            raise UserError(f"{where}.id is {source.id!r}, which is not an id of mtdata.", hint)

    def rows(self, reading: Reading) -> Iterator[Row]:
        """Yield the rows of the corpus that mtdata's index lists under this id."""
        from kd.corpora.mtdata import read_mtdata

        cache = reading.config.cache
        name = str(reading.source.id).replace("{source}", reading.left).replace("{target}", reading.right)
        rows = read_mtdata(name, reading.left, reading.right, cache, reading.counts, reading.say, reading.on_broken_row)
        yield from reading.tolerate(rows)


class Sacrebleu(Format):
    """Test sets of sacreBLEU by name."""

    takes = frozenset(("name",))
    source_only = False

    def check(self, where: str, source: SourceConfig) -> None:
        """Raise UserError unless sacreBLEU has a test set of this name."""
        from kd.corpora.testsets import check_test_set

        if not source.name:
            raise UserError(f"{where}.name is missing.", "`sacrebleu --list` prints the names: wmt21, wmt20/dev …")
        check_test_set(source.name)

    def rows(self, reading: Reading) -> Iterator[Row]:
        """Source and first reference."""
        from kd.corpora.testsets import read_test_set

        name = str(reading.source.name)
        yield from read_test_set(name, reading.left, reading.right, reading.config.cache, reading.say)


FORMATS: Mapping[str, Format] = {
    "plain": Plain(),
    "tsv": Tsv(),
    "jsonl": Jsonl(),
    "parquet": Parquet(),
    "xlsx": Xlsx(),
    "tmx": Tmx(),
    "catalogue": Catalogue(),
    "mtdata": Mtdata(),
    "sacrebleu": Sacrebleu(),
}


def read_rows(reading: Reading) -> Iterator[Row]:
    """Yield the rows of a corpus; the target of source-only text is empty, whatever its files hold."""
    rows = FORMATS[reading.source.format].rows(reading)
    if reading.source.use is not Use.source:
        return rows
    return ((row[0], "", *row[2:]) for row in rows)


AUTO = "auto"
_OF_ONE_FILE = (CorpusFormat.tsv, CorpusFormat.tmx, CorpusFormat.jsonl, CorpusFormat.parquet, CorpusFormat.xlsx)
MTDATA = "mtdata:"


def with_format(source: SourceConfig) -> SourceConfig:
    """Return the corpus with `auto` replaced by the format that its file names indicate, compressed or not.

    Two files are plain text; the format of a single file follows from its ending: .tsv, .tmx, .jsonl, .parquet or
    .xlsx. `mtdata:ID` in place of a file is an id of mtdata. Any other single file becomes `plain`, which then lacks a
    side.
    """
    if source.use is Use.source and source.target:
        source = dataclasses.replace(source, target=None)  # not read, and so no part of its identity
    if source.format != AUTO:
        return source
    if source.source and source.source.startswith(MTDATA):
        return dataclasses.replace(
            source, format=CorpusFormat.mtdata, id=source.source.removeprefix(MTDATA), source=None
        )
    found = CorpusFormat.plain
    if source.source and not source.target:
        name = re.sub(r"(\.(gz|zst|xz|bz2|zip|tgz|tar))+$", "", source.source.split("?")[0].lower())
        found = next((ending for ending in _OF_ONE_FILE if name.endswith(f".{ending}")), found)
    return dataclasses.replace(source, format=found)


def check_settings(where: str, source: SourceConfig) -> None:
    """Raise UserError for a corpus with settings that cannot work or have no effect on its format."""
    chosen = FORMATS[source.format]
    for spec in dataclasses.fields(source):
        value = getattr(source, spec.name)
        if value and spec.name not in COMMON | chosen.takes and value != spec.default:
            takes = ", ".join(sorted(chosen.takes))
            raise UserError(f"{where}.{spec.name} has no effect on the format {source.format}.", f"It takes {takes}.")
    if source.use is Use.source and not chosen.source_only:
        raise UserError(
            f"{where} has use: source, but the format {source.format} gives test sets, not text to learn from.",
            f"Set {where}.use=test, or give it another format.",
        )
    chosen.check(where, source)
    for text in filter(None, (source.source, source.target, *source.scores.values())):
        if is_hub(text):
            check_address(text.replace("{source}", "en").replace("{target}", "de"))
    if bad := set(source.sha256) - {"source", "target", *source.scores}:
        raise UserError(
            f"{where}.sha256.{bad.pop()} belongs to no file.", "Use the keys source, target or the name of a score."
        )


def _check_one_file(where: str, source: SourceConfig) -> None:
    if not source.source:
        raise UserError(f"{where} has no file.", f"Set {where}.source to the path of the file with both sides.")


def _check_columns(where: str, names: Iterable[str]) -> None:
    for name in names:
        if not COLUMN.fullmatch(name) or name in ("id", "source", "target"):
            raise UserError(f"{where}.{name} is not a valid column name.", "Use lower-case letters, digits and _.")


def _kept(source: SourceConfig) -> Sequence[str]:
    return sorted(name for name, wanted in source.keep.items() if wanted)


def _numbers(source: SourceConfig) -> list[int]:
    """Return the column numbers of source, target and the additional columns."""
    numbers = {"source": 1, "target": 2, **source.columns}
    return [numbers[name] for name in (*_sides(source), *Tsv().columns(source))]


def _sides(source: SourceConfig) -> tuple[str, str]:
    """Return the names of the columns of both sides; of source-only text the source stands in for the target."""
    return ("source", "source") if source.use is Use.source else ("source", "target")


def _endings(ending: str) -> list[str]:
    """Return the endings of files in an archive, compressed or not."""
    return [ending, *(ending + suffix for suffix in COMPRESSED)]
