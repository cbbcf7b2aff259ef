"""Hypotheses as every engine returns them, and the counts that an engine keeps while it translates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

Progress = Callable[[int, int], None]  # sentences done, sentences in all
LONGEST_OUTPUT = 256  # tokens, unless another length is set
_BROKEN = "\ufffd"  # what bytes that are not UTF-8 become


@dataclass(frozen=True)
class Hypothesis:
    """One translation. Scores are natural logarithms, divided by (pieces + 1) to the power of the length penalty."""

    text: str
    pieces: list[str]  # the output without the end of sentence; encoding `text` again may give other tokens
    score: float  # of the ensemble
    member_scores: list[float]  # of each member alone, for the same tokens; empty if not requested


@dataclass
class Counts:
    """Counts of sources by their treatment, over all calls."""

    blank: int = 0  # not decoded: one empty hypothesis with the score 0
    cut: int = 0  # too long, and cut
    skipped: int = 0  # too long, and not decoded: one empty hypothesis with the score minus infinity
    halved: int = 0  # batches that did not fit into the GPU's memory
    limited: int = 0  # hypotheses that reached the longest output, where the search ends them


def without_broken(hypotheses: list[Hypothesis], *, samples: bool = False) -> list[Hypothesis]:
    """Drop hypotheses with bytes that are not UTF-8.

    If all have such bytes, the bytes are removed from the first hypothesis; in samples, whose number is fixed, from
    each.
    """
    whole = [] if samples else [each for each in hypotheses if _BROKEN not in each.text]
    kept = hypotheses if samples else hypotheses[:1]
    return whole or [replace(each, text=each.text.replace(_BROKEN, "")) for each in kept]
