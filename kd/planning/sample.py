"""Sample a recipe's corpora before they are collected: their pairs, their bytes, and their first sentences.

Nothing is downloaded: the size of a corpus that is not on disk is unknown unless the user assumes it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import zstandard

from kd.base.errors import UserError
from kd.base.estimate import Estimate, total
from kd.corpora.formats import FORMATS, read_rows, with_format
from kd.corpora.reading import Reading, is_remote
from kd.corpora.shards import Corpus
from kd.pipeline.model import Task
from kd.pipeline.plan import Plan
from kd.pipeline.store import Store
from kd.recipe.schema import CorpusConfig, Use
from kd.stages.collect import is_training

PAIRS = 10_000  # read at most
_COUNT_SECONDS = 10.0  # the rest of the corpora is estimated from the part read by then
_CHUNK = 1 << 20
_FETCHED = frozenset(("mtdata", "sacrebleu"))

NOT_HERE = Estimate(None, "corpora are not available here yet: set assume.data_in=BYTES")

Pairs = list[tuple[str, str]]


@dataclass
class Sample:
    """The first pairs of a recipe's corpora, and the corpora's sizes."""

    pairs: Pairs = field(default_factory=list)  # the first ones of each training corpus
    source: str = ""  # the corpora in words
    collected: dict[str, Estimate] = field(default_factory=dict)  # full name of a task -> its pairs
    data_in: Estimate = NOT_HERE


def look(plan: Plan, store: Store, limit: int = PAIRS, *, seconds: float | None = None) -> Sample:
    """Read the first pairs of the training corpora, and count all pairs if the files are available.

    Args:
        plan: The stages of the recipe.
        store: The store, which may have the corpora already.
        limit: Pairs that are read.
        seconds: Time for counting all corpora together; None: ten seconds.
    """
    found = Sample()
    sizes: dict[Path, int] = {}
    tasks = [task for stage in plan.stages if isinstance(stage.config, CorpusConfig) for task in stage.tasks]
    deadline = time.monotonic() + (_COUNT_SECONDS if seconds is None else seconds)
    names, unread = [], False
    wanted = max(1, limit // max(1, sum(map(is_training, tasks))))
    for task in tasks:
        corpus = _Unread(task, store)
        found.collected[task.full_name] = corpus.count(deadline)
        unread |= not corpus.is_here
        sizes |= {path: path.stat().st_size for path in corpus.files}
        if is_training(task) and corpus.is_here:
            found.pairs += corpus.first(wanted)
            names.append(task.name)
    if tasks and not unread:
        found.data_in = Estimate(sum(sizes.values()), "counted in the files")
    found.source = f"the first {len(found.pairs):,} pairs of {', '.join(dict.fromkeys(names))}"
    return found


class _Unread:
    """A corpus of a language pair, as the stage `collect` would read it."""

    def __init__(self, task: Task, store: Store) -> None:
        config = task.stage.config
        self._store, self._task = store, task
        self._source = with_format(config.sources[task.name])
        axis = task.stage.axis_value
        self._reading = Reading(task.name, self._source, config, axis["source"], axis["target"])
        self._format = FORMATS[self._source.format]
        self._done = store.paths(task).is_published()
        remote = any(is_remote(text) for text in self._reading.patterns().values())
        fetched = self._source.format in _FETCHED or self._source.package is not None or remote
        self.files: list[Path] = []
        try:
            files = [] if fetched else self._format.files(self._reading)
            if all(path.is_file() for path in files):
                self.files = files
            self.is_here = self._done or bool(self.files)
        except UserError:  # a plan may be made before the corpora exist
            self.is_here = self._done

    def first(self, limit: int) -> Pairs:
        if self._done:
            pairs = Corpus(self._store.paths(self._task).final).read()
            return [(pair.source, pair.target) for pair in islice(pairs, limit)]
        return [(row[0], row[1]) for row in islice(read_rows(self._reading), limit)]

    def count(self, deadline: float) -> Estimate:
        if self._done:
            counts = self._store.paths(self._task).manifest()["counts"]
            return Estimate(counts["pairs out"], "counted in finished tasks")
        key = f"assume.{'source_only' if self._source.use is Use.source else 'pairs'}.{self._task.stage.axis}"
        if not self.is_here:
            return Estimate(None, f"{self._task.name} is not available here yet: set {key}=NUMBER")
        if self._source.format in ("plain", "tsv"):
            sides = [files["source"] for files in self._reading.local()]
            paths = [side for side in sides if isinstance(side, Path)]
            if len(paths) == len(sides):
                return total(_lines(path, deadline) for path in paths)
        rows = 0
        for rows, _ in enumerate(read_rows(self._reading), 1):
            if rows % 1000 == 0 and time.monotonic() > deadline:
                return Estimate(None, f"more than {rows:,}, too many to count: set {key}=…")
        return Estimate(rows, "counted in the files")


def _lines(path: Path, deadline: float) -> Estimate:
    """Count the lines of a file, compressed or not; estimate them from its size if counting takes too long."""
    size, lines = path.stat().st_size, 0
    try:
        with path.open("rb") as raw, _decompressed(raw, path.suffix) as stream:
            while chunk := stream.read(_CHUNK):
                lines += chunk.count(b"\n")
                if time.monotonic() > deadline:
                    return Estimate(round(lines * size / max(1, raw.tell())), "estimated from the size of the files")
    except (OSError, EOFError, lzma.LZMAError, zstandard.ZstdError):
        raise UserError(
            f"{path} cannot be read to its end.", "Get the file again; `kd run` reports the position of the fault."
        ) from None
    return Estimate(lines, "counted in the files")


def _decompressed(raw: IO[bytes], suffix: str) -> Any:
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    if suffix in (".xz", ".bz2"):
        return (lzma if suffix == ".xz" else bz2).open(raw)
    return raw
