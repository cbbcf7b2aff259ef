"""Batches of decoding and scoring: filled up to a number of tokens, and halved where they do not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from kd.base.errors import UserError
from kd.engines.hypotheses import Counts

T = TypeVar("T")
R = TypeVar("R")


def batches(items: Sequence[T], length: Callable[[T], int], batch_tokens: int) -> Iterator[list[T]]:
    """Yield batches of items sorted by descending length.

    A batch has at most `batch_tokens` tokens, padding included; a longer item is a batch of its own.
    """
    start = 0
    while start < len(items):
        size = max(1, batch_tokens // length(items[start]))
        yield list(items[start : start + size])
        start += size


def halving(work: Callable[[list[T]], list[R]], batch: list[T], counts: Counts) -> list[R]:
    """Return `work(batch)`; if the batch does not fit into the GPU's memory, process its halves in turn.

    Raises: UserError if a single item does not fit.
    """
    import torch

    try:
        return work(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise UserError(
                "A single sentence does not fit into the GPU's memory.",
                "Set decode.beam, decode.max_pieces or decode.max_source_pieces lower.",
            ) from None
    # After the handler, because the exception's traceback keeps the tensors alive.
    torch.cuda.empty_cache()
    counts.halved += 1
    middle = len(batch) // 2
    return halving(work, batch[:middle], counts) + halving(work, batch[middle:], counts)
