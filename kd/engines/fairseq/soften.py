"""Compute the teachers' token distributions of an encoded corpus and store them (`distributions.py`).

Each block of sentences is computed at once, sorted by length into batches, and written in the order of the corpus. One
forward pass of each member gives the distributions of all positions, since the target is known.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.base.errors import IncompleteArtifact
from kd.base.processes import Tick
from kd.engines.fairseq.binary import EOS, IndexedReader, read_runs
from kd.engines.fairseq.distributions import Block, stores
from kd.models.matching import read_dictionary
from kd.models.vocabulary import SPECIAL

if TYPE_CHECKING:
    from torch import Tensor

_LOGITS = 32_000_000  # numbers of the output layer in memory at once: 128 MB in float32
_PAD = SPECIAL.index("<pad>")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Softening:
    """The settings for computing distributions."""

    data: Path  # an encoded corpus
    teachers: Mapping[str, tuple[Path, ...]]  # model folders by language pair; of one pair under any name
    dictionary: Path
    top: int
    temperature: float
    batch_tokens: int  # target pieces of a batch, padding included
    device: str = "cpu"
    threads: int = 1
    tags: bool = False  # whether sources begin with a tag of the target language that the teachers do not know

    def teachers_of(self, pair: str) -> tuple[Path, ...]:
        """Return the teachers of a language pair; `pair` is empty in data of one pair."""
        (only, *others) = self.teachers.values()
        return only if not (pair or others) else self.teachers[pair]

    @property
    def vocabulary(self) -> int:
        """The number of symbols, special ones included."""
        return len(SPECIAL) + len(read_dictionary(self.dictionary))


@dataclass(frozen=True)
class Part:
    """A run of sentences of one store; it becomes one block."""

    target: Path  # prefix of the store's targets
    first: int  # sentence
    count: int
    block: Block
    pair: str = ""  # language pair, in data of several

    @property
    def source(self) -> Path:
        """The path prefix of the source files."""
        return self.target.with_name(self.target.name.removesuffix(".target") + ".source")


def parts(softening: Softening, worker: int, workers: int, shard: int) -> list[Part]:
    """Return one worker's parts: an equal share of each store, cut every `shard` sentences.

    Each part has sentences of one language pair.
    """
    vocabulary = softening.vocabulary
    found = []
    for store, prefix in stores(softening.data).items():
        reader = IndexedReader(prefix)
        begin, end = (len(reader) * number // workers for number in (worker, worker + 1))
        for pair, first, count in _spans(read_runs(prefix.parent), begin, end, shard):
            position = int(reader.offsets[first]) // reader.dtype.itemsize
            pieces = int(reader.sizes[first : first + count].sum(dtype=np.int64))
            found.append(Part(prefix, first, count, Block(store, position, pieces, softening.top, vocabulary), pair))
    return found


def _spans(runs: Sequence[tuple[str, int]], begin: int, end: int, most: int) -> Iterator[tuple[str, int, int]]:
    """Yield language pair, first sentence and number of sentences for the spans from `begin` to `end`."""
    start = 0
    for pair, count in runs or [("", end)]:
        first, last = max(begin, start), min(end, start + count)
        for at in range(first, last, most):
            yield pair, at, min(most, last - at)
        start += count


def is_done(part: Part, folder: Path) -> bool:
    """Return whether a folder has a part's intact block; a damaged block is computed again."""
    if not (folder / f"{part.block.name}.json").is_file():
        return False
    try:
        part.block.check(folder)
    except IncompleteArtifact as error:
        _LOG.warning("Computed again: %s", error)
        return False
    return True


class Softener:
    """Compute parts with the teachers of their language pair, which are loaded when needed."""

    def __init__(self, softening: Softening) -> None:
        """Store the settings; models are loaded later."""
        import torch

        torch.set_num_threads(softening.threads)
        self._softening = softening
        self._loaded: tuple[Path, ...] = ()
        self._models: list[Any] = []

    def _load(self, pair: str) -> None:
        from kd.engines.fairseq.model import load_models

        wanted = self._softening.teachers_of(pair)
        if wanted != self._loaded:
            self._models = []  # frees their memory first
            self._models, _ = load_models(wanted, self._softening.device)
            self._loaded = wanted

    def write(self, part: Part, folder: Path, tick: Tick) -> None:
        """Compute a part and write its block; `tick` counts sentences."""
        self._load(part.pair)
        source, target = IndexedReader(part.source), IndexedReader(part.target)
        sentences = range(part.first, part.first + part.count)
        sizes = [int(target.sizes[sentence]) for sentence in sentences]
        starts = np.cumsum([0, *sizes])
        ids = np.zeros((int(starts[-1]), self._softening.top), dtype=np.int64)
        probabilities = np.zeros(ids.shape, dtype=np.float32)
        for batch in self._batches(source, target, sentences):
            rows = self._top([source[each] for each in batch], [target[each] for each in batch])
            for number, sentence in enumerate(batch):
                begin, end = starts[sentence - part.first], starts[sentence - part.first + 1]
                ids[begin:end] = rows[0][number, : end - begin]
                probabilities[begin:end] = rows[1][number, : end - begin]
            tick(len(batch))
        part.block.write(folder, ids, probabilities)

    def _batches(self, source: IndexedReader, target: IndexedReader, sentences: range) -> Iterator[list[int]]:
        """Yield sentences of similar length, as many as `batch_tokens` and the memory of the output layer allow."""
        most = min(self._softening.batch_tokens, _LOGITS // self._softening.vocabulary)
        batch: list[int] = []
        widest = 0
        for sentence in sorted(sentences, key=lambda each: (int(target.sizes[each]), int(source.sizes[each]), each)):
            width = max(widest, int(target.sizes[sentence]), int(source.sizes[sentence]))
            if batch and width * (len(batch) + 1) > most:
                yield batch
                batch, width = [], max(int(target.sizes[sentence]), int(source.sizes[sentence]))
            batch.append(sentence)
            widest = width
        if batch:
            yield batch

    def _top(
        self, sources: Sequence[NDArray[np.int64]], targets: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the most probable tokens and their probabilities at each position, [sentences, width, top]."""
        from kd.engines.fairseq.criterion import mean_distribution
        from kd.engines.fairseq.stock import padded

        def matrix(rows: list[list[int]], left: bool) -> Tensor:
            return padded(rows, _PAD, left=left).to(self._softening.device)

        tokens = matrix([each.tolist()[int(self._softening.tags) :] for each in sources], left=True)
        net_input = {
            "src_tokens": tokens,
            "src_lengths": tokens.ne(_PAD).sum(1),
            "prev_output_tokens": matrix([[EOS, *each.tolist()[:-1]] for each in targets], left=False),
        }
        best = mean_distribution(self._models, net_input, self._softening.temperature).topk(self._softening.top, -1)
        return best.indices.cpu().numpy(), best.values.cpu().numpy()
