"""Split: hold out dev and test sets, drawn over all language pairs of the recipe together, or given as corpora.

A sentence held out by any language pair is in no pair's training corpus: `shard` removes it and its leaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.processes import Tick, Workers
from kd.corpora.heldout import HeldOutSet, read_heldout, read_sets, side_of, verify_heldout, write_heldout
from kd.corpora.ids import Pair
from kd.corpora.leakage import ONE_SIDED_WORDS, Guard
from kd.corpora.shard import Shard
from kd.corpora.shards import Corpus
from kd.corpora.split import Candidates, Draw, Drawn, candidates, held_side, merged
from kd.models.known import Known, by_pairs
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import SplitConfig

SETS = ("dev", "test")
PROCESS_PAIRS = 200_000  # that are worth the second which a process takes to start


class SplitSets(Kind[SplitConfig]):
    """Hold out dev and test sets."""

    name = "split"
    version = 2
    config = SplitConfig
    roles: ClassVar = {"corpora": Role(many=True), "given": Role(many=True, optional=True)}
    resources = "cpu"

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task for all language pairs, with the held-out side of each."""
        for _, corpora in stage.inputs["corpora"]:
            if corpora.axis:
                languages = (corpora.axis_value["source"], corpora.axis_value["target"])
                held_side(stage.config.by, languages, corpora.axis)
        yield from super().tasks(stage)

    def run(self, job: Job[SplitConfig]) -> None:
        """Draw the sets in one pass over the corpora."""
        corpora = {str(artifact.axis): Corpus(artifact.path) for artifact in job.inputs["corpora"]}
        sides = {name: held_side(job.config.by, corpus.languages, name) for name, corpus in corpora.items()}
        collected = [Corpus(artifact.path) for artifact in job.inputs.get("given", [])]
        received = [corpus for corpus in collected if any(o.use in SETS for o in corpus.origins.values())]
        given = {name: _given(received, name) for name in corpora}
        tested = _sentences(given, sides, ["test"])
        for name, sets in given.items():
            _without_tested(name, sets, sides[name], tested)
        taken = _sentences(given, sides, SETS)
        named = [
            HeldOutSet(name, use, corpora[name].languages, sides[name], drawn=False, corpus="", pairs=pairs)
            for name, sets in given.items()
            for use, pairs in sets.items()
        ]
        for name, corpus in corpora.items():
            drawn = _draw(job, name, corpus, sides[name], given[name], taken, named)
            sets = {use: [*given[name].get(use, []), *getattr(drawn, use)] for use in SETS}
            how = {use: _how(job.config, use, sides[name], corpus) for use in _to_draw(job.config, given[name])}
            origins = [origin for each in (corpus, *received) for origin in each.origins.values()]
            own = [origin for origin in origins if origin.pair == name]
            write_heldout(job.out, name, sets, corpus.languages, sides[name], how, own)

    def check(self, job: Job[SplitConfig]) -> Summary:
        """Read the sets back, and check that no test sentence is in a dev set."""
        counts: dict[str, int | float] = {}
        texts: dict[str, set[str]] = {use: set() for use in SETS}
        for name in sorted({str(artifact.axis) for artifact in job.inputs["corpora"]}):
            verify_heldout(job.out, name)
            text_of = attrgetter(side_of(job.out, name))
            for use in SETS:
                pairs = read_heldout(job.out, name, use)
                texts[use] |= {text_of(pair) for pair in pairs}
                counts[f"{use} pairs of {name}"] = len(pairs)
        if both := texts["dev"] & texts["test"]:
            raise IncompleteArtifact(f"A sentence is in dev and in test: {min(both)!r}.")
        return Summary(counts, facts={"note": _note(read_sets(job.out))})

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the pairs that are read."""
        return by_pairs(stage, known.input(stage, "corpora"), output=known.input_of(stage), allowance=5e6)


def _note(sets: Iterable[HeldOutSet]) -> str:
    """Return the sizes of the held-out sets, and whether they were drawn or given."""
    sizes: dict[tuple[str, bool], int] = {}
    for held in sets:
        sizes[held.use, held.drawn] = sizes.get((held.use, held.drawn), 0) + len(held.pairs)
    parts = (
        f"{use} {size:,} ({'drawn from the training corpora' if drawn else 'given'})"
        for (use, drawn), size in sorted(sizes.items())
    )
    return f"held out: {', '.join(parts)}"


def _given(received: Iterable[Corpus], name: str) -> dict[str, list[Pair]]:
    """Return the sets of a language pair that the recipe gives as corpora, by use."""
    sets: dict[str, list[Pair]] = {}
    for corpus in received:
        uses = {origin.use for origin in corpus.origins.values() if origin.pair == name}
        for use in uses & set(SETS):
            sets.setdefault(use, []).extend(corpus.read())
    return sets


def _sentences(
    given: Mapping[str, Mapping[str, list[Pair]]], sides: Mapping[str, str], uses: Iterable[str]
) -> set[str]:
    """Return the sentences of the given sets of all pairs, on each pair's held-out side."""
    return {getattr(pair, sides[name]) for name, sets in given.items() for use in uses for pair in sets.get(use, [])}


def _without_tested(name: str, sets: dict[str, list[Pair]], side: str, tested: set[str]) -> None:
    """Remove test sentences of any pair from a given dev set."""
    if "dev" in sets:
        sets["dev"] = [pair for pair in sets["dev"] if getattr(pair, side) not in tested]
        if not sets["dev"]:
            raise UserError(f"Every dev {side} of {name} is in a test set.", "Give another corpus the use dev.")


def _to_draw(config: SplitConfig, given: Mapping[str, list[Pair]]) -> list[str]:
    """Return the sets that are drawn from the training corpus."""
    return [use for use in SETS if use not in given or (use == "test" and config.test_beside_given)]


def _draw(
    job: Job[SplitConfig],
    name: str,
    corpus: Corpus,
    side: str,
    given: Mapping[str, list[Pair]],
    taken: set[str],
    named: Sequence[HeldOutSet],
) -> Drawn:
    """Draw the sets of a language pair; the shards of its corpus are processed in parallel."""
    wanted = _to_draw(job.config, given)
    sizes = {use: getattr(job.config, use) if use in wanted else 0 for use in SETS}
    if not any(sizes.values()):
        return Drawn()
    draw = Draw(**sizes, min_words=job.config.min_words, seed=job.config.seed, side=side, given=frozenset(taken))
    processes = max(1, min(job.threads, len(corpus.shards), corpus.pairs // PROCESS_PAIRS))
    tick = partial(job.progress.update, f"drawing from {name}", total=corpus.pairs, unit="pairs")
    with Workers(processes, _Drawing, draw, named, corpus.languages) as workers:
        return merged(workers.map(_candidates, corpus.shards, tick), draw, f"The corpus of {name}")


class _Drawing:
    """The data that a process needs to look for candidates."""

    def __init__(self, draw: Draw, named: Sequence[HeldOutSet], languages: tuple[str, str]) -> None:
        self.draw = draw
        self.guard = Guard(named, languages, ONE_SIDED_WORDS) if named else None


def _candidates(drawing: _Drawing, shard: Shard, tick: Tick) -> Candidates:
    found = candidates(shard.read(), drawing.draw, drawing.guard)
    tick(shard.lines)
    return found


def _how(config: SplitConfig, use: str, side: str, corpus: Corpus) -> dict[str, Any]:
    """Return the facts needed to draw a set again."""
    return {
        "by": side,
        "size": getattr(config, use),
        "min_words": config.min_words,
        "seed": config.seed,
        "from_pairs": corpus.pairs,
        "method": "the smallest BLAKE2b-64 hashes (salt: seed, person: kd.split) of the sentences on that side, "
        "even ones for test and odd ones for dev; of equal sentences the first pair",
    }
