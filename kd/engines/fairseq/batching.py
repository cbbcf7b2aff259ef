"""How many target tokens an update really sees, and the fairseq settings that come nearest to what was wished for.

fairseq fills a pass by `max_tokens`, which counts the longer side of each pair and the padding; so target tokens are
measured here by filling passes as it does (`fairseq.data.data_utils_fast.batch_by_size_vec`, version 0.12.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.base.errors import UserError

SAMPLE = 500_000  # pairs whose lengths are looked at: of longer corpora the mean is known to about 1 %
_MULTIPLE = 8  # fairseq's --required-batch-size-multiple


class JoinedLengths:
    """The lengths of several data folders' pairs as if they were one array, left where they are: on disk."""

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def max(self) -> int:
        """The longest of all."""
        return max(int(part.max()) for part in self._parts if len(part))

    def __getitem__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The lengths at these places, which are in ascending order."""
        owners = np.searchsorted(self._ends, places, side="right")
        starts = self._ends - [len(part) for part in self._parts]
        found = [part[places[owners == owner] - starts[owner]] for owner, part in enumerate(self._parts)]
        return np.concatenate(found).astype(np.int64)


Lengths = NDArray[Any] | JoinedLengths


@dataclass(frozen=True)
class BatchPlan:
    """fairseq's settings, and what they were measured to give."""

    max_tokens: int  # --max-tokens: the longer side's pieces in one pass of one device, padding included
    update_freq: int  # --update-freq: passes a device makes before each update
    world_size: int  # devices
    wanted: int  # target tokens an update
    target_tokens: float  # measured: mean target tokens an update, ends of sentence included, padding not
    updates_per_epoch: float
    note: str  # one sentence for people
    derivation: str  # how the number of passes came about, for people

    @property
    def deviation(self) -> float:
        """How far the measured mean is from the wish, as a share of it."""
        return self.target_tokens / self.wanted - 1


def plan(
    source: Lengths,
    target: Lengths,
    *,
    target_tokens: int,
    max_tokens: int,
    world_size: int = 1,
    max_pieces: int | None = None,
    sample: int = SAMPLE,
) -> BatchPlan:
    """Settings whose mean target tokens an update come nearest to `target_tokens` within `max_tokens` a pass.

    `source` and `target` are pieces of each pair, ends of sentence included. As few passes as memory allows are made,
    each then as small as is needed. No pass is smaller than the longest sentence (`max_pieces` and its end, the longest
    of the corpus when None), for fairseq leaves out what does not fit.

    Raises: UserError where `max_tokens` is less than that, or there are no pairs.
    """
    if len(source) == 0:
        raise UserError("There are no pairs to train on.", "Look at what clean and encode left out.")
    longest = int(max(source.max(), target.max()))
    smallest = longest if max_pieces is None else max(longest, max_pieces + 1)
    if max_tokens < smallest:
        raise UserError(
            f"batch.max_tokens is {max_tokens}, and the longest sentence has {smallest} pieces.",
            f"Set batch.max_tokens to {smallest} or more, or encode.max_pieces lower.",
        )
    corpus = _Sample(source, target, world_size, sample)
    largest = corpus.tokens_per_pass(max_tokens)
    exact = target_tokens / (largest * world_size)
    update_freq = max(1, math.ceil(exact - 0.01))
    size, measured = _nearest(corpus, update_freq, target_tokens, smallest, max_tokens)
    return BatchPlan(
        max_tokens=size,
        update_freq=update_freq,
        world_size=world_size,
        wanted=target_tokens,
        target_tokens=measured,
        updates_per_epoch=corpus.total * corpus.scale / measured,
        note=_note(size, update_freq, world_size, target_tokens, measured, smallest, max_tokens),
        derivation=(
            f"Accumulation: passes of batch.max_tokens={max_tokens:,} pieces, padding included, were measured to have "
            f"{largest:,.0f} target tokens; {target_tokens:,} / ({largest:,.0f} x {world_size}) = {exact:.2f}, so "
            f"{update_freq} {'pass' if update_freq == 1 else 'passes'} a device an update"
            f"{_made_to_fit(size, max_tokens, measured / target_tokens - 1)}."
        ),
    )


class _Sample:
    """Pairs in the order in which fairseq fills its passes: by source length, then by target length."""

    def __init__(self, source: Lengths, target: Lengths, world_size: int, size: int) -> None:
        self.scale = 1.0
        # Evenly spaced in the shuffled corpus; without randomness, so that the plan is the same each time.
        chosen = np.linspace(0, len(source) - 1, min(size, len(source))).astype(np.int64)
        if len(source) > size:
            self.scale = len(source) / size
        left, right = source[chosen], target[chosen]
        order = np.lexsort((right, left))
        self._longer: list[int] = np.maximum(left, right)[order].tolist()
        self._world_size = world_size
        self.total = int(np.sum(right, dtype=np.int64))

    def tokens_per_pass(self, max_tokens: int) -> float:
        """Mean target tokens of one device's pass."""
        return self.total / passes(self._longer, max_tokens)

    def tokens_per_update(self, max_tokens: int, update_freq: int) -> float:
        """Mean target tokens of an update. An epoch's last, smaller one counts too, where lengths are not a sample."""
        count = passes(self._longer, max_tokens)
        if self.scale > 1:
            return self.total / count * self._world_size * update_freq
        return self.total / math.ceil(math.ceil(count / self._world_size) / update_freq)


def _nearest(corpus: _Sample, update_freq: int, wanted: int, smallest: int, largest: int) -> tuple[int, float]:
    """The pass size between two bounds whose tokens an update come nearest to the wish, and these tokens."""
    tried = {size: corpus.tokens_per_update(size, update_freq) for size in (smallest, largest)}
    low, high = smallest, largest
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = corpus.tokens_per_update(middle, update_freq)
        low, high = (middle, high) if tried[middle] < wanted else (low, middle)
    best = min(tried, key=lambda size: (abs(tried[size] - wanted), size))
    return best, tried[best]


def passes(longer: list[int], max_tokens: int) -> int:
    """The number of passes fairseq makes of pairs in this order; each has fewer than 8 pairs or a multiple of 8.

    `longer` holds the longer side of each pair, in pieces.
    """
    count = 0  # finished passes
    start = end = 0  # the open pass is [start, end); what follows it waits for a full multiple
    widest = waiting = 0  # longest sentence of the open pass, and of what waits
    for here, length in enumerate(longer):
        waiting = max(waiting, length)
        both = max(widest, waiting)
        pairs = here + 1 - start
        overflow = pairs * both > max_tokens
        if overflow:
            if waiting * (here + 1 - end) > max_tokens:  # what waits is too much as well: it ends as a pass of its own
                count += 1
                end = here
                waiting = length
            start = end
            count += 1
            both = waiting
        if overflow or pairs < _MULTIPLE or pairs % _MULTIPLE == 0:
            end = here + 1
            widest, waiting = both, 0
    return count + 1 + (end < len(longer))  # the open pass, and what still waits as one of its own


def _made_to_fit(size: int, largest: int, deviation: float) -> str:
    """What was done where the division does not come out even."""
    if size == largest:
        return f", as large as allowed ({deviation:+.1%})"
    return f", each made smaller, {size:,} pieces, to come near the wish ({deviation:+.1%})"


def _note(size: int, freq: int, world_size: int, wanted: int, measured: float, smallest: int, largest: int) -> str:
    """One sentence on what an update sees and why it is not exactly what was wished for."""
    devices = f"{world_size} devices" if world_size > 1 else "1 device"
    seen = f"{measured:,.0f} target tokens an update ({wanted:,} wished)"
    text = f"{seen}: {devices} x {freq} passes of at most {size:,} tokens"
    if abs(measured / wanted - 1) <= 0.02:
        return text + "."
    if measured > wanted and size == smallest:
        return text + f", and no pass can be smaller, because the longest sentence has {smallest:,} pieces."
    if size == largest:
        return text + ", and no pass can be larger (batch.max_tokens)."
    return text + ", and passes grow in steps of 8 sentences."
