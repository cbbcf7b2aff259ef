"""Clean a corpus shard by shard: a first pass applies filters, a second removes duplicates.

Rejected pairs are counted and sampled. Shards are independent, so any number of processes can work on them with the
same result.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from kd.base.processes import Tick, ticking
from kd.corpora.duplicates import key_function
from kd.corpora.filters import DUPLICATES, Setting
from kd.corpora.filters.contract import Filter, PairFilter, Rewriter, ScoreFilter
from kd.corpora.ids import Pair, prefix_of
from kd.corpora.rejects import Reject, Sample
from kd.corpora.shard import Shard
from kd.corpora.shards import Corpus, CorpusWriter
from kd.recipe.schema import DuplicatesConfig

BLOCK_PAIRS = 1024  # that a filter is applied to at once


@dataclass(frozen=True)
class Rules:
    """The settings of a worker process. `duplicates`: None to keep duplicates."""

    filters: Sequence[Setting]  # in the order in which they are applied
    languages: tuple[str, str]
    duplicates: DuplicatesConfig | None
    rejects: int  # size of the sample of each filter
    source_only: bool = False  # the text has no translations: filters that compare both sides are left out

    def steps(self) -> list[tuple[str, Filter[Any]]]:
        """Return the filters that apply, by label."""
        made = [(setting.label, setting.make(self.languages)) for setting in self.filters]
        return [(label, each) for label, each in made if not (self.source_only and _needs_both(each))]

    def left_out(self) -> list[str]:
        """Return the labels of the filters that do not apply, since they compare both sides."""
        made = [(setting.label, setting.make(self.languages)) for setting in self.filters]
        return [label for label, each in made if self.source_only and _needs_both(each)]

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the additional columns of the corpus that filters read."""
        return tuple(dict.fromkeys(each.column for _, each in self.steps() if isinstance(each, ScoreFilter)))


def _needs_both(each: Filter[Any]) -> bool:
    return isinstance(each, PairFilter) and not each.one_sided


@dataclass
class Tally:
    """Counts of pairs, and a sample of the rejected ones."""

    read: Counter[int] = field(default_factory=Counter)  # by the prefix of their origin
    dropped: Counter[tuple[int, str]] = field(default_factory=Counter)  # by prefix and filter
    rewritten: Counter[str] = field(default_factory=Counter)  # by filter
    rejects: list[Reject] = field(default_factory=list)  # the sample

    def add(self, other: Tally) -> None:
        """Add the counts of another tally. The caller merges samples."""
        self.read.update(other.read)
        self.dropped.update(other.dropped)
        self.rewritten.update(other.rewritten)


_Row = tuple[Pair, Sequence[str | None]]  # a pair with its values in the columns that filters read


class Cleaner:
    """Apply the filters of a recipe, one after the other, to blocks of pairs."""

    def __init__(self, rules: Rules) -> None:
        self.columns = rules.columns
        self.tally = Tally()
        self._sample = Sample(rules.rejects)
        self._steps = rules.steps()
        self._source_only = rules.source_only

    def survivors(self, rows: Iterable[_Row]) -> Iterator[Pair]:
        """Yield the pairs that no filter rejects, in their rewritten form, each with its values in `columns`."""
        iterator = iter(rows)
        while block := list(islice(iterator, BLOCK_PAIRS)):
            self.tally.read.update([prefix_of(pair.id) for pair, _ in block])
            for label, step in self._steps:
                block = (
                    self._rewrite(label, step, block) if isinstance(step, Rewriter) else self._ask(label, step, block)
                )
            for pair, _ in block:
                yield pair

    def _rewrite(self, label: str, step: Rewriter[Any], block: list[_Row]) -> list[_Row]:
        rewrite, done = step.rewrite, []
        for row in block:
            (number, source, target), values = row
            new_source, new_target = rewrite(source), rewrite(target)
            if new_source != source or new_target != target:
                self.tally.rewritten[label] += 1
                row = Pair(number, new_source, new_target), values
            done.append(row)
        return done

    def _ask(self, label: str, step: Filter[Any], block: list[_Row]) -> list[_Row]:
        if isinstance(step, ScoreFilter):
            column = self.columns.index(step.column)
            rejected: Sequence[bool] = [step.rejects_value(values[column]) for _, values in block]
        else:
            assert isinstance(step, PairFilter)
            judge = step.rejects_each_source if self._source_only else step.rejects_each
            rejected = judge([pair for pair, _ in block])
        if not any(rejected):
            return block
        for (pair, _), gone in zip(block, rejected, strict=True):
            if gone:
                self.drop(label, pair)
        return [row for row, gone in zip(block, rejected, strict=True) if not gone]

    def drop(self, label: str, pair: Pair) -> None:
        """Count a rejected pair, and offer it to the sample."""
        self.tally.dropped[prefix_of(pair.id), label] += 1
        self._sample.add(label, pair)

    def finished(self) -> Tally:
        """Return the counts with the sample."""
        self.tally.rejects = self._sample.rejects()
        return self.tally


@dataclass(frozen=True)
class Piece:
    """A shard to be cleaned: the input, the name of the output, and the folder for the output of both passes."""

    shard: Shard
    name: str
    folder: Path

    @property
    def filtered(self) -> Path:
        """Return the corpus that the first pass writes; the second pass replaces it if it has duplicates."""
        return self.folder / self.name

    @property
    def keys(self) -> Path:
        """Return the file of deduplication keys, 8 bytes for each remaining pair; equal pairs share a key."""
        return self.folder / f"{self.name}.hashes"


def filter_piece(rules: Rules, piece: Piece, tick: Tick) -> tuple[int, Tally]:
    """Apply the filters to a shard. Returns the number of remaining pairs and the counts."""
    cleaner = Cleaner(rules)
    rows = _rows(piece.shard, cleaner.columns)
    key_of = key_function(rules.duplicates) if rules.duplicates else None
    keys = bytearray()
    with CorpusWriter(piece.filtered, rules.languages, None) as writer:
        writer.begin_shard(piece.name)
        for pair in cleaner.survivors(ticking(rows, tick)):
            writer.add(pair)
            if key_of is not None:
                keys += key_of(pair.source, pair.target)
    if key_of is not None:
        piece.keys.write_bytes(keys)
    return writer.pairs, cleaner.finished()


def source_keys(rules: Rules, shard: Shard, tick: Tick) -> bytes:
    """Return the deduplication keys of a shard's pairs, 8 bytes each."""
    assert rules.duplicates is not None
    key_of = key_function(rules.duplicates)
    return b"".join(key_of(pair.source, pair.target) for pair in ticking(shard.read(), tick))


def _rows(shard: Shard, columns: Sequence[str]) -> Iterator[tuple[Pair, Sequence[str | None]]]:
    """Yield the pairs with their values in the columns; None for a column that this corpus lacks."""
    present = [column for column in columns if column in shard.columns]
    if list(columns) == present:
        yield from shard.rows(*present)
        return
    for pair, values in shard.rows(*present):
        by_name = dict(zip(present, values, strict=True))
        yield pair, [by_name.get(column) for column in columns]


@dataclass(frozen=True)
class Repeats:
    """A piece after the first pass, with the verdicts on its duplicates."""

    piece: Piece
    again: bytes  # one for each pair: 1 if an equal pair came before, else 0


def drop_repeats(rules: Rules, repeats: Repeats, tick: Tick) -> Tally:
    """Remove the duplicates of a piece; without duplicates it stays unchanged."""
    if not any(repeats.again):
        tick(len(repeats.again))
        return Tally()
    piece = repeats.piece
    cleaner = Cleaner(Rules((), rules.languages, None, rules.rejects))
    distinct = piece.folder / f"{piece.name}.distinct"
    (shard,) = Corpus(piece.filtered).shards
    rows = ticking(((pair, ()) for pair in shard.read()), tick)
    with CorpusWriter(distinct, rules.languages, None) as writer:
        writer.begin_shard(piece.name)
        for (pair, _), again in zip(rows, repeats.again, strict=True):
            if again:
                cleaner.drop(DUPLICATES, pair)
            else:
                writer.add(pair)
    shutil.rmtree(piece.filtered)
    distinct.rename(piece.filtered)
    return cleaner.finished()
