"""Held-out sets: `FOLDER/en-de/test.source` and its like, plain text that any tool of the field reads.

Beside the sides stand the pairs' ids, and an index of counts and hashes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kd.corpora.ids import Pair
from kd.corpora.index import Damaged, file_entry, read_index, verify_file, write_index
from kd.corpora.lines import LineWriter, PathLike, open_aligned
from kd.errors import UserError

FORMAT, VERSION = "kd.heldout", 1
COLUMNS = ("id", "source", "target")


def write_heldout(folder: PathLike, pair: str, sets: dict[str, Iterable[Pair]]) -> dict[str, int]:
    """Write the sets (`dev`, `test`) of a language pair; returns how many pairs each has."""
    place = Path(folder) / pair
    place.mkdir(parents=True, exist_ok=True)
    entries: dict[str, dict[str, Any]] = {}
    for name, pairs in sets.items():
        with (
            LineWriter(place / f"{name}.id") as ids,
            LineWriter(place / f"{name}.source") as sources,
            LineWriter(place / f"{name}.target") as targets,
        ):
            for item in pairs:
                ids.write(str(item.id))
                sources.write(item.source)
                targets.write(item.target)
        files = {column: file_entry(writer) for column, writer in zip(COLUMNS, (ids, sources, targets), strict=True)}
        entries[name] = {"lines": ids.lines, "files": files}
    write_index(place, FORMAT, VERSION, {"pair": pair, "sets": entries})
    return {name: entry["lines"] for name, entry in entries.items()}


def heldout_path(folder: PathLike, pair: str, name: str, column: str) -> Path:
    """The file of a set's `id`, `source` or `target`."""
    return Path(folder) / pair / f"{name}.{column}"


def read_heldout(folder: PathLike, pair: str, name: str) -> list[Pair]:
    """Read a set. Raises UserError if there is none of that name, Damaged, with file and line, if it is not whole."""
    sets = read_index(Path(folder) / pair, FORMAT, VERSION)["sets"]
    if name not in sets:
        raise UserError(f"{Path(folder) / pair} holds no set {name}.", f"It holds {', '.join(sets) or 'none'}.")
    paths = [heldout_path(folder, pair, name, column) for column in COLUMNS]
    try:
        rows = list(open_aligned(paths))
    except UserError as error:
        raise Damaged(error.what) from None
    if len(rows) != sets[name]["lines"]:
        raise Damaged(f"{paths[0]} ends after line {len(rows)}, and its index says {sets[name]['lines']}.")
    return [Pair(_id(text, paths[0], line), source, target) for line, (text, source, target) in enumerate(rows, 1)]


def _id(text: str, path: Path, line: int) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Damaged(f"{path}, line {line}: {text[:40]!r} is no id.")
    return int(text)


def verify_heldout(folder: PathLike, pair: str) -> None:
    """Read the sets of a language pair back. Raises Damaged, an IncompleteArtifact, if they are not as written."""
    for name, entry in read_index(Path(folder) / pair, FORMAT, VERSION)["sets"].items():
        for column in COLUMNS:
            verify_file(heldout_path(folder, pair, name, column), entry["files"][column])
        pairs = read_heldout(folder, pair, name)
        if len({item.id for item in pairs}) != len(pairs):
            raise Damaged(f"{heldout_path(folder, pair, name, 'id')} holds an id twice.")
