"""The filter `numbers` on 300 labelled pairs of real text: precision and recall are those of docs/cleaning.md.

numbers.tsv holds the numbers of each pair, with the words of scale and of the clock beside them. The pairs were drawn
with seed 21 from ten corpora (LibreOffice in six languages, WMT news, captions), from those with a digit on a side,
in three strata of each corpus: rejected by the filter of November 2026, other sets of digits, equal sets of digits. The
weight is the size of the stratum over the pairs drawn from it. The labels are one reader's: `differ` (both sides state
numbers, and not the same ones), `one side` (a number is missing on the other side, also as a word), `converted` (into
another unit), `same`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from kd.corpora.filters import parse
from kd.corpora.filters.contract import PairFilter


@pytest.fixture(scope="module")
def rejected() -> Counter[tuple[str, bool]]:
    """Return the weight of the pairs by label and by whether the filter rejects them."""
    (setting,) = parse({"numbers": {}})
    numbers = cast(PairFilter, setting.make(("en", "de")))
    weights: Counter[tuple[str, bool]] = Counter()
    for line in Path(__file__).with_name("numbers.tsv").read_text("utf-8").split("\n")[1:-1]:
        label, weight, source, target = line.split("\t")
        reject = numbers.rejects(f"It says {' and '.join(source.split('; '))} here.", f"Hier steht {target}, dort.")
        weights[label, reject] += float(weight)  # type: ignore[assignment]
    return weights


def test_most_rejected_pairs_state_different_numbers(rejected: Counter[tuple[str, bool]]) -> None:
    all_rejected = sum(weight for (_, reject), weight in rejected.items() if reject)
    assert round(rejected["differ", True] / all_rejected, 2) == 0.85
    assert round(rejected["converted", True] / all_rejected, 2) == 0.11
    assert round(rejected["same", True] / all_rejected, 2) == 0.02


def test_two_thirds_of_the_pairs_with_different_numbers_are_rejected(rejected: Counter[tuple[str, bool]]) -> None:
    differ = rejected["differ", True] + rejected["differ", False]
    assert round(rejected["differ", True] / differ, 2) == 0.68


def test_pairs_with_a_number_on_one_side_pass(rejected: Counter[tuple[str, bool]]) -> None:
    one_side = rejected["one side", True] + rejected["one side", False]
    assert rejected["one side", True] / one_side < 0.02
