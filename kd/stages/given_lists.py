"""Given lists: replace decoding by n-best lists made elsewhere, matched to the sources by their ids.

The output has the format of `decode`, without the models' tokens, so selection can read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.hashing import sha256
from kd.base.text import unknown_name
from kd.corpora.given_lists import (
    Fit,
    Joined,
    ListsFile,
    first_id,
    human_list,
    join,
    list_place,
)
from kd.corpora.guards import Guards
from kd.corpora.ids import prefix_of
from kd.corpora.index import read_json, write_json
from kd.corpora.nbest import NBestCorpus, NBestList, NBestShardWriter, write_nbest_index
from kd.corpora.shard import Shard
from kd.corpora.shards import Corpus
from kd.models.known import Known, by_pairs
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import GivenListsConfig, GivenListsFileConfig

COUNTS = "given.json"
SCORES = "as in the given files"


class GivenLists(Kind[GivenListsConfig]):
    """Import n-best lists."""

    name = "given_lists"
    version = 3  # 3: lists are put into the order of their scores
    config = GivenListsConfig
    needs_models = True
    roles: ClassVar = {"corpus": Role(), "collected": Role(optional=True)}
    resources = "cpu"

    def validate(self, config: GivenListsConfig) -> None:
        """Raise UserError if no file is named."""
        if not config.files:
            raise UserError(
                "given_lists.files is empty.", "Name a file of n-best lists: '+given_lists.files.NAME.file=FILE'"
            )

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield a task per worker."""
        identity, extent = identity_and_extent(stage.config)
        files = partial(_paths, stage.config, stage.axis_value)
        for worker in range(stage.config.workers):
            yield TaskSpec(f"worker-{worker}", {**identity, "worker": worker}, extent, files=files)

    def run(self, job: Job[GivenListsConfig]) -> None:
        """Join lists and sources, shard by shard."""
        corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
        for path in _paths(job.config, job.axis_value):
            if not path.is_file() or sha256(path) != job.files.get(path):
                raise UserError(f"{path} has changed since the run was planned.", "Plan it again with `kd run`.")
        files = _files(job, corpus)
        guards, tripped = Guards(job.config.guards, *corpus.languages), Counter[str]()
        counts, fit = Joined(), Fit()
        job.progress.update("reading the lists")
        for shard, runs in join(files, _shares(job, corpus), job.out, counts, job.config.nbest):
            with NBestShardWriter(job.out, shard.name, pieces=False) as writer:
                for group, hypotheses in job.progress.follow(runs, f"shard {shard.name}", shard.sources, "sentences"):
                    if hypotheses is None:
                        hypotheses = human_list(group, counts.features or {})
                    else:
                        fit.add(group[0].target, hypotheses[0].text)
                        tripped[guards.check(group[0].source, hypotheses[0].text) or ""] += 1
                    writer.add(NBestList(group[0].id, hypotheses))
        _refuse(job, corpus, counts, fit)
        write_nbest_index(job.out, {"scores": SCORES})
        del tripped[""]  # hypotheses that trip no guard
        write_json(job.out / COUNTS, {"joined": vars(counts), "guards": tripped})

    def check(self, job: Job[GivenListsConfig]) -> Summary:
        """Read the output back, and check that every source has its list, under its id."""
        corpus = Corpus.join(artifact.path for artifact in job.inputs["corpus"])
        shards = {shard.name: shard for shard in _shares(job, corpus)}
        lists = NBestCorpus(job.out)
        if {shard.name for shard in lists.shards} != set(shards):
            raise IncompleteArtifact(f"{job.out} does not have the expected shards.")
        lists.verify(shards)
        found = read_json(job.out / COUNTS)
        counts = {
            "sources": sum(shard.sources for shard in shards.values()),
            "lists": lists.lists,
            "hypotheses": lists.lines,
            "shards": len(shards),
            "lists given": found["joined"]["lists"],
            "lists of other pairs": found["joined"]["unused"],
            "sources without a list": found["joined"]["missing"],
            "lists sorted by score": found["joined"]["unsorted"],
        }
        return Summary(counts, facts={"scores": SCORES, "guards": found["guards"]})

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the pairs that are read."""
        return by_pairs(stage, known.input(stage, "corpus"))


def _shares(job: Job[GivenListsConfig], corpus: Corpus) -> Sequence[Shard]:
    """Return this worker's shards: those with its number modulo the workers."""
    return corpus.shards[job.identity["worker"] :: job.config.workers]


def _paths(config: GivenListsConfig, languages: Mapping[str, str]) -> list[Path]:
    return [_path(config, entry, languages) for entry in config.files.values()]


def _path(config: GivenListsConfig, entry: GivenListsFileConfig, languages: Mapping[str, str]) -> Path:
    # str.format would fail for other braces in a path.
    text = entry.file
    for side, code in languages.items():
        text = text.replace(f"{{{side}}}", code)
    return Path(config.root or ".", Path(text).expanduser())


def _files(job: Job[GivenListsConfig], corpus: Corpus) -> list[ListsFile]:
    """Return the files with the meaning of their ids."""
    origins = {origin.name: origin for origin in corpus.origins.values() if origin.pair == job.axis}
    collected = {artifact.task: Corpus(artifact.path).pairs for artifact in job.inputs.get("collected", [])}
    files = []
    for name, entry in job.config.files.items():
        path = _path(job.config, entry, job.axis_value)
        if entry.ids == "pairs":
            files.append(ListsFile(path, entry.format, None))
            continue
        decoded = entry.corpus or (next(iter(origins)) if len(origins) == 1 else "")
        if not decoded:
            raise UserError(
                f"given_lists.files.{name} does not state which corpus was decoded.",
                f"Set its corpus to one of {', '.join(origins)}.",
            )
        if decoded not in origins:
            raise unknown_name(f"corpus (named by given_lists.files.{name}.corpus)", decoded, origins)
        # Without the stage `collect`, the number of lines is unknown; ids beyond them match no pair.
        pairs = max(0, collected.get(decoded, 1 << 39) - entry.first)
        files.append(
            ListsFile(path, entry.format, first_id(origins[decoded].prefix, entry.first), pairs, corpus=decoded)
        )
    return files


def _refuse(job: Job[GivenListsConfig], corpus: Corpus, counts: Joined, fit: Fit) -> None:
    """Raise UserError for lists that are missing, or belong to other sources."""
    if counts.first_missing is not None and (
        job.config.on_missing == "fail" or counts.missing == _sources(job, corpus)
    ):
        origin = corpus.origins.get(prefix_of(counts.first_missing))
        raise UserError(
            f"{counts.missing:,} of {_sources(job, corpus):,} sources have no list, the first of which is line "
            f"{list_place(counts.first_missing)} of {origin.name if origin else 'its corpus'}.",
            "Decode them as well, or set given_lists.on_missing=gold to use their human translations.",
        )
    if job.config.check_fit and fit.refuse():
        raise UserError(
            "The lists match the human translations of their own sources no better than those of other sources.",
            "Check `corpus` and `first` of given_lists.files, or set given_lists.check_fit=false to continue anyway.",
        )


def _sources(job: Job[GivenListsConfig], corpus: Corpus) -> int:
    return sum(shard.sources for shard in _shares(job, corpus))
