"""Corpora to fairseq's numbers, shards side by side in processes of their own, without text in between.

Each worker turns a whole shard into a part of the files; the parts are joined in the order of the shards, so that the
outcome does not depend on the number of workers.
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
from kd.corpora.shards import Corpus, Shard
from kd.engines.fairseq.binary import IndexedWriter, data_folder, data_prefix
from kd.models.description import tag_of
from kd.models.segmentation import Sampling
from kd.models.vocabulary import Vocabulary

SIDES = ("source", "target")
BATCH_PAIRS = 5_000  # in memory at a time, in each worker
BATCH_CHARACTERS = 4_000_000  # both sides together: a few very long lines are a batch as well


@dataclass
class Encoded:
    """Numbers of one split; of several folders and passes, all of them together."""

    pairs: int = 0
    source: int = 0  # pieces, ends of sentence included
    target: int = 0
    too_long: int = 0  # pairs left out
    others: int = 0  # pairs of corpora that are not wanted

    def add(self, other: Encoded) -> None:
        """Counts another part."""
        self.pairs += other.pairs
        self.source += other.source
        self.target += other.target
        self.too_long += other.too_long
        self.others += other.others


@dataclass(frozen=True)
class Encoding:
    """How text becomes numbers."""

    vocabulary: Path  # folder
    max_pieces: int  # of a side, its end not counted; longer pairs are left out
    sampling: Sampling | None = None
    wanted: frozenset[int] | None = None  # prefixes of the corpora whose pairs are encoded; None: of all
    tags: bool = False  # each source begins with the symbol of its target language, which counts as a piece

    def tag(self, target: str) -> str | None:
        """What sources to be translated into a language begin with."""
        return tag_of(target) if self.tags else None


def encode_pairs(
    groups: Iterable[tuple[str, Iterable[tuple[str, str]]]], prefixes: Sequence[Path], encoding: Encoding
) -> Encoded:
    """Writes source and target sides of pairs to the files of two prefixes, here and now.

    groups: pairs with the target language that they have, one group after the other.
    """
    vocabulary = Vocabulary(encoding.vocabulary)
    total = Encoded()
    with ExitStack() as stack:
        writers = [stack.enter_context(IndexedWriter(prefix, vocabulary.size)) for prefix in prefixes]
        for target, pairs in groups:
            total.add(_encode(pairs, writers, vocabulary, encoding, encoding.tag(target), lambda _: None))
    return total


def encode_corpora(
    corpora: Sequence[Corpus],
    out: Path,
    encoding: Encoding,
    *,
    folder_pairs: int,
    passes: int = 1,
    workers: int = 1,
    progress: Tick = lambda _: None,
    totals: Sequence[Encoded] = (),
) -> list[Encoded]:
    """Writes the split `train` of one or several data folders, named by `data_folder`, and returns what is in each.

    Each pass over the corpora makes folders of at most about `folder_pairs` pairs (whole shards, so up to one shard
    more), all of one size. Corpora are mixed: each folder has its share of every one. Memory does not grow with the
    corpora, and besides the outcome the parts of at most two shards a worker (`processes.AHEAD`) lie on disk. With
    sampling, each pass draws other segmentations. `progress` is told pairs as they are done; `totals`, one for each
    corpus where they are given, count what it has of all folders.

    Raises: Damaged, with file and line, where a shard is not whole, and what `Workers.map` raises.
    """
    plan = _in_folders(corpora, folder_pairs)
    folders = passes * (plan[-1][0] + 1 if plan else 0)
    work = [
        _Part(
            shard,
            data_folder(out, folder + turn * (folders // passes)) / f"part-{place}",
            place,
            turn,
            encoding,
            encoding.tag(corpora[number].languages[1]),
            totals[number] if totals else None,
        )
        for turn in range(passes)
        for place, (folder, number, shard) in enumerate(plan)
    ]
    size = Vocabulary(encoding.vocabulary).size
    encoded: list[Encoded] = []
    for folder in (data_folder(out, number) for number in range(folders)):
        folder.mkdir(exist_ok=True)
    with Workers(min(workers, len(work)), Vocabulary, encoding.vocabulary) as pool:
        parts = pool.map(_encode_part, work, progress)
        for folder in (data_folder(out, number) for number in range(folders)):
            encoded.append(_joined(folder, size, [part for part in work if part.prefix.parent == folder], parts))
    return encoded


def encode_groups(
    groups: Mapping[str, Sequence[Corpus]],
    folder: Path,
    encoding: Encoding,
    *,
    workers: int = 1,
    progress: Tick = lambda _: None,
) -> dict[str, Encoded]:
    """Writes the split `train` of one folder with the corpora of each group one after the other; says what each has.

    Memory does not grow with the corpora. Raises as `encode_corpora` does.
    """
    folder.mkdir(exist_ok=True)
    shards = [
        (group, corpus.languages[1], shard)
        for group, corpora in groups.items()
        for corpus in corpora
        for shard in corpus.shards
    ]
    work = [
        _Part(shard, folder / f"part-{place}", place, 0, encoding, encoding.tag(target))
        for place, (_, target, shard) in enumerate(shards)
    ]
    size = Vocabulary(encoding.vocabulary).size
    totals = {group: Encoded() for group in groups}
    with Workers(min(workers, len(work)), Vocabulary, encoding.vocabulary) as pool, ExitStack() as stack:
        writers = [stack.enter_context(IndexedWriter(data_prefix(folder, "train", side), size)) for side in SIDES]
        for (group, *_), part, encoded in zip(shards, work, pool.map(_encode_part, work, progress), strict=True):
            for writer, side in zip(writers, SIDES, strict=True):
                writer.append(part.path(side))
            totals[group].add(encoded)
    return totals


def _joined(folder: Path, size: int, expected: Sequence[_Part], parts: Iterator[Encoded]) -> Encoded:
    """Puts the parts of one folder together, as they come in their order."""
    total = Encoded()
    with ExitStack() as stack:
        writers = [stack.enter_context(IndexedWriter(data_prefix(folder, "train", side), size)) for side in SIDES]
        for part in expected:
            encoded = next(parts)
            for writer, side in zip(writers, SIDES, strict=True):
                writer.append(part.path(side))
            total.add(encoded)
            if part.total is not None:
                part.total.add(encoded)
    return total


# --- which shard goes where ------------------------------------------------------------------------------------------


def _in_folders(corpora: Sequence[Corpus], folder_pairs: int) -> list[tuple[int, int, Shard]]:
    """All shards, mixed evenly, each with the numbers of folder and corpus; folders follow each other without a gap."""
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
    """A shard to encode, and where to."""

    shard: Shard
    prefix: Path
    place: int  # of the shard among all
    turn: int  # of the passes
    encoding: Encoding
    tag: str | None = None  # what its sources begin with
    total: Encoded | None = None  # of its corpus; only where the parts are joined

    def path(self, side: str) -> Path:
        """The prefix of the files of a side."""
        return self.prefix.with_name(f"{self.prefix.name}.{side}")


def _encode_part(vocabulary: Vocabulary, part: _Part, told: Tick) -> Encoded:
    writers = [IndexedWriter(part.path(side), vocabulary.size) for side in SIDES]
    encoding = part.encoding
    if encoding.sampling is not None:
        seed = _seed(encoding.sampling.seed, part.turn, part.place)
        encoding = replace(encoding, sampling=replace(encoding.sampling, seed=seed))
    encoded = _encode(_texts(part.shard, encoding.wanted), writers, vocabulary, encoding, part.tag, told)
    encoded.others = part.shard.lines - encoded.pairs - encoded.too_long
    for writer in writers:
        writer.leave()
    return encoded


def _texts(shard: Shard, wanted: frozenset[int] | None) -> Iterable[tuple[str, str]]:
    if wanted is None:
        return zip(*(shard.column(side) for side in SIDES), strict=True)  # ids need not be looked at
    return ((pair.source, pair.target) for pair in shard.read() if prefix_of(pair.id) in wanted)


def _encode(
    pairs: Iterable[tuple[str, str]],
    writers: Sequence[IndexedWriter],
    vocabulary: Vocabulary,
    encoding: Encoding,
    tag: str | None,
    told: Tick,
) -> Encoded:
    """Encodes pairs batch by batch; those with a side of more than `max_pieces` are left out and counted."""
    total = Encoded()
    for number, columns in enumerate(_batches(pairs)):
        sides = [
            _numbers(texts, vocabulary, encoding, number, side, None if side else tag)
            for side, texts in enumerate(columns)
        ]
        fits = np.logical_and(*(sizes <= encoding.max_pieces + 1 for _, sizes in sides))
        if not fits.all():
            sides = [(ids[np.repeat(fits, sizes)], sizes[fits]) for ids, sizes in sides]
        for writer, (ids, sizes) in zip(writers, sides, strict=True):
            writer.write_array(ids, sizes)
        kept = int(fits.sum())
        total.add(Encoded(kept, len(sides[0][0]), len(sides[1][0]), len(fits) - kept))
        told(len(fits))
    return total


def _numbers(
    texts: Sequence[str], vocabulary: Vocabulary, encoding: Encoding, batch: int, side: int, tag: str | None
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    if encoding.sampling is None:
        return vocabulary.encode_array(texts, tag)
    seed = _seed(encoding.sampling.seed, batch, side)
    return vocabulary.sample_array(texts, replace(encoding.sampling, seed=seed), tag)


def _seed(*numbers: int) -> int:
    """32 bits that depend on all of the numbers."""
    return int.from_bytes(blake2b(repr(numbers).encode("ascii"), digest_size=4).digest(), "big")


def _batches(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[list[str], list[str]]]:
    """Sources and targets of some thousand pairs at a time, fewer where they are long."""
    sources: list[str] = []
    targets: list[str] = []
    characters = 0
    for source, target in pairs:
        sources.append(source)
        targets.append(target)
        characters += len(source) + len(target)
        if len(sources) == BATCH_PAIRS or characters >= BATCH_CHARACTERS:
            yield sources, targets
            sources, targets, characters = [], [], 0
    if sources:
        yield sources, targets
