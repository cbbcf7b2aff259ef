"""The corpora of several language pairs in one folder, a corpus folder each, without what they have in common twice.

What counts as the same is a side or both of them; the buckets of `kd.corpora.duplicates` find it in flat memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kd.config import DuplicatesConfig
from kd.corpora.duplicates import DuplicateFinder, Verdicts, key_function
from kd.corpora.index import INDEX
from kd.corpora.shards import PAIR_COLUMNS, Corpus, CorpusWriter, Shard

WORK = "work"  # folder, while it is written


def read_joined(folder: Path) -> dict[str, Corpus]:
    """The corpora, by language pair."""
    return {path.parent.name: Corpus(path.parent) for path in sorted(folder.glob(f"*/{INDEX}"))}


def write_joined(
    corpora: Mapping[str, Corpus], out: Path, same: DuplicatesConfig, progress: Callable[[int], None]
) -> dict[str, int]:
    """Writes `out/PAIR` for each; returns how many pairs of sentences are left of it.

    Of equal ones that stays which lies nearest to the beginning of its corpus. Corpora are shuffled, so that none of
    them wins more often than its share. `progress` is told the pairs done, of two passes over all.
    """
    order = _mixed(corpora)
    done = 0

    def tick(pairs: int) -> None:
        nonlocal done
        done += pairs
        progress(done)

    verdicts = _find(order, out / WORK, same, tick)
    places = _first_places(order)
    kept = {
        name: _write(corpus, out / name, verdicts, [places[name, shard.name] for shard in corpus.shards], tick)
        for name, corpus in corpora.items()
    }
    verdicts.path.unlink()
    (out / WORK).rmdir()
    return kept


def _mixed(corpora: Mapping[str, Corpus]) -> list[tuple[str, Shard]]:
    """All shards, evenly mixed."""
    placed = (
        ((place + 0.5) / len(corpus.shards), number, name, shard)
        for number, (name, corpus) in enumerate(corpora.items())
        for place, shard in enumerate(corpus.shards)
    )
    return [(name, shard) for _, _, name, shard in sorted(placed, key=lambda item: item[:2])]


def _first_places(order: Sequence[tuple[str, Shard]]) -> dict[tuple[str, str], int]:
    """Where the pairs of each shard begin among all."""
    places, at = {}, 0
    for name, shard in order:
        places[name, shard.name] = at
        at += shard.lines
    return places


def _find(
    order: Sequence[tuple[str, Shard]], folder: Path, same: DuplicatesConfig, tick: Callable[[int], None]
) -> Verdicts:
    key_of = key_function(same)
    finder = DuplicateFinder(folder, sum(shard.lines for _, shard in order))
    for _, shard in order:
        finder.add(b"".join(key_of(pair.source, pair.target) for pair in shard.read()))
        tick(shard.lines)
    return finder.find()


def _write(corpus: Corpus, folder: Path, verdicts: Verdicts, places: Sequence[int], tick: Callable[[int], None]) -> int:
    columns = corpus.columns[len(PAIR_COLUMNS) :]
    with CorpusWriter(
        folder,
        corpus.languages,
        None,
        columns,
        keep_groups=corpus.groups_kept,
        origins=corpus.origins.values(),
    ) as writer:
        for shard, first in zip(corpus.shards, places, strict=True):
            writer.begin_shard(shard.name)
            for (pair, values), again in zip(shard.rows(*columns), verdicts.of(first, shard.lines), strict=True):
                if not again:
                    writer.add(pair, *values)
            tick(shard.lines)
    return writer.pairs
