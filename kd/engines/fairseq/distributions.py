"""Stored token distributions: the most probable tokens of each target position, memory-mapped beside the encoded data.

A position is that of a piece in the `.bin` file of the targets. So the index of the data serves here too, and sentences
that a view repeats share their rows. A block holds the rows of a run of positions in two plain files: `NAME.ids`
(uint16 or, for a large vocabulary, uint32) and `NAME.probabilities` (float16), each [pieces, top] and in descending
order of probability; `NAME.json` is written last and marks the block as complete. With 8 tokens from a vocabulary below
65,500, a position takes 32 bytes. The probability of all other tokens is not stored: it is 1 minus the sum of a row,
and the loss spreads it over them or drops it (`distill.rest`).
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.base.errors import IncompleteArtifact
from kd.base.files import write_json
from kd.engines.fairseq.binary import IndexedReader, best_dtype, data_folders, data_prefix

_SUFFIXES = (".ids", ".probabilities")
_PROBABILITY = np.dtype(np.float16)
_ROUNDING = 2e-3  # by which a row of probabilities in float16 may exceed 1


@dataclass(frozen=True)
class Block:
    """A run of positions of one store, as its JSON file describes it."""

    store: str  # the `.bin` file of the positions: see `stores`
    first: int  # position
    pieces: int
    top: int
    vocabulary: int

    @property
    def name(self) -> str:
        """Return the stem of the block's file names, which sort by position."""
        return f"{self.store}.{self.first:013d}"

    def write(self, folder: Path, ids: NDArray[Any], probabilities: NDArray[Any]) -> None:
        """Write the rows [pieces, top]; the JSON file comes last, so that it marks a complete block."""
        for suffix, rows, dtype in zip(
            _SUFFIXES, (ids, probabilities), (best_dtype(self.vocabulary), _PROBABILITY), strict=True
        ):
            if rows.shape != (self.pieces, self.top):
                raise ValueError(f"Rows of shape {rows.shape} are not a block of {self.pieces} x {self.top}.")
            with (folder / (self.name + suffix)).open("wb") as file:
                file.write(np.ascontiguousarray(rows, dtype=dtype).data)
                file.flush()
                os.fsync(file.fileno())
        write_json(folder / f"{self.name}.json", asdict(self))

    def rows(self, folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
        """Map ids and probabilities into memory, [pieces, top] each.

        Raises:
            IncompleteArtifact: The size of a file does not match the block.
        """
        maps = []
        for suffix, dtype in zip(_SUFFIXES, (best_dtype(self.vocabulary), _PROBABILITY), strict=True):
            path = folder / (self.name + suffix)
            size = path.stat().st_size if path.is_file() else 0
            if size != self.pieces * self.top * dtype.itemsize:
                raise IncompleteArtifact(
                    f"{path} has {size} bytes, which do not match {self.pieces} x {self.top} numbers."
                )
            maps.append(np.memmap(path, dtype=dtype, mode="r", shape=(self.pieces, self.top)))
        return maps[0], maps[1]

    def check(self, folder: Path) -> None:
        """Raise IncompleteArtifact unless every row is a descending distribution over tokens of the vocabulary."""
        ids, probabilities = self.rows(folder)
        values = probabilities.astype(np.float32)
        sums = values.sum(axis=1)
        sound = (
            int(ids.max(initial=0)) < self.vocabulary
            and bool((np.diff(values, axis=1) <= 0).all())
            and bool(np.isfinite(values).all())
            and bool((values >= 0).all())
            and bool(((sums > 0) & (sums <= 1 + _ROUNDING)).all())
        )
        if not sound:
            raise IncompleteArtifact(f"{folder / self.name} holds rows that are not distributions.")


def row_bytes(top: int, vocabulary: int) -> int:
    """Return the bytes of one position."""
    return top * (best_dtype(vocabulary).itemsize + _PROBABILITY.itemsize)


def blocks_in(folder: Path) -> list[Block]:
    """Return the complete blocks in a folder, by store and position."""
    found = [Block(**json.loads(path.read_text("utf-8"))) for path in folder.glob("*.json") if _is_block(path)]
    return sorted(found, key=lambda block: (block.store, block.first))


def _is_block(path: Path) -> bool:
    return path.with_suffix(_SUFFIXES[0]).is_file() and path.with_suffix(_SUFFIXES[1]).is_file()


def stores(data: Path) -> dict[str, Path]:
    """Return the target files of a data folder that hold tokens: name -> prefix, without suffix.

    Folders that are views of one pool share one store, the pool.
    """
    return {store_of(data, folder): _real_prefix(folder) for folder in data_folders(data)}


def store_of(data: Path, folder: Path) -> str:
    """Return the name of the store that a folder of `data_folders(data)` reads its targets from."""
    relative = _real_prefix(folder).parent.relative_to(data.resolve())
    return str(relative) if relative.parts else "train"


def _real_prefix(folder: Path) -> Path:
    name = data_prefix(folder, "train", "target").name
    return (folder / f"{name}.bin").resolve().with_name(name)


class StoredRows:
    """The rows of one store, over all of its blocks."""

    def __init__(self, folders: Iterable[Path], store: str, pieces: int) -> None:
        """Map the blocks of a store.

        Args:
            folders: The output folders of the tasks of `soften`.
            store: Name of the store, from `store_of`.
            pieces: Number of positions in the data.

        Raises:
            IncompleteArtifact: The blocks do not cover every position exactly once.
        """
        found = sorted(
            ((block, folder) for folder in folders for block in blocks_in(folder) if block.store == store),
            key=lambda item: item[0].first,
        )
        self._starts: list[int] = []
        self._rows: list[tuple[NDArray[Any], NDArray[Any]]] = []
        end = 0
        for block, folder in found:
            if block.first != end:
                raise IncompleteArtifact(f"The distributions of {store} lack positions {end} to {block.first}.")
            self._starts.append(block.first)
            self._rows.append(block.rows(folder))
            end += block.pieces
        if end != pieces:
            raise IncompleteArtifact(f"The distributions of {store} cover {end} of {pieces} positions.")

    def __call__(self, position: int, length: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return ids and probabilities, each [length, top], of a sentence that begins at a position."""
        number = bisect_right(self._starts, position) - 1
        start = position - self._starts[number]
        ids, probabilities = self._rows[number]
        return ids[start : start + length], probabilities[start : start + length]

    @property
    def top(self) -> int:
        """Return the number of tokens at each position."""
        return int(self._rows[0][0].shape[1])


class FolderDistributions:
    """The distributions of one data folder's training sentences, by fairseq's sentence numbers."""

    def __init__(self, data: Path, folder: Path, stored: Sequence[Path]) -> None:
        """Open the rows for one of `data_folders(data)`; `stored`: the output folders of the tasks of `soften`."""
        reader = IndexedReader(data_prefix(folder, "train", "target"))
        self._sizes = reader.sizes
        self._offsets = reader.offsets
        self._itemsize = reader.dtype.itemsize
        pieces = IndexedReader(_real_prefix(folder)).pieces
        self._rows = StoredRows(stored, store_of(data, folder), pieces)

    def batch(self, sentences: Sequence[int], width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids and probabilities, [sentences, width, top], padded on the right with id 0 and probability 0."""
        ids = np.zeros((len(sentences), width, self._rows.top), dtype=np.int64)
        probabilities = np.zeros(ids.shape, dtype=np.float32)
        for row, sentence in enumerate(sentences):
            length = int(self._sizes[sentence])
            here = self._rows(int(self._offsets[sentence]) // self._itemsize, length)
            ids[row, :length], probabilities[row, :length] = here
        return ids, probabilities
