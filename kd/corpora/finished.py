"""Corpus folders that grow shard by shard: by several processes, over several attempts, from another run's folder.

A shard is written aside; its files get their place, and last of all a record beside them says that it is whole and what
it was made from. So whatever dies, what has a record is finished; it is taken over where it was made from the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.corpora.index import read_index, read_json, write_json
from kd.corpora.lines import PathLike
from kd.corpora.shards import FORMAT, VERSION

RECORD = ".shard.json"


def place_aside(folder: PathLike, name: str) -> Path:
    """An empty folder within `folder` to write one shard to, with a `CorpusWriter`."""
    aside = Path(folder) / f".{name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    return aside


def finish_shard(folder: PathLike, name: str, made_from: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Move the one shard that was written aside to its place, and leave its record: its origin, and facts."""
    place, aside = Path(folder), Path(folder) / f".{name}"
    (entry,) = read_index(aside, FORMAT, VERSION)["shards"]
    for column in entry["files"]:
        file = aside / f"{name}.{column}.zst"
        file.replace(place / file.name)
    write_json(place / (name + RECORD), {"made_from": made_from, "entry": entry, "facts": facts})
    shutil.rmtree(aside)


def finished(folder: PathLike) -> dict[str, dict[str, Any]]:
    """The records of the shards that are whole, by name, in the order of names."""
    paths = sorted(Path(folder).glob("*" + RECORD))
    return {path.name.removesuffix(RECORD): read_json(path) for path in paths}


def adopt_finished(other: PathLike, folder: PathLike, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Take over another folder's finished shards, as hard links, where they were made from what is `wanted` by name."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, record in finished(other).items():
        if name not in wanted or record["made_from"] != wanted[name] or (place / (name + RECORD)).exists():
            continue
        for column in record["entry"]["files"]:
            link_or_copy(Path(other) / f"{name}.{column}.zst", place / f"{name}.{column}.zst")
        write_json(place / (name + RECORD), record)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file another name; where the disk cannot do that, another file with its content."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
