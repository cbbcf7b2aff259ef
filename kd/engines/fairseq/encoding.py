"""Encode corpora as fairseq's memory-mapped data, several shards at a time, without text files in between.

Each worker process converts a whole shard into a part of the files. The parts are joined in the order of the shards, so
the output does not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd.base.processes import Tick, Workers
from kd.corpora.ids import prefix_of
from kd.corpora.shard import Shard
from kd.corpora.shards import Corpus, target_columns
from kd.engines.fairseq.binary import IndexedWriter, data_folder, data_prefix, write_runs, write_view
from kd.models.description import tag_of
from kd.models.segmentation import Sampling
from kd.models.vocabulary import Vocabulary

SIDES = ("source", "target")
BATCH_PAIRS = 5_000  # in memory at a time, in each worker
BATCH_CHARACTERS = 4_000_000  # both sides together: a few very long lines are a batch as well


@dataclass
class Encoded:
    """Counts of one split, or of several folders and passes together."""

    pairs: int = 0
    source: int = 0  # pieces, ends of sentence included
    target: int = 0
    too_long: int = 0  # pairs left out
    others: int = 0  # pairs of corpora that are not wanted

    def add(self, other: Encoded) -> None:
        """Add the counts of another part."""
        self.pairs += other.pairs
        self.source += other.source
        self.target += other.target
        self.too_long += other.too_long
        self.others += other.others


@dataclass(frozen=True)
class Encoding:
    """The settings for converting text to token ids."""

    vocabulary: Path  # folder
    max_pieces: int  # of a side, its end not counted; longer pairs are left out
    sampling: Sampling | None = None
    wanted: frozenset[int] | None = None  # prefixes of the corpora whose pairs are encoded; None: of all
    tags: bool = False  # each source begins with the symbol of its target language, which counts as a piece

    def tag(self, target: str) -> str | None:
        """Return the tag that begins each source for a target language; None without tags."""
        return tag_of(target) if self.tags else None


def encode_pairs(
    groups: Iterable[tuple[str, Iterable[tuple[str, str]]]], prefixes: Sequence[Path], encoding: Encoding
) -> Encoded:
    """Encode pairs in this process.

    Args:
        groups: Groups of pairs, each with its target language.
        prefixes: Prefixes of the source and target files.
        encoding: The settings.
    """
    vocabulary = Vocabulary(encoding.vocabulary)
    total = Encoded()
    with ExitStack() as stack:
        writers = [stack.enter_context(IndexedWriter(prefix, vocabulary.size)) for prefix in prefixes]
        for target, pairs in groups:
            (encoded,) = _encode(pairs, writers, vocabulary, encoding, encoding.tag(target), lambda _: None)
            total.add(encoded)
    return total


def encode_corpora(
    corpora: Sequence[Corpus],
    out: Path,
    encoding: Encoding,
    *,
    folder_pairs: int,
    passes: int = 1,
    targets: int = 1,
    workers: int = 1,
    progress: Tick = lambda _: None,
    totals: Sequence[Encoded] = (),
    pairs: Sequence[str] = (),
) -> list[Encoded]:
    """Write the split `train` of one or several data folders, named by `data_folder`.

    Each pass over the corpora makes folders of equal size, of at most about `folder_pairs` pairs (whole shards, so up
    to one shard more). Corpora are mixed: each folder has its share of every corpus. Memory does not grow with the
    corpora, and the disk holds the parts of at most two shards per worker (`processes.AHEAD`) beside the output.

    Pass k encodes the k-th target of each source; after the last target it begins again with the first. Without
    sampling, every pass has the same sources: they are stored once, and later passes refer to them. A pair with a
    target that is too long is then left out of all passes.

    Args:
        corpora: Corpora, each with `targets` targets.
        out: The data folder.
        encoding: The settings; with sampling, each pass draws new segmentations.
        folder_pairs: Number of pairs per folder.
        passes: Number of passes over the corpora; without sampling, one for each target.
        targets: Number of targets of each source, in the columns `target_columns`.
        workers: Number of processes.
        progress: Called with the number of finished pairs over all passes.
        totals: Counts by corpus, updated with its part of all folders; may be empty.
        pairs: The language pair of each corpus, recorded for its sentences (`read_runs`); empty for a single pair.

    Returns:
        The counts of each folder.

    Raises:
        Damaged: A shard is incomplete; the message names file and line.
        Exception: Whatever `Workers.map` raises.
    """
    plan = _in_folders(corpora, folder_pairs)
    folders = plan[-1][0] + 1 if plan else 0
    columns = target_columns(targets)
    shared = targets > 1 and encoding.sampling is None
    passes = targets if shared else passes
    turns = [columns] if shared else [(columns[turn % targets],) for turn in range(passes)]
    work = [
        _Part(
            shard,
            data_folder(out, folder + turn * folders) / f"part-{place}",
            place,
            turn,
            encoding,
            encoding.tag(corpora[number].languages[1]),
            totals[number] if totals else None,
            of_turn,
            pairs[number] if pairs else "",
        )
        for turn, of_turn in enumerate(turns)
        for place, (folder, number, shard) in enumerate(plan)
    ]
    size = Vocabulary(encoding.vocabulary).size
    encoded: dict[int, Encoded] = {}
    for number in range(folders * passes):
        data_folder(out, number).mkdir(exist_ok=True)
    with Workers(min(workers, len(work)), Vocabulary, encoding.vocabulary) as pool:
        parts = pool.map(_encode_part, work, progress)
        for number in range(folders * len(turns)):
            of_folder = [part for part in work if part.prefix.parent == data_folder(out, number)]
            places = [data_folder(out, number + turn * folders) for turn in range(len(turns[number // folders]))]
            for turn, found in enumerate(_joined(places, size, of_folder, parts)):
                encoded[number + turn * folders] = found
    return [encoded[number] for number in range(folders * passes)]


def encode_groups(
    groups: Mapping[str, Sequence[Corpus]],
    folder: Path,
    encoding: Encoding,
    *,
    workers: int = 1,
    progress: Tick = lambda _: None,
) -> dict[str, Encoded]:
    """Write the split `train` of one folder, with the corpora of one group after those of another.

    Memory does not grow with the corpora. Returns the counts of each group; raises as `encode_corpora` does.
    """
    folder.mkdir(exist_ok=True)
    shards = [
        (group, corpus.languages[1], shard)
        for group, corpora in groups.items()
        for corpus in corpora
        for shard in corpus.shards
    ]
    work = [
        _Part(shard, folder / f"part-{place}", place, 0, encoding, encoding.tag(target), pair=group)
        for place, (group, target, shard) in enumerate(shards)
    ]
    size = Vocabulary(encoding.vocabulary).size
    totals = {group: Encoded() for group in groups}
    with Workers(min(workers, len(work)), Vocabulary, encoding.vocabulary) as pool, ExitStack() as stack:
        writers = [stack.enter_context(IndexedWriter(data_prefix(folder, "train", side), size)) for side in SIDES]
        for (group, *_), part, (encoded,) in zip(shards, work, pool.map(_encode_part, work, progress), strict=True):
            for writer, side in zip(writers, SIDES, strict=True):
                writer.append(part.path(side))
            totals[group].add(encoded)
    write_runs(folder, ((group, total.pairs) for group, total in totals.items()))
    return totals


def _joined(
    folders: Sequence[Path], size: int, expected: Sequence[_Part], parts: Iterator[list[Encoded]]
) -> list[Encoded]:
    """Join parts in their order; return the counts of each folder.

    Folder k gets the k-th target of each part. Sources are stored in the first folder; the others refer to them.
    """
    totals = [Encoded() for _ in folders]
    runs = []
    with ExitStack() as stack:
        prefixes = [data_prefix(folders[0], "train", "source"), *(data_prefix(f, "train", "target") for f in folders)]
        writers = [stack.enter_context(IndexedWriter(prefix, size)) for prefix in prefixes]
        for part in expected:
            counts = next(parts)
            for writer, side in zip(writers, part.sides, strict=True):
                writer.append(part.path(side))
            for total, encoded in zip(totals, counts, strict=True):
                total.add(encoded)
                if part.total is not None:
                    part.total.add(encoded)
            runs.append((part.pair, counts[0].pairs))
    for folder in folders if any(part.pair for part in expected) else ():
        write_runs(folder, runs)
    for folder in folders[1:]:
        write_view(data_prefix(folder, "train", "source"), prefixes[0], [(0, totals[0].pairs)])
    return totals


# --- which shard goes where ------------------------------------------------------------------------------------------


def _in_folders(corpora: Sequence[Corpus], folder_pairs: int) -> list[tuple[int, int, Shard]]:
    """Return folder number, corpus number and shard for every shard, evenly mixed."""
    mixed = sorted(
        ((place + 0.5) / len(corpus.shards), number, shard)
        for number, corpus in enumerate(corpora)
        for place, shard in enumerate(corpus.shards)
    )
    shards = [(number, shard) for _, number, shard in mixed if shard.lines]
    total = sum(shard.lines for _, shard in shards)
    count = max(1, -(-total // folder_pairs))
    wished: list[int] = []
    before = 0
    for _, shard in shards:
        wished.append((before + shard.lines // 2) * count // total)
        before += shard.lines
    numbers = {wish: number for number, wish in enumerate(dict.fromkeys(wished))}
    return [(numbers[wish], corpus, shard) for wish, (corpus, shard) in zip(wished, shards, strict=True)]


# --- the work on one shard -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A shard to encode, and the path of its files."""

    shard: Shard
    prefix: Path
    place: int  # of the shard among all
    turn: int  # of the passes
    encoding: Encoding
    tag: str | None = None  # that begins its sources
    total: Encoded | None = None  # counts of its corpus; used only where the parts are joined
    targets: tuple[str, ...] = ("target",)  # columns
    pair: str = ""  # language pair, if there are several

    @property
    def sides(self) -> tuple[str, ...]:
        """The columns to encode."""
        return ("source", *self.targets)

    def path(self, side: str) -> Path:
        """Return the prefix of the files of a side."""
        return self.prefix.with_name(f"{self.prefix.name}.{side}")


def _encode_part(vocabulary: Vocabulary, part: _Part, tick: Tick) -> list[Encoded]:
    """Encode a shard; return the counts for each of its targets."""
    writers = [IndexedWriter(part.path(side), vocabulary.size) for side in part.sides]
    encoding = part.encoding
    if encoding.sampling is not None:
        seed = _seed(encoding.sampling.seed, part.turn, part.place)
        encoding = replace(encoding, sampling=replace(encoding.sampling, seed=seed))
    found = _encode(_texts(part, encoding.wanted), writers, vocabulary, encoding, part.tag, tick)
    for encoded in found:
        encoded.others = part.shard.lines - encoded.pairs - encoded.too_long
    for writer in writers:
        writer.leave()
    return found


def _texts(part: _Part, wanted: frozenset[int] | None) -> Iterable[tuple[str, ...]]:
    """Yield source and targets of each wanted pair."""
    if wanted is None:
        return part.shard.texts(*part.sides)  # without the ids
    return ((pair.source, *targets) for pair, targets in part.shard.rows(*part.targets) if prefix_of(pair.id) in wanted)


def _encode(
    pairs: Iterable[tuple[str, ...]],
    writers: Sequence[IndexedWriter],
    vocabulary: Vocabulary,
    encoding: Encoding,
    tag: str | None,
    tick: Tick,
) -> list[Encoded]:
    """Encode rows of a source and its targets, batch by batch; count those with a side of more than `max_pieces`.

    Returns:
        The counts for each target; each includes the sources.
    """
    totals = [Encoded() for _ in writers[1:]]
    for number, columns in enumerate(_batches(pairs)):
        sides = [
            _numbers(texts, vocabulary, encoding, number, side, None if side else tag)
            for side, texts in enumerate(columns)
        ]
        fits = np.logical_and.reduce([sizes <= encoding.max_pieces + 1 for _, sizes in sides])
        if not fits.all():
            sides = [(ids[np.repeat(fits, sizes)], sizes[fits]) for ids, sizes in sides]
        for writer, (ids, sizes) in zip(writers, sides, strict=True):
            writer.write_array(ids, sizes)
        kept = int(fits.sum())
        for total, (ids, _) in zip(totals, sides[1:], strict=True):
            total.add(Encoded(kept, len(sides[0][0]), len(ids), len(fits) - kept))
        tick(len(fits) * len(totals))
    return totals


def _numbers(
    texts: Sequence[str], vocabulary: Vocabulary, encoding: Encoding, batch: int, side: int, tag: str | None
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    if encoding.sampling is None:
        return vocabulary.encode_array(texts, tag)
    seed = _seed(encoding.sampling.seed, batch, side)
    return vocabulary.sample_array(texts, replace(encoding.sampling, seed=seed), tag)


def _seed(*numbers: int) -> int:
    """Return a 32-bit seed that depends on all of the numbers."""
    return int.from_bytes(blake2b(repr(numbers).encode("ascii"), digest_size=4).digest(), "big")


def _batches(rows: Iterable[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """Yield the columns of a few thousand rows at a time, or fewer if they are long."""
    batch: list[tuple[str, ...]] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += sum(map(len, row))
        if len(batch) == BATCH_PAIRS or characters >= BATCH_CHARACTERS:
            yield list(zip(*batch, strict=True))
            batch, characters = [], 0
    if batch:
        yield list(zip(*batch, strict=True))
