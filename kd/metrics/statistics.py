"""Count the choices of selection, for the manifest, the report and the command's summary.

Memory does not grow with the corpus, and the counts of several shards or workers can be added.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kd.metrics.sentence import Candidates

MOST_EXAMPLES = 20
MOST_BINS = 40  # to either side of 0, of a metric without bounds
WINDOW = 1000  # words of which the distinct ones are counted: standardised type/token ratio (Scott, WordSmith Tools)


class Choice(NamedTuple):
    """The choice from one list."""

    rank: int | None  # from 0, of the chosen hypothesis; None: the human target is learnt, or nothing
    score: float  # of the preferred hypothesis, chosen or not
    first_score: float  # of rank 0
    guard: str | None = None  # tripped by the preferred hypothesis where all trip one
    dropped: bool = False  # no pair is made
    below: bool = False  # the preferred hypothesis scores below `select.threshold`
    distant: bool = False  # its TER against the human target is above `select.max_ter`
    further: tuple[int, ...] = ()  # ranks of the hypotheses that later epochs learn (`select.variant=top`)
    preferred: int = 0  # rank of the preferred hypothesis, where `rank` is None


@dataclass
class Words:
    """Count the whitespace-separated words of one side, and their variety, in constant memory."""

    words: int = 0
    windows: int = 0  # of WINDOW words each
    types: int = 0  # distinct words of each window, added up
    _rest: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count a sentence."""
        words = text.split()
        self.words += len(words)
        self._rest += words
        while len(self._rest) >= WINDOW:
            self.types += len(set(self._rest[:WINDOW]))
            self.windows += 1
            del self._rest[:WINDOW]

    def to_json(self) -> dict[str, int]:
        """Return the counts; words after the last full window do not count towards `types`."""
        return {"words": self.words, "windows": self.windows, "types": self.types}


@dataclass
class Statistics:
    """Counts of choices, for the manifest and the report; counts of several shards can be added."""

    metric: str
    signature: str
    bin_width: float
    lists: int = 0  # judged, one a pair
    chosen: int = 0  # pairs of which a hypothesis is learnt
    sum_first: float = 0.0  # score of the hypothesis of rank 0, over the chosen
    sum_selected: float = 0.0  # score of the chosen hypothesis
    exact: int = 0  # chosen hypotheses that are the human target, letter by letter
    gold: int = 0  # pairs whose human target is learnt instead of a hypothesis
    dropped: int = 0  # pairs left out
    below: int = 0  # pairs whose preferred hypothesis scores below `select.threshold`: human target, or left out
    distant: int = 0  # pairs whose preferred hypothesis has a TER above `select.max_ter`: human target, or left out
    further: int = 0  # hypotheses that later epochs learn
    origins: Counter[str] = field(default_factory=Counter)  # member of a mixture -> chosen hypotheses that it found
    alone: Counter[str] = field(default_factory=Counter)  # member -> chosen hypotheses that no other member found
    ranks: Counter[int] = field(default_factory=Counter)
    scores: Counter[int] = field(default_factory=Counter)  # bin of bin_width -> chosen hypotheses
    first_scores: Counter[int] = field(default_factory=Counter)  # the same of rank 0
    gains: Counter[int] = field(default_factory=Counter)  # bin -> pairs, where another than rank 0 was chosen
    set_aside: Counter[str] = field(default_factory=Counter)  # guard -> preferred hypotheses that tripped it, where
    # another passed
    no_way_out: Counter[str] = field(default_factory=Counter)  # guard -> lists all of whose hypotheses trip one
    words: dict[str, Words] = field(default_factory=lambda: {name: Words() for name in ("gold", "first", "selected")})
    _examples: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)  # a heap of the largest gains

    def add(self, source: str, item: Candidates, scores: Sequence[float], choice: Choice) -> None:
        """Add the choice from one list to the counts."""
        self.lists += 1
        if choice.guard is not None:
            self.no_way_out[choice.guard] += 1
        if choice.rank is None:
            self.dropped += choice.dropped
            self.below += choice.below
            self.distant += choice.distant
            self.gold += not choice.dropped
            return
        rank, text = choice.rank, item.hypotheses[choice.rank]
        self.chosen += 1
        self.further += len(choice.further)
        self.sum_first += scores[0]
        self.sum_selected += scores[rank]
        self.exact += text == item.reference
        self.ranks[rank] += 1
        self._count_origins(item.origins[rank] if item.origins else ())
        self.scores[self._bin(scores[rank])] += 1
        self.first_scores[self._bin(scores[0])] += 1
        for name, words in (("gold", item.reference), ("first", item.hypotheses[0]), ("selected", text)):
            self.words[name].add(words)
        if rank:
            gain = scores[rank] - scores[0]
            self.gains[self._bin(gain)] += 1
            self._note(gain, source, item, scores, rank)

    def _count_origins(self, members: Sequence[str]) -> None:
        self.origins.update(members)
        if len(members) == 1:
            self.alone.update(members)

    def _bin(self, score: float) -> int:
        if not math.isfinite(score):
            return MOST_BINS if score > 0 else -MOST_BINS
        return max(-MOST_BINS, min(MOST_BINS, math.floor(score / self.bin_width)))

    def _note(self, gain: float, source: str, item: Candidates, scores: Sequence[float], rank: int) -> None:
        if len(self._examples) == MOST_EXAMPLES and gain <= self._examples[0][0]:
            return
        example = {
            "source": source, "gold": item.reference, "first": item.hypotheses[0], "selected": item.hypotheses[rank],
            "rank": rank, "score_first": scores[0], "score_selected": scores[rank],
        }  # fmt: skip
        # The second element keeps the earlier of equal gains, and prevents a comparison of dictionaries.
        entry = (gain, -self.lists, example)
        (heapq.heappush if len(self._examples) < MOST_EXAMPLES else heapq.heappushpop)(self._examples, entry)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; examples with the largest gain first."""
        largest = [item for *_, item in sorted(self._examples, key=lambda entry: entry[:2], reverse=True)]
        values = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {**values, "words": {name: side.to_json() for name, side in self.words.items()}, "examples": largest}


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the statistics of several shards or workers, read from JSON: counts by bin or rank have text keys."""
    total = dict(parts[0])
    for part in parts[1:]:
        for name, value in part.items():
            if isinstance(value, dict):
                total[name] = _added(total[name], value)
            elif isinstance(value, int | float) and name != "bin_width":
                total[name] += value
    examples = [item for part in parts for item in part["examples"]]
    examples.sort(key=lambda item: item["score_first"] - item["score_selected"])
    return {**total, "examples": examples[:MOST_EXAMPLES]}


def _added(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the sums by key, recursively for nested mappings."""
    total = {str(key): value for key, value in left.items()}
    for key, value in right.items():
        before = total.get(str(key))
        total[str(key)] = _added(before or {}, value) if isinstance(value, dict) else (before or 0) + value
    return total
