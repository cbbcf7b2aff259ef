"""Split: dev and test sets, drawn over all language pairs of the recipe at once or taken as given.

A source sentence that any pair holds out is in no pair's training corpus: `shard` leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from kd.config import SplitConfig
from kd.corpora.heldout import read_heldout, verify_heldout, write_heldout
from kd.corpora.ids import Pair
from kd.corpora.shards import Corpus
from kd.corpora.split import HeldOut, Split, choose
from kd.errors import IncompleteArtifact, UserError
from kd.pipeline.contract import Artifact, Job, Kind, Role, Summary

SETS = ("dev", "test")


class SplitSets(Kind[SplitConfig]):
    """Holds out dev and test sets."""

    name = "split"
    version = 1
    config = SplitConfig
    roles: ClassVar = {"corpora": Role(many=True), "given": Role(many=True, optional=True)}
    resources = "cpu"

    def run(self, job: Job[SplitConfig]) -> None:
        """Chooses in a first pass over the corpora, takes the chosen pairs in a second."""
        corpora = {str(artifact.axis): Corpus(artifact.path) for artifact in job.inputs["corpora"]}
        given = {name: _given(job.inputs.get("given", []), name) for name in corpora}
        taken = {pair.source for sets in given.values() for pairs in sets.values() for pair in pairs}
        for name, corpus in corpora.items():
            held = _choose(job, name, corpus, given[name], taken)
            split = Split(held, seed=job.config.seed)
            for _ in split.train(job.progress.follow(corpus.read(), f"holding out of {name}", corpus.pairs, "pairs")):
                pass
            sets: dict[str, Iterable[Pair]] = {"dev": split.dev, "test": split.test}
            write_heldout(job.out, name, {use: given[name].get(use) or sets[use] for use in SETS})

    def check(self, job: Job[SplitConfig]) -> Summary:
        """Reads the sets back; no source may stand in both of a pair."""
        counts: dict[str, int | float] = {}
        for name in sorted({str(artifact.axis) for artifact in job.inputs["corpora"]}):
            verify_heldout(job.out, name)
            sets = {use: read_heldout(job.out, name, use) for use in SETS}
            if {pair.source for pair in sets["dev"]} & {pair.source for pair in sets["test"]}:
                raise IncompleteArtifact(f"A source of {name} is in dev and in test.")
            counts |= {f"{use} pairs of {name}": len(pairs) for use, pairs in sets.items()}
        return Summary(counts)


def _given(artifacts: Iterable[Artifact], name: str) -> Mapping[str, list[Pair]]:
    """The sets that the recipe gives as corpora, by use; what dev shares with test is taken out of dev."""
    sets: dict[str, list[Pair]] = {}
    for artifact in artifacts:
        if artifact.axis == name:
            corpus = Corpus(artifact.path)
            for use in {origin.use for origin in corpus.origins.values()} & set(SETS):
                sets.setdefault(use, []).extend(corpus.read())
    tested = {pair.source for pair in sets.get("test", [])}
    if "dev" in sets:
        sets["dev"] = [pair for pair in sets["dev"] if pair.source not in tested]
        if not sets["dev"]:
            raise UserError(f"Every dev source of {name} is in its test set.", "Give another corpus the use dev.")
    return sets


def _choose(
    job: Job[SplitConfig], name: str, corpus: Corpus, given: Mapping[str, list[Pair]], taken: set[str]
) -> HeldOut:
    sizes = {use: 0 if use in given else getattr(job.config, use) for use in SETS}
    if not any(sizes.values()):
        return HeldOut()
    return choose(
        job.progress.follow(corpus.read(), f"choosing from {name}", corpus.pairs, "pairs"),
        **sizes,
        min_words=job.config.min_words,
        seed=job.config.seed,
        given=taken,
        name=f"The corpus of {name}",
    )
