"""Virtual epochs of a multilingual corpus: data folders that hold a balanced share of each language pair.

Sentence pairs are encoded once, into a pool. An epoch is an index into the pool: a repetition of a pair costs twelve
bytes per side, without a copy of its text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from kd.base.errors import UserError
from kd.base.processes import Tick
from kd.corpora.balance import Size, plan_round, shares
from kd.corpora.shards import Corpus
from kd.engines.fairseq.binary import data_folder, data_prefix, write_view
from kd.engines.fairseq.encoding import SIDES, Encoded, Encoding, encode_groups
from kd.recipe.schema import BalanceConfig

POOL = "pool"  # folder


@dataclass(frozen=True)
class Balanced:
    """The size of a group and its share of the training."""

    pairs: int  # encoded, each counted once
    target: int  # their target tokens
    too_long: int  # pairs left out
    pair_share: float  # of the pairs drawn
    token_share: float  # of the target tokens drawn
    repetitions: float  # in a round of all virtual epochs

    def epochs(self, target_tokens: float) -> float:
        """Return how often a training on `target_tokens` passes over the group."""
        return target_tokens * self.token_share / max(1, self.target)


def encode_balanced(
    groups: Mapping[str, Sequence[Corpus]],
    out: Path,
    encoding: Encoding,
    balance: BalanceConfig,
    *,
    epoch_pairs: int,
    workers: int = 1,
    progress: Tick = lambda _: None,
) -> tuple[list[Encoded], dict[str, Balanced]]:
    """Write the split `train` of one data folder for each virtual epoch of a round of `plan_round`.

    Returns:
        The counts of each folder, and the size and share of each group.

    Raises:
        UserError: A group has no pair that is short enough, or a share is not valid.
        Damaged: As in `encode_corpora`.
    """
    encoded = encode_groups(groups, out / POOL, encoding, workers=workers, progress=progress)
    for group, found in encoded.items():
        if not found.pairs:
            raise UserError(f"No pair of {group} is short enough to train on.", "Raise encode.max_pieces.")
    sizes = {group: Size(found.pairs, found.target) for group, found in encoded.items()}
    drawn = plan_round(shares(balance, sizes), sizes, epoch_pairs)
    starts = dict(zip(sizes, accumulate((size.pairs for size in sizes.values()), initial=0), strict=False))
    folders = []
    for number in range(drawn.epochs):
        runs = [
            run
            for group, parts in drawn.drawn.items()
            for run in _runs(starts[group], sizes[group].pairs, *parts[number])
        ]
        folders.append(_write_epoch(data_folder(out, number), out / POOL, runs))
    return folders, _told(encoded, drawn.repetitions(sizes))


def as_they_are(encoded: Mapping[str, Encoded], passes: int) -> dict[str, Balanced]:
    """Return the sizes and shares of groups without balancing; `encoded` counts all passes over them."""
    once = {
        group: Encoded(found.pairs // passes, found.source // passes, found.target // passes, found.too_long // passes)
        for group, found in encoded.items()
    }
    return _told(once, dict.fromkeys(once, float(passes)))


def _runs(start: int, pairs: int, at: int, count: int) -> list[tuple[int, int]]:
    """Return runs of the pool: `count` pairs of a group from its `at`-th pair on, wrapping around at its end."""
    runs = []
    while count:
        length = min(count, pairs - at)
        runs.append((start + at, length))
        count -= length
        at = 0
    return runs


def _write_epoch(folder: Path, pool: Path, runs: Sequence[tuple[int, int]]) -> Encoded:
    folder.mkdir(exist_ok=True)
    pieces = [write_view(data_prefix(folder, "train", side), data_prefix(pool, "train", side), runs) for side in SIDES]
    return Encoded(sum(count for _, count in runs), *pieces)


def _told(encoded: Mapping[str, Encoded], repetitions: Mapping[str, float]) -> dict[str, Balanced]:
    pairs = {group: found.pairs * repetitions.get(group, 0) for group, found in encoded.items()}
    pieces = {group: found.target * repetitions.get(group, 0) for group, found in encoded.items()}
    return {
        group: Balanced(
            found.pairs,
            found.target,
            found.too_long,
            pairs[group] / max(1, sum(pairs.values())),
            pieces[group] / max(1, sum(pieces.values())),
            repetitions.get(group, 0),
        )
        for group, found in encoded.items()
    }
