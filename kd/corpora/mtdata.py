r"""Read corpora by their mtdata ids; mtdata's index has 290,000 from OPUS, statmt, ELRC, ParaCrawl and others.

The index states what to fetch and how to read it. Downloads and readers are those of kd: mtdata's downloads do not
resume, and its readers split lines at lone `\r` in compressed files and replace invalid UTF-8 by U+FFFD.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kd
from kd.base.errors import UserError
from kd.base.scratch import scratch_folder
from kd.corpora.archives import is_archive, members
from kd.corpora.download import Say, fetch
from kd.corpora.lines import Broken, PathLike, open_bytes
from kd.corpora.places import Place
from kd.corpora.plain import read_plain
from kd.corpora.tmx import read_tmx
from kd.corpora.tsv import read_tsv

PREFIX = "mtdata:"


@dataclass(frozen=True)
class Entry:
    """A corpus as mtdata's index describes it."""

    urls: list[str]
    filename: str  # of the file behind the URL, if the URL does not end in it
    extension: str
    kind: str  # of the text, inside an archive or not: txt | tsv | tmx | sgm | wmt21xml …
    members: list[str]  # globs of files in the archive, source and target or one
    columns: list[int]  # of a TSV file, from 0; the first two unless given
    swapped: bool  # the id names the target language first


def read_mtdata(
    name: str,
    source: str,
    target: str,
    cache: PathLike,
    counts: Counter[str],
    say: Say = lambda *_: None,
    broken: Broken | None = None,
) -> Iterator[tuple[str, ...]]:
    """Yield the pairs of a corpus of mtdata, downloaded unless its files are in the cache.

    broken: receives each broken row, as in the readers of plain text, TSV and TMX. Sides in two TSV files are aligned
    by line and never skip one. Raises UserError for an unknown id or an id of other languages, and the errors of
    `fetch` and the readers.
    """
    entry = look_up(name, source, target, cache)
    places = [place for url in entry.urls for place in _places(name, entry, _fetch(url, entry, cache, say))]
    if "tmx" in entry.kind:
        for place in places:
            yield from read_tmx(place, source, target, counts=counts, broken=broken)
        return
    for left, right in _rows(name, entry, places, cache, broken):
        yield (right, left) if entry.swapped else (left, right)


def look_up(name: str, source: str, target: str, cache: PathLike) -> Entry:
    """Look a corpus up in mtdata's index; the first call builds it below the cache folder (15 s, 60 MB)."""
    folder = Path(cache, "mtdata")
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / f"mtdata.index.{version('mtdata')}.pkl"
    if index.is_file():
        found = _ask(name, source, target, folder)
    else:  # made aside: another process must not read an incomplete one
        with scratch_folder(".index-", folder) as aside:
            found = _ask(name, source, target, aside)
            (aside / index.name).replace(index)
    if "error" in found:
        raise UserError(str(found["error"]), str(found["hint"]))
    return Entry(**found)  # type: ignore[arg-type]


def _ask(name: str, source: str, target: str, folder: Path) -> dict[str, object]:
    paths = [str(Path(kd.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "MTDATA": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "kd.corpora.mtdata_index", name.removeprefix(PREFIX), source, target]
    # Run in the folder of the index: mtdata executes every mtdata*.py in its working directory.
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"mtdata's index could not be read:\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout))


def _fetch(url: str, entry: Entry, cache: PathLike, say: Say) -> Path:
    ends_in_name = url.split("?", maxsplit=1)[0].lower().endswith(f".{entry.extension}".lower())
    return fetch(url, Path(cache, "downloads"), name="" if ends_in_name else entry.filename, say=say)


def _places(name: str, entry: Entry, path: Path) -> list[Place]:
    if not entry.members or not is_archive(path):
        return [path]
    inside = {member.name.removeprefix("./"): member for member in members(path)}
    found: list[Place] = []
    for pattern in entry.members:
        matching = fnmatch.filter(inside, pattern.removeprefix("./"))
        if len(matching) != 1:
            raise UserError(
                f"mtdata expects {pattern} to match one file of {path}, but it matches {len(matching)}.",
                f"Read {name} as format plain, tsv or tmx instead.",
            )
        found.append(inside[matching[0]])
    return found


def _rows(
    name: str, entry: Entry, places: list[Place], cache: PathLike, broken: Broken | None
) -> Iterator[tuple[str, str]]:
    columns = [column + 1 for column in entry.columns or (0, 1)]
    if "tsv" in entry.kind and len(columns) == 2:
        for place in places:
            for left, right in read_tsv(place, columns, broken=broken):
                yield left, right
    elif "tsv" in entry.kind and len(places) == 2 and len(columns) == 1:
        one, other = ((row[0] for row in read_tsv(place, columns)) for place in places)
        yield from _zipped(name, one, other)
    elif entry.kind == "wmt21xml":
        yield from _by_mtdata(places[0], "read_wmt21_xml", cache)
    elif "sgm" in entry.kind and len(places) == 2:
        yield from _zipped(name, *(_by_mtdata(place, "read_sgm", cache) for place in places))
    elif len(places) == 2 and any(text in entry.kind for text in ("txt", "raw")):
        for left, right in read_plain(*places, broken=broken):
            yield left, right
    else:
        raise UserError(
            f"{name} has the type {entry.kind}, which kd does not read.",
            "Fetch it with `mtdata get`, and give its files as format plain.",
        )


def _zipped(name: str, left: Iterator[str], right: Iterator[str]) -> Iterator[tuple[str, str]]:
    try:
        yield from zip(left, right, strict=True)
    except ValueError:
        raise UserError(f"The sides of {name} are of unequal length.", "Leave it out.") from None


def _by_mtdata(place: Place, reader: str, cache: PathLike) -> Iterator[Any]:
    """Yield pairs from mtdata's own readers, for the formats of WMT's test sets, which are small."""
    read = _mtdata_reader(reader)
    with scratch_folder(".mtdata-", Path(cache)) as folder:
        plain = folder / "decompressed"  # without a suffix, by which mtdata would choose a reader
        with plain.open("wb") as file:
            file.writelines(open_bytes(place))
        yield from read(plain)


def _mtdata_reader(name: str) -> Callable[[Path], Iterator[Any]]:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    try:
        from mtdata import sgm
    finally:  # mtdata configures the root logger when it is imported
        root.level, root.handlers = before
    reader: Callable[[Path], Iterator[Any]] = getattr(sgm, name)
    return reader
