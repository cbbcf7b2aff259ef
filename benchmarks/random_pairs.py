"""Data folders of random ids for benchmarks of training: as encode writes them, a million pairs in a second.

Lengths are spread as those of real text (log-normal about 20 pieces); which ids changes neither speed nor memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kd.engines.fairseq.binary import IndexedWriter, data_folder, data_folders, data_prefix

_CHUNK = 250_000  # pairs in memory at a time
_DEV = 64  # pairs
LONGEST = 128  # pieces, end of sentence included


def write_folders(folder: Path, pairs: int, *, vocabulary: int, folder_pairs: int, seed: int = 1) -> tuple[Path, ...]:
    """Write `pairs` pairs into folders of at most `folder_pairs`, which a training reads as epochs; return them."""
    rng = np.random.default_rng(seed)
    count = -(-pairs // folder_pairs)
    for number in range(count):
        _write_split(rng, data_folder(folder, number), "train", pairs // count + (number < pairs % count), vocabulary)
    _write_split(rng, folder, "valid", _DEV, vocabulary)  # fairseq-train wants one
    for side in ("source", "target"):
        # fairseq adds four symbols of its own.
        lines = "".join(f"piece{number} 1\n" for number in range(vocabulary - 4))
        (folder / f"dict.{side}.txt").write_text(lines, "utf-8")
    return data_folders(folder)


def _write_split(rng: np.random.Generator, folder: Path, split: str, pairs: int, vocabulary: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        IndexedWriter(data_prefix(folder, split, "source"), vocabulary) as source,
        IndexedWriter(data_prefix(folder, split, "target"), vocabulary) as target,
    ):
        for start in range(0, pairs, _CHUNK):
            _write(rng, (source, target), min(_CHUNK, pairs - start), vocabulary)


def _write(rng: np.random.Generator, sides: tuple[IndexedWriter, IndexedWriter], count: int, vocabulary: int) -> None:
    source = np.clip(rng.lognormal(3.0, 0.6, count), 2, LONGEST).astype(np.int32)
    target = np.clip(source * rng.normal(1.1, 0.15, count), 2, LONGEST).astype(np.int32)
    for writer, sizes in zip(sides, (source, target), strict=True):
        ids = rng.integers(4, vocabulary, int(sizes.sum()), dtype=np.int32)
        ids[np.cumsum(sizes) - 1] = 2  # ends of sentence
        writer.write_array(ids, sizes)
