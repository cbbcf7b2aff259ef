"""Join the corpora of several language pairs in one folder, one corpus folder each, without common duplicates.

Duplicates agree on one side or on both; the buckets of `kd.corpora.duplicates` find them in constant memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

from kd.corpora.duplicates import DuplicateFinder, Verdicts, key_function
from kd.corpora.index import INDEX
from kd.corpora.shard import PAIR_COLUMNS
from kd.corpora.shards import Corpus, CorpusWriter
from kd.recipe.schema import DuplicatesConfig, SameBy

WORK = "work"  # folder, while it is written
PARTS = 10_000  # of each corpus, which are interleaved; smaller corpora are interleaved pair by pair
BATCH = 100_000  # pairs whose keys are in memory


def read_joined(folder: Path) -> dict[str, Corpus]:
    """Return the corpora by language pair."""
    return {path.parent.name: Corpus(path.parent) for path in sorted(folder.glob(f"*/{INDEX}"))}


def write_joined(
    corpora: Mapping[str, Corpus], out: Path, same: DuplicatesConfig, progress: Callable[[int], None]
) -> dict[str, int]:
    """Write `out/PAIR` for each corpus; returns the number of remaining pairs of each.

    Of duplicates, the pair nearest to the beginning of its corpus is kept. Corpora are shuffled, so each keeps a share
    proportional to its size. `progress` receives the number of pairs done, over both passes.
    """
    turns = list(_turns(corpora))
    done = 0

    def tick(pairs: int) -> None:
        nonlocal done
        done += pairs
        progress(done)

    verdicts = _find(corpora, turns, out / WORK, same, tick)
    kept = {
        name: _write(corpus, out / name, chain.from_iterable(_verdicts_on(name, turns, verdicts)), tick)
        for name, corpus in corpora.items()
    }
    verdicts.path.unlink()
    (out / WORK).rmdir()
    return kept


def _turns(corpora: Mapping[str, Corpus]) -> Iterator[tuple[str, int]]:
    """Yield corpora, each with the number of pairs to take next, so that all are evenly mixed."""
    names = list(corpora)
    parts = min(PARTS, max(corpus.pairs for corpus in corpora.values()))
    for part in range(parts):
        first = part % len(names)
        for name in names[first:] + names[:first]:
            begin, end = ((2 * corpora[name].pairs * at + parts) // (2 * parts) for at in (part, part + 1))
            if end > begin:
                yield name, end - begin


def _find(
    corpora: Mapping[str, Corpus],
    turns: Sequence[tuple[str, int]],
    folder: Path,
    same: DuplicatesConfig,
    tick: Callable[[int], None],
) -> Verdicts:
    # Equal targets in two languages, such as `2023`, are two sentences; equal sources are one.
    by_language = SameBy(same.by) is not SameBy.source
    key_of = {name: key_function(same, each.languages[1] if by_language else "") for name, each in corpora.items()}
    finder = DuplicateFinder(folder, sum(corpus.pairs for corpus in corpora.values()))
    pairs = {name: corpus.read() for name, corpus in corpora.items()}
    keys = (key_of[name](pair.source, pair.target) for name, count in turns for pair in islice(pairs[name], count))
    while some := list(islice(keys, BATCH)):
        finder.add(b"".join(some))
        tick(len(some))
    return finder.find()


def _verdicts_on(name: str, turns: Iterable[tuple[str, int]], verdicts: Verdicts) -> Iterator[bytes]:
    """Yield the verdicts on the pairs of a corpus, in the corpus' own order."""
    place = 0
    for other, count in turns:
        if other == name:
            yield verdicts.of(place, count)
        place += count


def _write(corpus: Corpus, folder: Path, repeated: Iterator[int], tick: Callable[[int], None]) -> int:
    columns = corpus.columns[len(PAIR_COLUMNS) :]
    with CorpusWriter(
        folder,
        corpus.languages,
        None,
        columns,
        keep_groups=corpus.groups_kept,
        origins=corpus.origins.values(),
    ) as writer:
        for shard in corpus.shards:
            writer.begin_shard(shard.name)
            for (pair, values), again in zip(shard.rows(*columns), islice(repeated, shard.lines), strict=True):
                if not again:
                    writer.add(pair, *values)
            tick(shard.lines)
    return writer.pairs
