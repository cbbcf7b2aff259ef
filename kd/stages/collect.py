"""Collect: read parallel text from files and packages and give each pair its permanent id.

Each corpus of a language pair is a task. Only this kind of stage may need a network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import UserError
from kd.base.estimate import NOT_KNOWN, Estimate, joined, total
from kd.base.text import unknown_name
from kd.corpora.formats import AUTO, FORMATS, check_settings, read_rows, with_format
from kd.corpora.ids import Origin
from kd.corpora.processed import Processed
from kd.corpora.reading import NOTED, Reading
from kd.corpora.rejects import FILE as REJECTED
from kd.corpora.shards import Corpus, CorpusWriter
from kd.models.known import Known
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import StageForecast, TaskWork, Work
from kd.pipeline.model import Job, Kind, Stage, Summary, Task, TaskSpec
from kd.recipe.schema import CorpusConfig, OnError, SourceConfig, Use

LINES_PER_SHARD = 500_000
NOTES = "notes.json"
MUCH = 0.1  # share of left-out pairs from which a warning is printed


class Collect(Kind[CorpusConfig]):
    """Read the corpora of a language pair."""

    name = "collect"
    version = 3
    config = CorpusConfig
    network = True
    source_only: ClassVar[bool] = False  # which corpora are read: those with `use: source`, or all others

    def validate(self, config: CorpusConfig) -> None:
        """Raise UserError for an unknown format, and for a corpus that lacks a setting of its format."""
        if not config.sources:
            raise UserError(
                "corpus.sources is empty.",
                "With recipe=files, add source=FILE target=FILE to every command; in another recipe, give it a corpus.",
            )
        for name, source in config.sources.items():
            where = f"corpus.sources.{name}"
            if source.format not in (*FORMATS, AUTO):
                raise unknown_name(f"format (named by {where}.format)", source.format, [*FORMATS, AUTO])
            check_settings(where, with_format(source))

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield a task per corpus. Raw files are identified by content, so moving them causes no recomputation."""
        config: CorpusConfig = stage.config
        wanted = {name: given for name, given in config.sources.items() if self._is_read(given, str(stage.axis))}
        if not wanted:
            what = "No text with use: source" if self.source_only else "No corpus"
            raise UserError(
                f"{what} is read for {stage.axis}.",
                "Add a corpus for it to corpus.sources, or correct a corpus' `pairs`.",
            )
        for name, given in wanted.items():
            source = with_format(given)
            reading = Reading(name, source, config, stage.axis_value["source"], stage.axis_value["target"])
            chosen = FORMATS[source.format]
            identity, extent = identity_and_extent(source)
            identity |= chosen.identity(reading)
            if config.on_error is not OnError.fail:  # changes the output of a broken file
                identity["on_error"] = config.on_error.value
            yield TaskSpec(name, identity, extent, files=partial(chosen.files, reading))

    def run(self, job: Job[CorpusConfig]) -> None:
        """Read one corpus and number its pairs."""
        source = with_format(job.config.sources[job.name])
        languages = job.axis_value["source"], job.axis_value["target"]
        reading = Reading(job.name, source, job.config, *languages, job.progress.update)
        chosen = FORMATS[source.format]
        files = chosen.files(reading)
        _check_unchanged(job, files)
        reading.check_archives(files)
        origin = Origin(str(job.axis), job.name, source.use.value, reading.licence(), source.weight)
        processed = Processed()
        rows = job.progress.follow(origin.number_rows(processed.follow(read_rows(reading))), "reading", unit="pairs")
        columns = chosen.columns(source)
        with CorpusWriter(job.out, languages, LINES_PER_SHARD, columns=columns, origins=[origin]) as writer:
            for pair, values in rows:
                writer.add(pair, *values)
        reading.skips.check(job.name, writer.pairs, job.config.skip_share)
        if not writer.pairs:
            raise UserError(f"The corpus {job.name} has no pairs for {job.axis}.", "Check its files.")
        if reading.skips.counts:
            reading.skips.write(job.out / REJECTED)
        notes = {
            "counts": reading.counts + reading.skips.counts,
            "broken": reading.broken,
            "first skipped": reading.skips.first,
            "warnings": [*reading.warnings, *processed.warnings()],
        }
        (job.out / NOTES).write_text(json.dumps(notes, ensure_ascii=False), "utf-8")

    def check(self, job: Job[CorpusConfig]) -> Summary:
        """Compare the output with its index."""
        corpus = Corpus(job.out)
        corpus.verify()
        notes = json.loads((job.out / NOTES).read_text("utf-8"))
        source = job.config.sources[job.name]
        (origin,) = corpus.origins.values()
        facts = {"use": source.use.value, "licence": origin.licence, "weight": source.weight}
        facts |= {what: count for what, count in notes["counts"].items() if what in NOTED}
        if notes["broken"]:
            facts["broken files, read up to the damage"] = notes["broken"]
        if notes["first skipped"]:
            facts["first broken row"] = notes["first skipped"]
        dropped = {reason: count for reason, count in notes["counts"].items() if reason not in NOTED and count}
        if note := _note(corpus.pairs, dropped, notes):
            facts["note"] = note
        return Summary({"pairs out": corpus.pairs}, dropped, facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the pairs of each corpus, as counted in its files; assumed pairs are shared evenly."""
        text = known.counted(stage, replace(known.sample, pairs=_pairs(stage, known)))
        shares = max(1, sum(map(is_training, stage.tasks)))
        tasks = {}
        for task in stage.tasks:
            pairs = known.collected.get(task.full_name, NOT_KNOWN)
            if is_training(task) and (task.full_name not in known.collected or known.assumed(f"pairs.{stage.axis}")):
                pairs = text.pairs.times(1 / shares)
            elif not pairs and not is_training(task):  # a test set that is still to be downloaded
                pairs = Estimate(known.test, "config")
            tasks[task.name] = TaskWork((Work(self.name, "pairs", pairs, text.pair_bytes.value),))
        return StageForecast(tasks, text)

    def _is_read(self, source: SourceConfig, pair: str) -> bool:
        """Return whether a corpus is read for a language pair."""
        return (source.use is Use.source) == self.source_only and (not source.pairs or source.pairs.get(pair, False))


class CollectSource(Collect):
    """Read the text of a language pair that has no translations: the corpora with `use: source`."""

    name = "collect_source"
    version = 1
    source_only = True

    def is_needed(self, config: CorpusConfig) -> bool:
        """Return whether a corpus has `use: source`."""
        return any(source.use is Use.source for source in config.sources.values())

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the sentences of each corpus, as counted in its files; assumed ones are shared evenly."""
        pairs = {task.name: known.collected.get(task.full_name, NOT_KNOWN) for task in stage.tasks}
        if assumed := known.assumed(f"source_only.{stage.axis}"):
            pairs = dict.fromkeys(pairs, assumed.times(1 / len(pairs)))
        text = known.counted(stage, replace(known.sample, pairs=total(pairs.values())))
        tasks = {
            name: TaskWork((Work(Collect.name, "pairs", count, text.pair_bytes.value),))
            for name, count in pairs.items()
        }
        return StageForecast(tasks, text)


def _note(left: int, dropped: Mapping[str, int], notes: Mapping[str, Any]) -> str:
    """Return a sentence on the omitted rows and the reasons, with a warning if they exceed the share `MUCH`."""
    parts = [f"READ ONLY IN PART: {' '.join(notes['broken'])}"] if notes["broken"] else []
    gone = sum(dropped.values())
    if gone:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items(), key=lambda i: -i[1]))
        parts.append(f"left out {gone:,} of {left + gone:,} ({reasons})")
    if gone > MUCH * (left + gone):
        parts.append("WARNING: MORE THAN A TENTH WAS LEFT OUT: check files and languages")
    return "; ".join([*parts, *(f"WARNING: {warning}" for warning in notes["warnings"])])


def _check_unchanged(job: Job[CorpusConfig], files: list[Path]) -> None:
    for path in dict.fromkeys([*files, *job.files]):
        if not path.is_file() or job.hash_file(path) != job.files.get(path):
            raise UserError(f"{path} has changed since the run was planned.", "Plan it again with `kd run`.")


def is_training(task: Task) -> bool:
    """Return whether a task reads training text, not a dev or test set."""
    source = task.stage.config.sources.get(task.name)
    return source is None or source.use is Use.train


def _pairs(stage: Stage, known: Known) -> Estimate:
    """Return the number of pairs in a language pair's training corpora: assumed, else counted."""
    if assumed := known.assumed(f"pairs.{stage.axis}"):
        return assumed
    parts = [known.collected.get(task.full_name, NOT_KNOWN) for task in stage.tasks if is_training(task)]
    counted = [part.value for part in parts if part.value is not None]
    if len(counted) < len(parts) or not parts:
        return Estimate(None, f"set assume.pairs.{stage.axis}=NUMBER")
    return Estimate(sum(counted), joined(part.source for part in parts))
