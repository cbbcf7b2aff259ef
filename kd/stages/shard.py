"""Shard: remove held-out sentences and their leaks from the training corpus, shuffle it and cut it into shards.

Pairs are ordered by a seeded hash of their source, so equal sources are adjacent and the first shards are a random
sample.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.processes import Tick, Workers, share, ticking
from kd.corpora.hashing import HASH_BITS, sentence_hash
from kd.corpora.heldout import HeldOutSet, read_sets, side_of
from kd.corpora.ids import Pair
from kd.corpora.index import file_entry, read_json, verify_file, write_json
from kd.corpora.known_testsets import known_test_sets
from kd.corpora.leakage import Guard, Leaks, keep_out, mode
from kd.corpora.shard import Shard as CorpusShard
from kd.corpora.shards import MOST_SHARDS, Corpus, CorpusWriter, Ends
from kd.corpora.shuffle import Range, Scattered, buckets_for, scatter
from kd.corpora.writing import LineWriter
from kd.models.known import Known, by_pairs
from kd.models.languages import primary
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Job, Kind, Role, Stage, Summary
from kd.recipe.schema import ShardConfig
from kd.stages.outputs import LEAKAGE, LEAKED

PROCESS_PAIRS = 200_000  # that are worth the second which a process takes to start


class Shard(Kind[ShardConfig]):
    """Make the training corpus."""

    name = "shard"
    version = 3
    config = ShardConfig
    roles: ClassVar = {
        "corpus": Role(),
        "held_out": Role(),
        "beside": Role(optional=True),  # of source-only text: the bilingual corpus that it has a share beside
    }
    resources = "cpu"

    def run(self, job: Job[ShardConfig]) -> None:
        """Remove held-out sentences and leaks, shuffle, and cut into shards."""
        corpus = Corpus(job.one("corpus").path)
        sets = list(read_sets(job.one("held_out").path))
        chosen = mode(job.config.leakage)
        held, side = _drawn(job, sets, corpus)
        config = replace(job.config, share=_share(job, corpus))
        rules = _Rules(corpus, sets if chosen != "off" else [], frozenset(held), side, config)
        guard = rules.guard()
        parts = _parts(corpus.shards, _processes(job, corpus))
        work = Path(tempfile.mkdtemp(prefix=".shuffle-", dir=job.out))
        scattered = Scattered(work, [part.name for part in parts], buckets_for(corpus.pairs))
        with Workers(len(parts), _Shuffling, rules, scattered) as workers, LineWriter(job.out / LEAKED) as sample:
            # Repetitions of a set that was drawn from this corpus are removed; they are not the user's mistake.
            leaks = Leaks(corpus.origins, sample, guard.given if chosen == "fail" else ())
            beyond = _leave_out(job, corpus, workers, parts, leaks)
            written = _write(job, corpus, workers, scattered)
        shutil.rmtree(work)
        write_json(job.out / LEAKAGE, {"mode": chosen, "one_sided_words": job.config.one_sided_words,
                                       "held_out_sets": guard.sets, **leaks.to_json(),
                                       "sample": file_entry(sample),
                                       **({"beyond_share": beyond} if beyond else {})})  # fmt: skip
        if not written:
            what = "source-only sentences" if corpus.source_only else "training pairs"
            hint = "Raise source_only.share." if corpus.source_only else "Lower split.dev and split.test."
            raise UserError(f"No {what} of {job.axis} are left.", hint)

    def check(self, job: Job[ShardConfig]) -> Summary:
        """Read the output back; check hashes, counts, unique ids, and that no sentence of a drawn set is in it."""
        corpus = Corpus(job.out)
        held, side = _drawn(job, list(read_sets(job.one("held_out").path)), corpus)
        _verify(job, corpus, frozenset(held), side)
        entered = Corpus(job.one("corpus").path).pairs
        leakage = read_json(job.out / LEAKAGE)
        verify_file(job.out / LEAKED, leakage.pop("sample"))
        beyond = leakage.get("beyond_share", 0)
        held_out = entered - corpus.pairs - leakage["pairs"] - beyond
        counts = {"pairs in": entered, "pairs out": corpus.pairs, "sources": corpus.sources}
        dropped = {f"leaks {_IN_WORDS[kind]}": number for kind, number in sorted(leakage["kinds"].items())}
        dropped |= {"beyond the share": beyond} if beyond else {}
        known = known_test_sets({origin.name: () for origin in corpus.origins.values()})
        facts = {"leakage": {**leakage, "known_test_sets": known}, "note": _note(leakage)}
        return Summary({**counts, "shards": len(corpus.shards)}, {"held out": held_out, **dropped}, facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the pairs that are read; shuffling needs a temporary copy."""
        text = known.input(stage, "corpus")
        beside = known.input(stage, "beside").pairs.value if stage.inputs.get("beside") else None
        if beside is not None and text.pairs.value is not None:
            most = beside * _most(stage.config)
            output = replace(text, pairs=replace(text.pairs, value=min(text.pairs.value, most)))
        else:
            output = text
        # benchmarks/bench_memory.py, 10 million pairs: 2.48 times the compressed output at the peak.
        return by_pairs(stage, text, output=output, temporary_share=1.5)


class _Check(NamedTuple):
    """The data that a process needs to check a shard."""

    corpus: Corpus
    held: frozenset[str]  # sentences that none of `side` may be
    side: str


def _verify(job: Job[ShardConfig], corpus: Corpus, held: frozenset[str], side: str) -> None:
    """Read the shards back in parallel. Raises IncompleteArtifact if one is damaged or has a held-out sentence."""
    processes = _processes(job, corpus)
    tick = partial(job.progress.update, "checking", total=corpus.pairs, unit="pairs")
    with Workers(processes, share, _Check(corpus, held, side)) as workers:
        corpus.check_ends(workers.map(_verify_shard, corpus.shards, tick))


def _verify_shard(check: _Check, shard: CorpusShard, tick: Tick) -> Ends:
    ends = shard.verify(check.corpus.origins, check.corpus.groups_kept)
    if not check.held.isdisjoint(shard.column(check.side)):
        raise IncompleteArtifact(f"{shard.folder} holds a {check.side} that is held out.")
    tick(shard.lines)
    return ends


_IN_WORDS = {"both": "both sides", "source": "a source", "target": "a target"}


def _note(leakage: dict[str, Any]) -> str:
    if leakage["mode"] == "off":
        return "LEAKAGE GUARD OFF"
    return f"leakage: removed {leakage['pairs']:,}" if leakage["pairs"] else "leakage: clean"


@dataclass(frozen=True)
class _Rules:
    """The rules for leaving pairs out of a corpus."""

    corpus: Corpus
    sets: Sequence[HeldOutSet]  # that may not leak
    held: frozenset[str]  # sentences that none of `side` may be
    side: str
    config: ShardConfig

    def guard(self) -> Guard:
        """Return the leakage guard."""
        return Guard(self.sets, self.corpus.languages, self.config.one_sided_words)


class _Part(NamedTuple):
    """Neighbouring shards of the corpus, read by one process."""

    name: str
    shards: Sequence[CorpusShard]


def _processes(job: Job[ShardConfig], corpus: Corpus) -> int:
    return max(1, min(job.threads, len(corpus.shards), corpus.pairs // PROCESS_PAIRS))


def _parts(shards: Sequence[CorpusShard], count: int) -> list[_Part]:
    ends = [len(shards) * place // count for place in range(count + 1)]
    return [_Part(f"{place:04d}", shards[first:end]) for place, (first, end) in enumerate(pairwise(ends))]


class _Shuffling:
    """The data that a process needs to filter, shuffle and write pairs."""

    def __init__(self, rules: _Rules, scattered: Scattered) -> None:
        self.rules = rules
        self.scattered = scattered
        self.guard = rules.guard() if rules.sets else None


class _LeftOut(NamedTuple):
    leaks: list[tuple[Pair, dict[str, str]]]  # each with the sets that it matches
    beyond: int  # pairs that are not in the share


def _scatter(shuffling: _Shuffling, part: _Part, tick: Tick) -> _LeftOut:
    """Write the remaining pairs of a part to the buckets."""
    rules, config = shuffling.rules, shuffling.rules.config
    text_of, fate_of = attrgetter(rules.side), sentence_hash(config.seed, "kd.shard.share")
    limit = round(config.share * (1 << HASH_BITS))
    leaks: list[tuple[Pair, dict[str, str]]] = []
    beyond = 0

    def in_the_share(pairs: Iterable[Pair]) -> Iterator[Pair]:
        nonlocal beyond
        for pair in pairs:
            if fate_of(pair.source) < limit:  # all pairs of a source have one fate
                yield pair
            else:
                beyond += 1

    read = (pair for shard in part.shards for pair in ticking(shard.read(), tick))
    pairs: Iterator[Pair] = (pair for pair in read if text_of(pair) not in rules.held)
    if shuffling.guard is not None:
        pairs = keep_out(pairs, shuffling.guard, lambda pair, hits: leaks.append((pair, hits)))
    scatter(in_the_share(pairs), config.seed, shuffling.scattered, part.name)
    return _LeftOut(leaks, beyond)


def _leave_out(
    job: Job[ShardConfig], corpus: Corpus, workers: Workers[_Shuffling], parts: Sequence[_Part], leaks: Leaks
) -> int:
    """Scatter the corpus and record leaks; return the number of pairs beyond the share.

    Raises:
        UserError: Pairs match held-out sets, and the recipe refuses such pairs.
    """
    tick = partial(job.progress.update, "leaving out, shuffling", total=corpus.pairs, unit="pairs")
    beyond = 0
    for left_out in workers.map(_scatter, parts, tick):
        beyond += left_out.beyond
        for pair, hits in left_out.leaks:
            leaks.add(pair, hits)
    leaks.refuse(str(job.axis))  # at the end of the corpus, so that the sentence has all counts
    return beyond


def _write(job: Job[ShardConfig], corpus: Corpus, workers: Workers[_Shuffling], scattered: Scattered) -> int:
    """Write the shards; return their number of pairs."""
    tick = partial(job.progress.update, "writing shards", total=corpus.pairs, unit="pairs")
    ranges = list(scattered.cut(job.config.lines))
    if sum(len(each.starts) for each in ranges) > MOST_SHARDS:  # names are sorted as text
        raise UserError(f"The corpus has more than {MOST_SHARDS} shards.", "Raise shard.lines.")
    removed = 0
    with CorpusWriter(
        job.out, corpus.languages, job.config.lines, keep_groups=True, origins=corpus.origins.values()
    ) as writer:
        for each, folder in zip(ranges, workers.map(_write_range, ranges, tick), strict=True):
            writer.take(Corpus(folder))
            shutil.rmtree(folder)
            done = each.end * scattered.buckets >> HASH_BITS  # buckets that no later range reads
            for number in range(removed, done):
                scattered.remove(number)
            removed = done
    return writer.pairs


def _write_range(shuffling: _Shuffling, each: Range, tick: Tick) -> Path:
    """Write the shards of a range to a separate folder."""
    folder = shuffling.scattered.folder / f"shards-{each.number:05d}"
    starts = deque(each.starts)
    with CorpusWriter(folder, shuffling.rules.corpus.languages, None, keep_groups=True) as writer:
        for value, source, pair_id, target in shuffling.scattered.in_order(each.starts[0], each.end, each.pairs):
            if starts and value >= starts[0]:
                writer.begin_shard(f"{each.number + len(each.starts) - len(starts):05d}")
                starts.popleft()
            writer.add(Pair(pair_id, source, target))
    tick(each.pairs)
    return folder


def _most(config: ShardConfig) -> float:
    """Return the largest allowed ratio of source-only to bilingual text."""
    share = config.source_only_share
    return share / (1 - share) if share < 1 else math.inf


def _share(job: Job[ShardConfig], corpus: Corpus) -> float:
    """Return the share of a corpus to keep; source-only text gets at most its share of the student's corpus."""
    if not job.inputs.get("beside") or job.config.source_only_share == 1:
        return job.config.share
    beside = Corpus(job.one("beside").path)
    shards = [*beside.shards, *corpus.shards]
    tick = partial(job.progress.update, "counting characters", total=beside.pairs + corpus.pairs, unit="pairs")
    processes = min(job.threads, len(shards), (beside.pairs + corpus.pairs) // PROCESS_PAIRS)
    with Workers(max(1, processes), share, None) as workers:
        counts = list(workers.map(_characters, shards, tick))
    bilingual, own = sum(counts[: len(beside.shards)]), sum(counts[len(beside.shards) :])
    return min(job.config.share, bilingual * _most(job.config) / max(1, own))


def _characters(_: None, shard: CorpusShard, tick: Tick) -> int:
    return sum(map(len, ticking(shard.column("source"), tick)))


def _drawn(job: Job[ShardConfig], sets: list[HeldOutSet], corpus: Corpus) -> tuple[set[str], str]:
    """Return the sentences drawn by any language pair, and the side of this corpus on which they must not occur."""
    if corpus.source_only:  # whatever side was drawn: every source of a held-out pair in this language
        code = primary(corpus.languages[0])
        drawn = [(side, each) for each in sets if each.drawn for side in each.sides_in(code)]
        return {getattr(pair, side) for side, each in drawn for pair in each.pairs}, "source"
    held = {text for each in sets if each.drawn for text in each.texts()}
    return held, side_of(job.one("held_out").path, str(job.axis))
