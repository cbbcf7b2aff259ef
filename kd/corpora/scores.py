"""Scores of n-best lists and of pairs: files made elsewhere, and folders of shards that the stage `score` writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.corpora.finished import Entry, complete, note_finished, resume
from kd.corpora.index import (
    Damaged,
    count_of,
    file_entries,
    file_entry,
    read_index,
    shard_name,
    verify_file,
    write_index,
)
from kd.corpora.lines import PathLike, open_lines, open_text
from kd.corpora.writing import LineWriter

FORMAT, VERSION = "kd.scores", 1


class ScoreFile:
    """Reads scores made elsewhere, one number for each line of an n-best list, in step with that list."""

    def __init__(self, path: PathLike) -> None:
        """Open the file. Raise UserError if it is missing."""
        self.path = Path(path)
        self._lines = open_text(path)
        self._line = 0

    def take(self, count: int) -> list[float]:
        """Return the next scores. Raise UserError, naming the line, if one is missing or is not a number."""
        return [self._next() for _ in range(count)]

    def _next(self) -> float:
        text = next(self._lines, None)
        if text is None:
            raise UserError(
                f"{self.path} ends after line {self._line}, but the n-best list goes on.",
                "Give one number for each line of the list.",
            )
        self._line += 1
        value = _number(text)
        if value is None:
            raise UserError(f"{self.path}, line {self._line}: {text[:40]!r} is not a score.", "Make the file again.")
        return value

    def finish(self) -> None:
        """Raise UserError if scores are left over."""
        if next(self._lines, None) is not None:
            raise UserError(
                f"{self.path} goes on after line {self._line}, where the n-best list ends.",
                "Give one number for each line of the list.",
            )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


# --- folders of the stage `score` -----------------------------------------------------------------------------------


def write_scores(
    folder: Path, name: str, rows: Iterator[tuple[int, Mapping[str, Sequence[float]]]], metrics: Sequence[str]
) -> dict[str, Any]:
    """Write the scores of one shard, a file per metric, and return the shard's entry for the index.

    A line has the id of a pair and one score per hypothesis, in the order of ranks, separated by spaces. Nine
    significant digits restore a 32-bit float exactly.

    Args:
        folder: The folder to write to.
        name: Name of the shard.
        rows: For each pair, its id and its scores by metric.
        metrics: Names of the metrics.
    """
    with ExitStack() as stack:
        files = {metric: stack.enter_context(LineWriter(_path(folder, name, metric))) for metric in metrics}
        lines = 0
        for pair_id, scores in rows:
            for metric, file in files.items():
                file.write(" ".join([str(pair_id), *(f"{score:.9g}" for score in scores[metric])]))
            lines += 1
    return {"name": name, "lines": lines, "files": {metric: file_entry(file) for metric, file in files.items()}}


def finish_scores(folder: Path, entry: Mapping[str, Any], made_from: str) -> None:
    """Record that a shard is complete, and the hash of its inputs (see `kd.corpora.finished`)."""
    note_finished(folder, {**entry, "made_from": made_from})


def resume_scores(folder: Path, others: Iterable[PathLike], wanted: Mapping[str, str]) -> set[str]:
    """Prepare a folder for the remaining shards; return the names of the finished, intact shards.

    Args:
        folder: The folder, new or with shards of an earlier attempt.
        others: Folders of the same work with another share of the corpus; their shards are taken over.
        wanted: The hash of each shard's inputs, by name.
    """

    def accept(place: Path, entry: Entry) -> bool:
        name = entry["name"]
        if name not in wanted or entry.get("made_from") != wanted[name]:
            return False
        try:
            for metric, described in file_entries(entry.get("files")).items():
                verify_file(_path(place, name, metric), described)
        except (Damaged, ValueError, KeyError):
            return False
        return True

    def files_of(entry: Entry) -> list[str]:
        return [_path(folder, entry["name"], metric).name for metric in entry["files"]]

    return set(resume(folder, others, files_of, accept))


def write_score_index(folder: Path, signatures: Mapping[str, str]) -> None:
    """Complete a folder of finished shards by an index. `signatures`: the metrics' signatures by name."""
    entries = [{key: entry[key] for key in ("name", "lines", "files")} for entry in complete(folder).values()]
    write_index(folder, FORMAT, VERSION, {"metrics": dict(signatures), "shards": entries})


def _path(folder: Path, name: str, metric: str) -> Path:
    return folder / f"{name}.{metric}.zst"


@dataclass(frozen=True)
class ScoreShard:
    """The scores of one shard, as their index describes them."""

    folder: Path
    name: str
    lines: int
    files: Mapping[str, Mapping[str, Any]]  # metric -> bytes and sha256

    def read(self, metric: str) -> Iterator[tuple[int, list[float]]]:
        """Yield the id and the scores of each pair. Raise Damaged, naming file and line."""
        path, number = _path(self.folder, self.name, metric), 0
        try:
            for number, line in enumerate(open_lines(path), 1):
                first, *rest = line.split(" ")
                scores = [_number(text) for text in rest]
                if not first.isdecimal() or not scores or None in scores:
                    raise Damaged(f"{path}, line {number}: {line[:40]!r} is not an id with scores.")
                yield int(first), [score for score in scores if score is not None]
        except Damaged:
            raise
        except UserError as error:
            raise Damaged(error.problem) from None
        if number != self.lines:
            raise Damaged(f"{path} ends after line {number}, but its index states {self.lines} lines.")

    def verify(self) -> None:
        """Compare the files with the index. Raise Damaged."""
        for metric, entry in self.files.items():
            verify_file(_path(self.folder, self.name, metric), entry)


class ScoreCorpus:
    """The output folder of a task of the stage `score`."""

    def __init__(self, folder: PathLike) -> None:
        """Read the index. Raise Damaged if it is missing, UserError if the folder has other content."""
        self.folder = Path(folder)
        index = read_index(self.folder, FORMAT, VERSION)
        try:
            self.signatures: Mapping[str, str] = dict(index["metrics"])
            shards = [
                ScoreShard(
                    self.folder, shard_name(entry["name"]), count_of(entry["lines"]), file_entries(entry["files"])
                )
                for entry in index["shards"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(f"The index of {self.folder} is damaged: {error}.") from None
        self.shards: Mapping[str, ScoreShard] = {shard.name: shard for shard in shards}
