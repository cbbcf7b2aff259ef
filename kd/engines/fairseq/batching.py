"""Choose fairseq's batch settings for a number of target tokens per update, and measure the result.

fairseq fills a micro-batch (below: a pass) up to `max_tokens`, which counts the longer side of each pair and the
padding. Therefore target tokens are measured by filling passes like fairseq
(`fairseq.data.data_utils_fast.batch_by_size_vec`, version 0.12.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.base.errors import UserError

SAMPLE = 500_000  # pairs whose lengths are used; the mean of larger corpora is then known to about 1 %
_MULTIPLE = 8  # fairseq's --required-batch-size-multiple


class JoinedLengths:
    """The lengths of the pairs of several data folders as one array, which stays on disk."""

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def max(self) -> int:
        """Return the largest length."""
        return max(int(part.max()) for part in self._parts if len(part))

    def __getitem__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lengths at these positions, which must be in ascending order."""
        owners = np.searchsorted(self._ends, places, side="right")
        starts = self._ends - [len(part) for part in self._parts]
        found = [part[places[owners == owner] - starts[owner]] for owner, part in enumerate(self._parts)]
        return np.concatenate(found).astype(np.int64)


Lengths = NDArray[Any] | JoinedLengths


@dataclass(frozen=True)
class BatchPlan:
    """fairseq's settings, and the resulting target tokens per update."""

    max_tokens: int  # --max-tokens: tokens of the longer side in one pass of one device, padding included
    update_freq: int  # --update-freq: passes of a device per update
    world_size: int  # devices
    wanted: int  # target tokens per update
    target_tokens: float  # measured mean per update, with ends of sentences, without padding
    updates_per_epoch: float
    note: str  # one sentence for the user
    derivation: str  # how the number of passes was computed, for the user

    @property
    def deviation(self) -> float:
        """Return the deviation of the measured mean from the setting, as a share of the setting."""
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
    """Return the settings whose mean target tokens per update are nearest to `target_tokens`.

    An update has as few passes as memory allows; the passes are then made as small as possible. A pass is at least as
    large as the longest sentence, since fairseq leaves out sentences that do not fit.

    Args:
        source: Number of tokens of each source, end of sentence included.
        target: Number of tokens of each target, end of sentence included.
        target_tokens: Target tokens per update.
        max_tokens: Largest number of tokens in a pass, padding included.
        world_size: Number of devices.
        max_pieces: Longest sentence without its end symbol; None: the longest of the corpus.
        sample: Number of pairs whose lengths are used.

    Raises:
        UserError: `max_tokens` is less than the longest sentence, or there are no pairs.
    """
    if len(source) == 0:
        raise UserError(
            "There are no pairs to train on.", "The tables of clean and encode show why pairs were left out."
        )
    longest = int(max(source.max(), target.max()))
    smallest = longest if max_pieces is None else max(longest, max_pieces + 1)
    if max_tokens < smallest:
        raise UserError(
            f"batch.max_tokens is {max_tokens}, but the longest sentence has {smallest} pieces.",
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
            f"{update_freq} {'pass' if update_freq == 1 else 'passes'} per device and update"
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
        """Return the mean target tokens of one device's pass."""
        return self.total / passes(self._longer, max_tokens)

    def tokens_per_update(self, max_tokens: int, update_freq: int) -> float:
        """Return the mean target tokens of an update; the smaller last update counts, unless lengths are a sample."""
        count = passes(self._longer, max_tokens)
        if self.scale > 1:
            return self.total / count * self._world_size * update_freq
        return self.total / math.ceil(math.ceil(count / self._world_size) / update_freq)


def _nearest(corpus: _Sample, update_freq: int, wanted: int, smallest: int, largest: int) -> tuple[int, float]:
    """Return the pass size between two bounds whose tokens per update are nearest to `wanted`, and their number."""
    tried = {size: corpus.tokens_per_update(size, update_freq) for size in (smallest, largest)}
    low, high = smallest, largest
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = corpus.tokens_per_update(middle, update_freq)
        low, high = (middle, high) if tried[middle] < wanted else (low, middle)
    best = min(tried, key=lambda size: (abs(tried[size] - wanted), size))
    return best, tried[best]


def passes(longer: list[int], max_tokens: int) -> int:
    """Return the number of passes that fairseq makes; each has fewer than 8 pairs or a multiple of 8.

    Args:
        longer: Tokens of the longer side of each pair, in fairseq's order.
        max_tokens: Largest number of tokens in a pass.
    """
    count = 0  # finished passes
    start = end = 0  # the open pass is [start, end); pairs after it wait for a full multiple
    widest = waiting = 0  # longest sentence of the open pass, and of the waiting pairs
    for here, length in enumerate(longer):
        waiting = max(waiting, length)
        both = max(widest, waiting)
        pairs = here + 1 - start
        overflow = pairs * both > max_tokens
        if overflow:
            if waiting * (here + 1 - end) > max_tokens:  # the waiting pairs become a pass of their own
                count += 1
                end = here
                waiting = length
            start = end
            count += 1
            both = waiting
        if overflow or pairs < _MULTIPLE or pairs % _MULTIPLE == 0:
            end = here + 1
            widest, waiting = both, 0
    return count + 1 + (end < len(longer))  # the open pass, and one for the pairs that still wait


def _made_to_fit(size: int, largest: int, deviation: float) -> str:
    """Describe how the size of passes was adapted."""
    if size == largest:
        return f", as large as allowed ({deviation:+.1%})"
    return f", each made smaller, {size:,} pieces, to come near the setting ({deviation:+.1%})"


def _note(size: int, freq: int, world_size: int, wanted: int, measured: float, smallest: int, largest: int) -> str:
    """Describe the target tokens of an update, and why they differ from the setting."""
    devices = f"{world_size} devices" if world_size > 1 else "1 device"
    seen = f"{measured:,.0f} target tokens per update ({wanted:,} set)"
    text = f"{seen}: {devices} x {freq} passes of at most {size:,} tokens"
    if abs(measured / wanted - 1) <= 0.02:
        return text + "."
    if measured > wanted and size == smallest:
        return text + f", and no pass can be smaller, because the longest sentence has {smallest:,} pieces."
    if size == largest:
        return text + ", and no pass can be larger (batch.max_tokens)."
    return text + ", and passes grow in steps of 8 sentences."
