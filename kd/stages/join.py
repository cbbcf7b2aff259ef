"""Join: join the corpora of several language pairs for one model, with each sentence of a shared side once.

If corpora share their English side, a model for all of them would see each English sentence once per language. If that
is wanted, leave this stage out.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from kd.base.errors import IncompleteArtifact
from kd.corpora.index import read_json, write_json
from kd.corpora.joined import read_joined, write_joined
from kd.corpora.shards import Corpus
from kd.models.known import Known, by_pairs
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Job, Kind, Role, Stage, Summary
from kd.recipe.schema import DuplicatesConfig, JoinConfig

COUNTS = "counts.json"


class Join(Kind[JoinConfig]):
    """Write a corpus folder for each language pair, without duplicates within or across pairs."""

    name = "join"
    version = 3
    config = JoinConfig
    roles: ClassVar = {"corpora": Role(many=True)}
    resources = "cpu"

    def run(self, job: Job[JoinConfig]) -> None:
        """Join in two passes: hash all pairs into buckets on disk, then keep the first of equal pairs."""
        corpora = _by_pair(job)
        config = DuplicatesConfig(enabled=True, by=job.config.by, normalised=job.config.normalised)
        total = 2 * sum(corpus.pairs for corpus in corpora.values())
        kept = write_joined(corpora, job.out, config, lambda done: job.progress.update("joining", done, total, "pairs"))
        counts = {name: {"in": corpus.pairs, "out": kept[name]} for name, corpus in corpora.items()}
        write_json(job.out / COUNTS, counts)

    def check(self, job: Job[JoinConfig]) -> Summary:
        """Read everything back."""
        counts = read_json(job.out / COUNTS)
        left = read_joined(job.out)
        if {name: corpus.pairs for name, corpus in left.items()} != {name: n["out"] for name, n in counts.items()}:
            raise IncompleteArtifact(f"{job.out} does not match its counts.")
        for corpus in left.values():
            corpus.verify()
        before, after = (sum(numbers[key] for numbers in counts.values()) for key in ("in", "out"))
        return Summary({"pairs in": before, "pairs out": after}, {"duplicates": before - after}, {"by pair": counts})

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the pairs that are read."""
        return by_pairs(stage, known.input(stage, "corpora"))


def _by_pair(job: Job[JoinConfig]) -> dict[str, Corpus]:
    folders: dict[str, list[Path]] = {}
    for artifact in job.inputs["corpora"]:
        folders.setdefault(artifact.axis or artifact.label, []).append(artifact.path)
    return {name: Corpus.join(paths) for name, paths in folders.items()}
