"""Records of what selection from the n-best lists changed, and of hypotheses that trip guards.

They hold the sums over all workers of a language pair.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Histogram:
    """Counts between edges: `counts[i]` values lie from `edges[i]` to `edges[i + 1]`."""

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class ChangedPair:
    """A list where selection chose another hypothesis than the teacher's best."""

    source: str
    gold: str
    first: str  # the teacher's best
    selected: str
    rank: int  # of the selected one, from 0
    score_first: float
    score_selected: float


@dataclass(frozen=True)
class SideOfSelection:
    """The words of one side of what was selected from: gold, the teacher's best, or what was selected."""

    name: str
    words: int
    words_per_pair: float
    types_per_window: float | None = None  # distinct words in 1,000; None where there are fewer


@dataclass(frozen=True)
class Selection:
    """What choosing from the n-best lists changed."""

    lists: int  # of which a hypothesis was chosen
    changed: int  # lists of which another than the first was chosen
    metric: str  # as recipes name it: bleu, chrf
    signature: str
    mean_first: float  # sentence score of the teacher's best, mean over lists
    mean_selected: float  # of the selected one
    name: str = ""  # language pair, where there are several
    variant: str = "best"  # as recipes name it: best, first, gold, threshold, best_and_gold, top
    ranks: list[int] = field(default_factory=list)  # how often the hypothesis of rank 0, 1, … was chosen
    gains: Histogram | None = None  # score of the selected minus score of the first, where they differ
    scores: Histogram | None = None  # of the selected
    first_scores: Histogram | None = None  # of the teacher's best, between the same edges
    exact: int = 0  # selected hypotheses that are the human translation, letter by letter
    further: int = 0  # hypotheses that later epochs learn (variant top)
    gold: int = 0  # further pairs whose human translation is learnt instead of a hypothesis
    dropped: int = 0  # further pairs that are left out
    set_aside: dict[str, int] = field(default_factory=dict)  # guard -> preferred hypotheses that tripped it
    no_way_out: dict[str, int] = field(default_factory=dict)  # guard -> lists all of whose hypotheses trip one
    sides: list[SideOfSelection] = field(default_factory=list)
    examples: list[ChangedPair] = field(default_factory=list)  # where the score rose most


@dataclass(frozen=True)
class GuardCounts:
    """How often hypotheses tripped guards, by guard; what did not happen is not there."""

    lists: int = 0  # decoded
    best: dict[str, int] = field(default_factory=dict)  # lists whose best hypothesis trips it
    set_aside: dict[str, int] = field(default_factory=dict)  # pairs for which another was chosen instead
    no_way_out: dict[str, int] = field(default_factory=dict)  # pairs for which all hypotheses trip one
    on_guard: str = ""  # what happened then: gold | drop | keep
    name: str = ""  # language pair, where there are several

    @property
    def names(self) -> list[str]:
        """Every guard that was tripped."""
        return sorted({name for counts in (self.best, self.set_aside, self.no_way_out) for name in counts})
