"""fairseq's memory-mapped corpora (`--dataset-impl mmap`), written and read with numpy alone, without fairseq or torch.

`NAME.bin` holds the ids of all sentences one after the other, `NAME.idx` their lengths and byte offsets; the bytes
equal those that `fairseq-preprocess` writes for the same pieces.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.base.files import read_object, write_json

EOS = 2  # fairseq.data.Dictionary: <s> 0, <pad> 1, </s> 2, <unk> 3

_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_HEADER = struct.Struct("<9sQBQ")  # magic, version, code of the dtype, number of sentences
_CODES: dict[int, Any] = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16, 9: np.uint32}
_CHUNK = 1 << 20  # sentences of the index in memory at a time
RUNS = "train.pairs.json"  # of a data folder of several language pairs
_COPIED = 1 << 20  # bytes of a part in memory at a time


def data_prefix(folder: Path, split: str, side: str) -> Path:
    """Return the path, without suffix, that `fairseq-train` expects for a side (source) of a split (train)."""
    return folder / f"{split}.source-target.{side}"


def data_folder(path: Path, number: int) -> Path:
    """Return the folder of one part of the training pairs in a data folder with several parts; `number` counts from 0.

    The first part is in the data folder itself, with the dev set and the dictionaries, as fairseq expects.
    """
    return path if number == 0 else path / f"folder-{number + 1:04d}"


def data_folders(path: Path) -> tuple[Path, ...]:
    """Return the parts of a data folder in order. Joined by `:`, they are the epochs of `fairseq-train`.

    Raises:
        ValueError: A part is missing between others.
    """
    numbers = sorted(int(folder.name.removeprefix("folder-")) for folder in path.glob("folder-[0-9]*"))
    if numbers != list(range(2, len(numbers) + 2)):
        raise ValueError(f"{path} has the folders {numbers}, but some before the last are missing.")
    return tuple(data_folder(path, number) for number in range(len(numbers) + 1))


def best_dtype(vocabulary_size: int) -> np.dtype:
    """Return the integer type in which fairseq stores ids (`fairseq.data.indexed_dataset.best_fitting_int_dtype`)."""
    if vocabulary_size < 65500:
        return np.dtype(np.uint16)
    if vocabulary_size < 4294967295:
        return np.dtype(np.uint32)
    return np.dtype(np.int64)


class IndexedWriter:
    """Write `PREFIX.bin`, and `PREFIX.idx` when it is closed without an error. Memory does not grow with the corpus.

    With a prefix such as `data/train.source-target.source`, `fairseq-train` reads the folder.
    """

    def __init__(self, prefix: Path, vocabulary_size: int) -> None:
        self.prefix = prefix
        self.sentences = 0
        self.pieces = 0  # ends of sentence included
        self._dtype = best_dtype(vocabulary_size)
        self._vocabulary_size = vocabulary_size
        self._sizes_path = _with_suffix(prefix, ".sizes.tmp")
        self._bin = _with_suffix(prefix, ".bin").open("wb")
        self._sizes = self._sizes_path.open("wb")

    def write(self, sentences: Sequence[Sequence[int]]) -> None:
        """Append sentences, each a sequence of fairseq ids without the end of sentence, which is added.

        Raises:
            ValueError: An id is not in the vocabulary.
        """
        sizes = np.fromiter((len(sentence) + 1 for sentence in sentences), dtype=np.int32, count=len(sentences))
        ended = chain.from_iterable(chain(sentence, (EOS,)) for sentence in sentences)
        self.write_array(np.fromiter(ended, dtype=np.int64, count=int(sizes.sum())), sizes)

    def write_array(self, ids: NDArray[Any], sizes: NDArray[Any]) -> None:
        """Append sentences.

        Args:
            ids: The ids of all sentences, ends included.
            sizes: The number of ids of each sentence.

        Raises:
            ValueError: An id is not in the vocabulary, or the sizes do not add up.
        """
        if int(sizes.sum(dtype=np.int64)) != len(ids):
            raise ValueError(f"The sizes of {len(sizes)} sentences do not add up to {len(ids)} pieces.")
        if len(ids) and (int(ids.max()) >= self._vocabulary_size or int(ids.min()) < 0):
            raise ValueError(f"An id is outside the vocabulary of {self._vocabulary_size} pieces.")
        self._bin.write(np.ascontiguousarray(ids, dtype=self._dtype).data)
        self._sizes.write(np.ascontiguousarray(sizes, dtype=np.int32).data)
        self._count(len(sizes), len(ids))

    def append(self, part: Path) -> None:
        """Append the files of another writer and remove them.

        Args:
            part: The prefix of the other writer, which was closed by `leave`.
        """
        data, sizes = _with_suffix(part, ".bin"), _with_suffix(part, ".sizes.tmp")
        self._count(sizes.stat().st_size // 4, data.stat().st_size // self._dtype.itemsize)
        for path, file in ((data, self._bin), (sizes, self._sizes)):
            with path.open("rb") as opened:
                shutil.copyfileobj(opened, file, _COPIED)
            path.unlink()

    def leave(self) -> None:
        """Close both files without an index, for another writer to `append`."""
        self._bin.close()
        self._sizes.close()

    def _count(self, sentences: int, pieces: int) -> None:
        self.sentences += sentences
        self.pieces += pieces

    def close(self) -> None:
        """Close both files and write the index, without which fairseq cannot find the data."""
        self.leave()
        index = _with_suffix(self.prefix, ".idx")
        with index.open("wb") as out:
            code = next(code for code, dtype in _CODES.items() if np.dtype(dtype) == self._dtype)
            out.write(_HEADER.pack(_MAGIC, _VERSION, code, self.sentences))
            for sizes in self._stored_sizes():
                out.write(sizes.tobytes())
            address = 0
            for sizes in self._stored_sizes():
                ends = address + np.cumsum(sizes.astype(np.int64) * self._dtype.itemsize)
                out.write(np.concatenate(([address], ends[:-1])).astype(np.int64).tobytes())
                address = int(ends[-1])
        self._sizes_path.unlink()

    def _stored_sizes(self) -> Iterable[NDArray[np.int32]]:
        with self._sizes_path.open("rb") as file:
            while chunk := file.read(4 * _CHUNK):
                yield np.frombuffer(chunk, dtype=np.int32)

    def __enter__(self) -> IndexedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.leave()
            self._sizes_path.unlink(missing_ok=True)


class IndexedReader:
    """Read the files of `IndexedWriter` or `fairseq-preprocess`. `sizes`: tokens per sentence, end included.

    Raises:
        ValueError: The files have another format or are truncated.
    """

    def __init__(self, prefix: Path) -> None:
        index, data = _with_suffix(prefix, ".idx"), _with_suffix(prefix, ".bin")
        with index.open("rb") as file:
            header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or header[:9] != _MAGIC:
            raise ValueError(f"{index} is not an index of fairseq's mmap format.")
        _, version, code, count = _HEADER.unpack(header)
        if version != _VERSION or code not in _CODES:
            raise ValueError(f"{index} has version {version} and dtype code {code}, which kd does not read.")
        if index.stat().st_size != _HEADER.size + 12 * count:
            raise ValueError(f"{index} should be {_HEADER.size + 12 * count} bytes long for its {count} sentences.")
        self.dtype = np.dtype(_CODES[code])
        self.sizes: NDArray[np.int32] = _mapped(index, np.int32, count, _HEADER.size)
        self.offsets: NDArray[np.int64] = _mapped(index, np.int64, count, _HEADER.size + 4 * count)
        # Ends of sentence included. From the last sentence, since adding up all sizes would read them into memory.
        self.pieces = int(self.offsets[-1]) // self.dtype.itemsize + int(self.sizes[-1]) if count else 0
        if data.is_symlink():  # a view: see `write_view`
            self.pieces = int(self.sizes.sum(dtype=np.int64))
            if (
                count
                and int((self.offsets + self.dtype.itemsize * self.sizes.astype(np.int64)).max()) > data.stat().st_size
            ):
                raise ValueError(f"{data} ends before sentences that its index lists.")
        elif data.stat().st_size != self.pieces * self.dtype.itemsize:
            raise ValueError(f"{data} should hold {self.pieces} pieces, as its index states.")
        self._data: NDArray[Any] = _mapped(data, self.dtype, data.stat().st_size // self.dtype.itemsize, 0)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, position: int) -> NDArray[np.int64]:
        """Return the ids of a sentence, its end included."""
        start = int(self.offsets[position]) // self.dtype.itemsize
        return np.asarray(self._data[start : start + int(self.sizes[position])], dtype=np.int64)


def write_view(prefix: Path, pool: Path, parts: Sequence[tuple[int, int]]) -> int:
    """Write `PREFIX.idx` for sentences of `pool`, and a link to the pool's `.bin`: repetitions are stored once.

    fairseq finds sentences by the byte offsets in its index alone, so an index may hold a sentence any number of times.
    Memory does not grow with their number.

    Args:
        prefix: Prefix of the files to write.
        pool: Prefix of the files that hold the sentences.
        parts: The sentences to include, as ranges in order: first sentence and number of sentences.

    Returns:
        The number of tokens, ends included.
    """
    reader = IndexedReader(pool)
    runs = [
        (at, min(at + _CHUNK, first + count)) for first, count in parts for at in range(first, first + count, _CHUNK)
    ]
    code = next(code for code, dtype in _CODES.items() if np.dtype(dtype) == reader.dtype)
    pieces = 0
    with _with_suffix(prefix, ".idx").open("wb") as out:
        out.write(_HEADER.pack(_MAGIC, _VERSION, code, sum(count for _, count in parts)))
        for begin, end in runs:
            out.write(reader.sizes[begin:end].tobytes())
            pieces += int(reader.sizes[begin:end].sum(dtype=np.int64))
        for begin, end in runs:
            out.write(reader.offsets[begin:end].tobytes())
    link, data = _with_suffix(prefix, ".bin"), _with_suffix(pool, ".bin")
    link.symlink_to(os.path.relpath(data, link.parent))  # folders of artifacts are renamed: no absolute path holds
    return pieces


def write_runs(folder: Path, runs: Iterable[tuple[str, int]]) -> None:
    """Record the language pairs of a folder's training sentences: name and length of each run of sentences."""
    joined: list[tuple[str, int]] = []
    for name, count in runs:
        if joined and joined[-1][0] == name:
            joined[-1] = (name, joined[-1][1] + count)
        else:
            joined.append((name, count))
    write_json(folder / RUNS, {"runs": joined}, durable=False)


def read_runs(folder: Path) -> list[tuple[str, int]]:
    """Return the runs that `write_runs` recorded; empty for data of one language pair."""
    path = folder / RUNS
    return [(str(name), int(count)) for name, count in read_object(path)["runs"]] if path.is_file() else []


def _with_suffix(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _mapped(path: Path, dtype: Any, count: int, offset: int) -> NDArray[Any]:
    if count == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,))
