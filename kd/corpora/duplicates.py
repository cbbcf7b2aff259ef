"""Find duplicates in a corpus of any size: hashes in buckets on disk, one bucket in memory at a time.

The first of several equal pairs is kept, whatever the number of buckets. Among 500 million pairs, the probability of
losing a pair to a collision of 64-bit hashes is below 1 %. Buckets take 16 bytes and one bit for each pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.corpora.filters.words import bare
from kd.corpora.lines import PathLike
from kd.recipe.schema import DuplicatesConfig, SameBy

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY_BYTES = 8
BUCKET_PAIRS = 1 << 20  # in memory at once: 40 MB while they are sorted
MOST_BUCKETS = 1 << 12


def key_function(config: DuplicatesConfig, language: str = "") -> Callable[[str, str], bytes]:
    """Return a function from a pair to the 8 bytes that equal pairs of one `language` share."""
    blake2b = partial(hashlib.blake2b, digest_size=KEY_BYTES, key=language.encode()[:64])
    texts: dict[SameBy, Callable[[str, str], str]] = {
        SameBy.pair: lambda source, target: f"{source}\n{target}",
        SameBy.source: lambda source, target: source,
        SameBy.target: lambda source, target: target,
    }
    text_of = texts[SameBy(config.by)]
    if config.normalised:
        return lambda source, target: blake2b(text_of(_normalised(source), _normalised(target)).encode()).digest()
    return lambda source, target: blake2b(text_of(source, target).encode()).digest()


def _normalised(text: str) -> str:
    return bare(text) or text  # a row of dashes is not equal to a row of dots


class DuplicateFinder:
    """Collect the keys of all pairs in order, then find the keys that repeat earlier ones.

    Args:
        folder: Folder for the buckets.
        expected: Upper estimate of the number of pairs.
        buckets: Number of buckets; by default derived from `expected`.
    """

    def __init__(self, folder: PathLike, expected: int, buckets: int | None = None) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pairs = 0
        self._buckets = buckets or max(1, min(MOST_BUCKETS, -(-expected // BUCKET_PAIRS)))

    def add(self, keys: bytes) -> None:
        """Take the keys of the next pairs, 8 bytes each."""
        import numpy

        values = numpy.frombuffer(keys, dtype=">u8").astype(numpy.uint64)
        rows = numpy.empty((len(values), 2), dtype=numpy.uint64)
        rows[:, 0] = values
        rows[:, 1] = numpy.arange(self.pairs, self.pairs + len(values), dtype=numpy.uint64)
        self.pairs += len(values)
        # The bucket is the key's upper 32 bits scaled to the number of buckets, which need not be a power of two.
        bucket = ((values >> numpy.uint64(32)) * numpy.uint64(self._buckets)) >> numpy.uint64(32)
        order = numpy.argsort(bucket, kind="stable")
        ends = numpy.searchsorted(bucket[order], numpy.arange(self._buckets, dtype=numpy.uint64), side="right")
        start = 0
        for number, end in enumerate(ends.tolist()):
            if end > start:
                with self._path(number).open("ab") as file:
                    rows[order[start:end]].tofile(file)
            start = end

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.keys"

    def find(self) -> Verdicts:
        """Find the duplicates in each bucket, and remove the bucket."""
        verdicts = Verdicts(self.folder / "duplicates.bits", self.pairs)
        bits = verdicts.create()
        for number in range(self._buckets):
            if self._path(number).exists():
                again = _repeated(self._path(number))
                self._path(number).unlink()
                verdicts.found += len(again)
                _set_bits(bits, again)
        bits.flush()
        return verdicts


def _repeated(bucket: Path) -> NDArray[Any]:
    """Return, in ascending order, the positions of the pairs in a bucket that repeat an earlier pair."""
    import numpy

    rows = numpy.fromfile(bucket, dtype=numpy.uint64).reshape(-1, 2)
    order = numpy.argsort(rows[:, 0], kind="stable")  # equal keys stay in the order of the corpus
    keys = rows[order, 0]
    return numpy.sort(rows[order[1:][keys[1:] == keys[:-1]], 1])


def _set_bits(bits: Any, places: NDArray[Any]) -> None:
    import numpy

    if not len(places):
        return
    touched, starts = numpy.unique(places >> numpy.uint64(3), return_index=True)
    values = numpy.uint8(1) << (places & numpy.uint64(7)).astype(numpy.uint8)
    bits[touched] |= numpy.bitwise_or.reduceat(values, starts)


class Verdicts:
    """A file with one bit for each pair, set if the pair repeats an earlier one."""

    def __init__(self, path: Path, pairs: int) -> None:
        self.path = path
        self.pairs = pairs
        self.found = 0  # duplicates

    def create(self) -> Any:
        """Create the file and return its bits, all unset."""
        import numpy

        return numpy.memmap(self.path, dtype=numpy.uint8, mode="w+", shape=(self.pairs // 8 + 1,))

    def of(self, first: int, pairs: int) -> bytes:
        """Return one byte for each of `pairs` pairs, starting at a 0-based position: 1 for a duplicate, else 0."""
        import numpy

        start, end = first // 8, (first + pairs) // 8 + 1
        bits = numpy.fromfile(self.path, dtype=numpy.uint8, count=end - start, offset=start)
        return numpy.unpackbits(bits, bitorder="little")[first % 8 :][:pairs].tobytes()
