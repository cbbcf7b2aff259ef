"""Divide a multilingual training among language pairs: by size, by temperature, by UniMax, or by given weights.

A small language is seen too rarely if shares are proportional to size, and too often if they are equal. Each method
yields, for each group (a language pair), its share of the drawn pairs and its number of repetitions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

from kd.base.errors import UserError
from kd.recipe.schema import BalanceConfig, BalanceMethod

LONGEST_ROUND = 64  # virtual epochs
_WHOLE = 0.999  # of a group: all of it but for what rounding leaves out


@dataclass(frozen=True)
class Size:
    """The size of a group."""

    pairs: int
    pieces: int  # of the target side, ends of sentence included


def shares(config: BalanceConfig, sizes: Mapping[str, Size]) -> dict[str, float]:
    """Return each group's share of the pairs that are drawn. The shares add up to 1.

    Raises:
        UserError: The groups in the weights differ from those in `sizes`.
    """
    pairs = {group: float(size.pairs) for group, size in sizes.items()}
    if config.method is BalanceMethod.temperature:
        return _normalised(temperature(pairs, config.temperature))
    if config.method is BalanceMethod.unimax:
        # The paper counts characters. Here pieces are counted, in which the length of a training is stated.
        pieces = {group: float(size.pieces) for group, size in sizes.items()}
        seen = unimax(pieces, float(config.budget), config.max_epochs)
        return _normalised({group: seen[group] / pieces[group] * pairs[group] for group in pairs})
    if config.method is BalanceMethod.weights:
        check_weights(config.weights, sizes)
        return _normalised(config.weights)
    return _normalised(pairs)


def check_weights(weights: Mapping[str, float], groups: Collection[str]) -> None:
    """Raise UserError if the groups in the weights differ from `groups`."""
    if set(weights) != set(groups):
        raise UserError(
            f"encode.balance.weights has {', '.join(sorted(weights)) or 'nothing'}, but the language pairs are "
            f"{', '.join(sorted(groups))}.",
            "Give each language pair a weight, and nothing else.",
        )


def temperature(sizes: Mapping[str, float], value: float) -> dict[str, float]:
    """Return shares by size to the power of 1/T (Arivazhagan et al., 2019, section 4, with T = 5)."""
    return _normalised({group: size ** (1 / value) for group, size in sizes.items()})


def unimax(sizes: Mapping[str, float], budget: float, max_epochs: float) -> dict[str, float]:
    """Return the amount seen of each group: equal parts of the budget, but no group more than `max_epochs` times.

    Algorithm 1 of Chung et al. (2023), UniMax: Fairer and More Effective Language Sampling. `sizes`, `budget` and the
    result have the same unit.
    """
    seen = {}
    left = budget
    for place, group in enumerate(sorted(sizes, key=lambda group: sizes[group])):
        seen[group] = min(left / (len(sizes) - place), max_epochs * sizes[group])
        left -= seen[group]
    return {group: seen[group] for group in sizes}


@dataclass(frozen=True)
class Round:
    """The virtual epochs that a training repeats.

    Attributes:
        drawn: For each group and epoch, the position of the first pair and the number of pairs. A group continues at
            its first pair after its last one, so a round draws each pair equally often, give or take one.
    """

    drawn: Mapping[str, tuple[tuple[int, int], ...]]

    @property
    def epochs(self) -> int:
        """Return the number of virtual epochs."""
        return len(next(iter(self.drawn.values())))

    def repetitions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
        """Return how often a round repeats each group."""
        return {group: sum(count for _, count in parts) / sizes[group].pairs for group, parts in self.drawn.items()}


def plan_round(share: Mapping[str, float], sizes: Mapping[str, Size], epoch_pairs: int) -> Round:
    """Divide a training into virtual epochs of `epoch_pairs` pairs, or fewer if the corpus is smaller.

    A round has enough epochs for the least drawn group to be seen completely. It has more if that brings the
    repetitions of every group nearer to a whole number: otherwise some pairs of a group would be seen more often in
    every round.
    """
    size = min(epoch_pairs, sum(each.pairs for each in sizes.values()))
    rates = {group: size * part / sizes[group].pairs for group, part in share.items() if part}
    least = min(LONGEST_ROUND, math.ceil(1 / min(rates.values()) - 1e-9))
    epochs = min(range(least, min(LONGEST_ROUND, 4 * least) + 1), key=lambda count: (_unevenness(rates, count), count))
    drawn = {}
    for group, rate in rates.items():
        # The ends are rounded, not the sizes, so that no pair is lost over a round.
        ends = [round(place * rate * sizes[group].pairs) for place in range(epochs + 1)]
        drawn[group] = tuple((begin % sizes[group].pairs, end - begin) for begin, end in pairwise(ends))
    return Round(drawn)


def in_words(balance: Mapping[str, Mapping[str, float]], target_tokens: float) -> list[str]:
    """Describe in sentences how much of each group a training will see.

    Args:
        balance: For each group its target pieces (`target`), its share of the drawn pieces (`token_share`), and its
            repetitions per round (`repetitions`), below 1 if even the longest round cannot hold the group.
        target_tokens: Target pieces of the training.
    """
    lines = []
    for group, each in balance.items():
        part = min(1.0, each["repetitions"])
        if each["target"] * part:
            epochs = target_tokens * each["token_share"] / (each["target"] * part)
            line = f"{group}: {each['token_share']:.1%} of target tokens, {epochs:.2f} epochs of "
            all_of_it = f"{each['pairs']:,} pairs"
            lines.append(line + (all_of_it if part > _WHOLE else _without_the_rest(each["pairs"] * part, all_of_it)))
    return lines


def _without_the_rest(pairs: float, of: str) -> str:
    return f"{pairs:,.0f} of {of} (a larger encode.folder_pairs has room for more)"


def _unevenness(rates: Mapping[str, float], epochs: int) -> float:
    """Return the largest fractional part of any group's repetitions, rounded to a percent."""
    return round(max(abs(rate * epochs - max(1, round(rate * epochs))) / (rate * epochs) for rate in rates.values()), 2)


def _normalised(values: Mapping[str, float]) -> dict[str, float]:
    total = sum(values.values())
    return {group: value / total for group, value in values.items()}
