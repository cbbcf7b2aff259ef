"""Scores of n-best lists and of pairs: files made elsewhere, and folders of shards that the stage `score` writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.corpora.finished import Entry, complete, note_finished, resume
from kd.corpora.index import (
    Damaged,
    count_of,
    entry_of_file,
    file_entry,
    read_index,
    shard_name,
    verify_file,
    write_index,
)
from kd.corpora.lines import PathLike, open_lines, open_text
from kd.corpora.writing import LineWriter

FORMAT, VERSION = "kd.scores", 2
SUFFIX = ".scores.zst"  # of a shard's file


class ScoreFile:
    """Read scores made elsewhere, one number for each line of an n-best list, in step with that list."""

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
    """Write the scores of one shard, one file for all metrics, and return the shard's entry for the index.

    A line has, separated by tabs, the id of a pair and one column per metric. A column has one score per hypothesis, in
    the order of ranks, separated by spaces. Nine significant digits restore a 32-bit float exactly.

    Args:
        folder: The folder to write to.
        name: Name of the shard.
        rows: For each pair, its id and its scores by metric.
        metrics: Names of the metrics, in the order of the columns.
    """
    lines = 0
    with LineWriter(folder / (name + SUFFIX)) as file:
        for pair_id, scores in rows:
            columns = (" ".join(f"{score:.9g}" for score in scores[metric]) for metric in metrics)
            file.write("\t".join([str(pair_id), *columns]))
            lines += 1
    return {"name": name, "lines": lines, "columns": list(metrics), **file_entry(file)}


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
            _shard(place, entry).verify()
        except Damaged:
            return False
        return True

    return set(resume(folder, others, lambda entry: [entry["name"] + SUFFIX], accept))


def write_score_index(folder: Path, signatures: Mapping[str, str]) -> None:
    """Complete a folder of finished shards by an index. `signatures`: the metrics' signatures by name."""
    entries = [
        {key: entry[key] for key in ("name", "lines", "columns", "bytes", "sha256")}
        for entry in complete(folder).values()
    ]
    write_index(folder, FORMAT, VERSION, {"metrics": dict(signatures), "shards": entries})


@dataclass(frozen=True)
class ScoreShard:
    """The scores of one shard, as their index describes them."""

    folder: Path
    name: str
    lines: int
    columns: tuple[str, ...]  # names of the metrics
    file: Mapping[str, Any]  # bytes and sha256

    @property
    def path(self) -> Path:
        """The file of the shard."""
        return self.folder / (self.name + SUFFIX)

    def read(self, metric: str) -> Iterator[tuple[int, list[float]]]:
        """Yield the id of each pair and its scores by `metric`. Raise Damaged, naming file and line."""
        if metric not in self.columns:
            raise Damaged(f"{self.path} has no scores of {metric}.")
        column, number = self.columns.index(metric), 0
        try:
            for number, line in enumerate(open_lines(self.path), 1):
                first, *columns = line.split("\t")
                if not first.isdecimal() or len(columns) != len(self.columns):
                    raise self._unreadable(number, line)
                scores = [_number(text) for text in columns[column].split(" ")]
                found = [score for score in scores if score is not None]
                if len(found) != len(scores):
                    raise self._unreadable(number, line)
                yield int(first), found
        except Damaged:
            raise
        except UserError as error:
            raise Damaged(error.problem) from None
        if number != self.lines:
            raise Damaged(f"{self.path} ends after line {number}, but its index states {self.lines} lines.")

    def _unreadable(self, number: int, line: str) -> Damaged:
        return Damaged(f"{self.path}, line {number}: {line[:40]!r} is not an id with scores.")

    def verify(self) -> None:
        """Compare the file with the index. Raise Damaged."""
        verify_file(self.path, self.file)


def _shard(folder: Path, entry: Mapping[str, Any]) -> ScoreShard:
    """Return the shard that an entry describes. Raise Damaged if the entry is invalid."""
    try:
        columns = entry["columns"]
        if not isinstance(columns, list) or not all(isinstance(metric, str) for metric in columns):
            raise ValueError(f"{str(columns)[:40]!r} are not names of metrics")
        return ScoreShard(
            folder, shard_name(entry["name"]), count_of(entry["lines"]), tuple(columns), entry_of_file(entry)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"The index of {folder} is damaged: {error}.") from None


class ScoreCorpus:
    """The output folder of a task of the stage `score`."""

    def __init__(self, folder: PathLike) -> None:
        """Read the index. Raise Damaged if it is missing, UserError if the folder has other content."""
        self.folder = Path(folder)
        index = read_index(self.folder, FORMAT, VERSION)
        try:
            self.signatures: Mapping[str, str] = dict(index["metrics"])
            entries = list(index["shards"])
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(f"The index of {self.folder} is damaged: {error}.") from None
        shards = [_shard(self.folder, entry) for entry in entries]
        self.shards: Mapping[str, ScoreShard] = {shard.name: shard for shard in shards}
