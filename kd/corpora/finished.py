"""Folders that grow shard by shard: filled by several processes, over several attempts, or from another run's folder.

A shard's file gets its final name once it is complete. Then a line in the folder's journal, `shards.jsonl`, records its
counts and its hash. Shards without such a line are made again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kd.base import files
from kd.base.hashing import sha256
from kd.corpora.index import INDEX, shard_name
from kd.corpora.lines import PathLike

JOURNAL = "shards.jsonl"
_AT_ONCE = 1 << 20  # bytes of a record that are written by one system call

Entry = dict[str, Any]  # with `name`


def note_finished(folder: PathLike, entry: Mapping[str, Any]) -> None:
    """Record a complete shard. Processes of one node may call this concurrently."""
    # The line break in front ends a record that a killed process wrote in part.
    with Path(folder, JOURNAL).open("ab", buffering=_AT_ONCE) as file:
        file.write(f"\n{_line(entry)}".encode())


def finished(folder: PathLike) -> dict[str, Entry]:
    """Return the records of a folder's shards, sorted by name; the last record of a name counts."""
    entries = {entry["name"]: entry for entry in _entries(Path(folder, JOURNAL))}
    return {name: entries[name] for name in sorted(entries)}


def resume(
    folder: PathLike,
    others: Iterable[PathLike],
    files_of: Callable[[Entry], Iterable[str]],
    accept: Callable[[Path, Entry], bool],
) -> dict[str, Entry]:
    """Prepare a folder for the remaining work, and return the records of the finished shards.

    Remove the partial files of killed processes, and the index, which is written last of all.

    Args:
        folder: The folder, new or with shards of an earlier attempt.
        others: Folders whose shards are taken over as hard links, unless this folder has a shard of the same name.
        files_of: Returns the names of a shard's files.
        accept: Returns whether a shard can be used, given its folder and record. Other shards are made again.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for left in place.glob("*.partial"):
        left.unlink()
    kept: dict[str, Entry] = {}
    for source in (place, *map(Path, others)):
        for name, entry in finished(source).items():
            if name in kept or not accept(source, entry):
                continue
            if source != place:
                for file in files_of(entry):
                    _link_or_copy(source / file, place / file)
            kept[name] = entry
    _write_journal(place, kept)
    (place / INDEX).unlink(missing_ok=True)
    return kept


def resume_shards(
    folder: PathLike, others: Iterable[PathLike], wanted: Mapping[str, Any], suffix: str
) -> dict[str, Entry]:
    """Prepare a folder whose shards are one file each; return the records of the finished, intact shards.

    Args:
        folder: The folder, new or with shards of an earlier attempt.
        others: Folders of the same work with another share of the corpus; their shards are taken over.
        wanted: The hash of each shard's inputs, by name; its record has it as `made_from`.
        suffix: Ending of the files.
    """

    def accept(place: Path, entry: Entry) -> bool:
        name, file = entry["name"], place / (entry["name"] + suffix)
        if name not in wanted or entry.get("made_from") != wanted[name] or not file.is_file():
            return False
        return sha256(file) == str(entry.get("sha256"))

    return resume(folder, others, lambda entry: [entry["name"] + suffix], accept)


def complete(folder: PathLike) -> dict[str, Entry]:
    """Rewrite the journal in the order of names, whatever the order of the work; return its records."""
    entries = finished(folder)
    _write_journal(Path(folder), entries)
    return entries


def _entries(journal: Path) -> Iterator[Entry]:
    """Yield the records; skip incomplete lines, which a killed process leaves."""
    try:
        lines = journal.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
            shard_name(entry["name"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        yield entry


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"


def _write_journal(folder: Path, entries: Mapping[str, Entry]) -> None:
    files.write_text(folder / JOURNAL, "".join(map(_line, entries.values())), durable=False)


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
