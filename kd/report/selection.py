"""Selection and guards on the page: the effect of choosing from the n-best lists, and the hypotheses that trip guards.

The records add up the counts of all tasks of a language pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kd.metrics.statistics import merged
from kd.report import formatting as form
from kd.report.table import Cell, Column, Table

SIDES = {"gold": "human translation", "first": "teacher's best", "selected": "what was chosen"}
FIELDS = ("best", "set_aside", "no_way_out")  # of GuardCounts; the statistics of select have the last two


@dataclass(frozen=True)
class Histogram:
    """A histogram: `counts[i]` values lie between `edges[i]` and `edges[i + 1]`."""

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class ChangedPair:
    """An example of a list where selection chose another hypothesis than the teacher's best."""

    source: str
    gold: str
    first: str  # the teacher's best
    selected: str
    rank: int  # of the selected one, from 0
    score_first: float
    score_selected: float


@dataclass(frozen=True)
class SideOfSelection:
    """Length and variety of the gold text, of the teacher's best hypotheses, or of the selected ones."""

    name: str
    words: int
    words_per_pair: float
    types_per_window: float | None = None  # distinct words in 1,000; None where there are fewer


@dataclass(frozen=True)
class Selection:
    """The effect of selecting from the n-best lists of a language pair."""

    lists: int  # with a chosen hypothesis
    changed: int  # lists where another than the first was chosen
    metric: str  # as recipes name it: bleu, chrf
    signature: str
    mean_first: float  # sentence score of the teacher's best, mean over lists
    mean_selected: float  # of the selected one
    name: str = ""  # language pair, if there are several
    variant: str = "best"  # as recipes name it: best, first, gold, threshold, best_and_gold, top
    ranks: list[int] = field(default_factory=list)  # how often the hypothesis of rank 0, 1, … was chosen
    gains: Histogram | None = None  # score of the selected minus score of the first, where they differ
    scores: Histogram | None = None  # of the selected
    first_scores: Histogram | None = None  # of the teacher's best, between the same edges
    exact: int = 0  # selected hypotheses equal to the human translation
    further: int = 0  # hypotheses that later epochs learn (variant top)
    gold: int = 0  # further pairs that keep the human translation
    dropped: int = 0  # further pairs that are left out
    set_aside: dict[str, int] = field(default_factory=dict)  # guard -> preferred hypotheses that tripped it
    no_way_out: dict[str, int] = field(default_factory=dict)  # guard -> lists all of whose hypotheses trip one
    origins: dict[str, int] = field(default_factory=dict)  # member of a mixture -> chosen hypotheses that it found
    alone: dict[str, int] = field(default_factory=dict)  # member -> chosen hypotheses that no other member found
    sides: list[SideOfSelection] = field(default_factory=list)
    examples: list[ChangedPair] = field(default_factory=list)  # where the score rose most


@dataclass(frozen=True)
class GuardCounts:
    """Number of hypotheses that tripped each guard; guards without a hit are left out."""

    lists: int = 0  # decoded
    best: dict[str, int] = field(default_factory=dict)  # lists whose best hypothesis trips it
    set_aside: dict[str, int] = field(default_factory=dict)  # pairs for which another was chosen instead
    no_way_out: dict[str, int] = field(default_factory=dict)  # pairs for which all hypotheses trip one
    on_guard: str = ""  # what happened then: gold | drop | keep
    name: str = ""  # language pair, if there are several

    @property
    def names(self) -> list[str]:
        """All guards that were tripped."""
        return sorted({name for counts in (self.best, self.set_aside, self.no_way_out) for name in counts})


def selection(name: str, parts: Sequence[Mapping[str, Any]]) -> Selection:
    """Make the record of one language pair from the statistics of its selection tasks."""
    total = merged(parts)
    ranks = {int(rank): count for rank, count in total["ranks"].items()}
    chosen, width = total["chosen"], total["bin_width"]
    scores, first_scores = _histograms([total["scores"], total["first_scores"]], width)
    (gains,) = _histograms([total["gains"]], width)
    return Selection(
        lists=chosen,
        changed=chosen - ranks.get(0, 0),
        metric=total["metric"],
        signature=total["signature"],
        mean_first=total["sum_first"] / max(1, chosen),
        mean_selected=total["sum_selected"] / max(1, chosen),
        name=name,
        variant=total["variant"],
        ranks=[ranks.get(rank, 0) for rank in range(max(ranks, default=-1) + 1)],
        gains=gains,
        scores=scores,
        first_scores=first_scores,
        exact=total["exact"],
        further=total.get("further", 0),  # earlier versions do not count them
        gold=total["gold"],
        origins=dict(sorted(total.get("origins", {}).items())),  # earlier versions do not count them
        alone=total.get("alone", {}),
        dropped=total["dropped"],
        set_aside=total["set_aside"],
        no_way_out=total["no_way_out"],
        sides=[_side(shown, total["words"][key], chosen) for key, shown in SIDES.items()] if chosen else [],
        examples=[ChangedPair(**item) for item in total["examples"]],
    )


def _histograms(counts: Sequence[Mapping[str, int]], width: float) -> list[Histogram | None]:
    """Make histograms of counts by bin, all with the same edges."""
    found = [{int(number): count for number, count in bins.items()} for bins in counts]
    numbers = [number for bins in found for number in bins]
    if not numbers:
        return [None] * len(found)
    span = range(min(numbers), max(numbers) + 1)
    edges = [width * number for number in (*span, span.stop)]
    return [Histogram(edges, [bins.get(number, 0) for number in span]) for bins in found]


def _side(name: str, counts: Mapping[str, int], pairs: int) -> SideOfSelection:
    varied = counts["types"] / counts["windows"] if counts["windows"] else None
    return SideOfSelection(name, counts["words"], counts["words"] / pairs, varied)


def guard_counts(
    decoded: Iterable[tuple[str, Mapping[str, Any]]],
    selected: Iterable[tuple[str, Mapping[str, Any], str]],
    several: bool,
) -> list[GuardCounts]:
    """Add up the counts of each language pair.

    Args:
        decoded: Pair and manifest of each task; manifests without counts of guards are ignored.
        selected: Pair, statistics and `on_guard` of each selection task.
        several: Whether to name the language pairs.
    """
    tripped: dict[str, dict[str, Counter[str]]] = {}
    lists: Counter[str] = Counter()
    after: dict[str, str] = {}

    def add(pair: str, what: str, counts: Mapping[str, int]) -> None:
        of_pair = tripped.setdefault(pair, {name: Counter() for name in FIELDS})
        of_pair[what].update({name: count for name, count in counts.items() if count})

    for pair, manifest in decoded:
        if "guards" in manifest["facts"]:
            add(pair, "best", manifest["facts"]["guards"])
            lists[pair] += int(manifest["counts"].get("lists", 0))
    for pair, statistics, on_guard in selected:
        for what in FIELDS[1:]:
            add(pair, what, statistics.get(what, {}))
        after[pair] = on_guard
    return [
        GuardCounts(
            lists=lists[pair],
            best=dict(counts["best"]),
            set_aside=dict(counts["set_aside"]),
            no_way_out=dict(counts["no_way_out"]),
            on_guard=after.get(pair, ""),
            name=pair if several else "",
        )
        for pair, counts in tripped.items()
        if any(counts.values())
    ]


def guard_table(guards: GuardCounts) -> Table:
    """Make the table of how often each guard was tripped."""
    rows = []
    for name in guards.names:
        best = guards.best.get(name, 0)
        share = form.percent(best / guards.lists) if guards.lists else ""
        others = (guards.set_aside.get(name, 0), guards.no_way_out.get(name, 0))
        rows.append((name, form.count(best), share, *map(form.count, others)))
    headings = ["Guard", "Lists whose best hypothesis trips it", "Of all lists", "Pairs with another hypothesis chosen",
                "Pairs whose hypotheses all trip a guard"]  # fmt: skip
    title = f"Guards that were tripped{f', {guards.name}' if guards.name else ''}"
    return Table.of_rows(headings, rows, title=title)


def origin_table(selection: Selection) -> Table:
    """Make the table of how many chosen hypotheses come from each member of a mixture."""
    rows = []
    for name, found in selection.origins.items():
        share = form.percent(found / max(1, selection.lists))
        rows.append((name, form.count(found), share, form.count(selection.alone.get(name, 0))))
    headings = ["Teacher", "Chosen hypotheses that it found", "Of all", "That no other teacher found"]
    return Table.of_rows(headings, rows, title="Where the chosen hypotheses come from")


def side_table(selection: Selection) -> Table:
    """Make the table of length and variety of the texts that a student could learn from."""
    sides = selection.sides
    columns = [
        Column("Text to learn from", [Cell(side.name) for side in sides], numeric=False),
        Column("Words", [Cell(form.count(side.words)) for side in sides]),
        Column("a sentence", [Cell(form.score(side.words_per_pair)) for side in sides]),
        replace(
            Column.of("Distinct words in 1,000", [side.types_per_window for side in sides], form.score),
            explanation="Standardised type/token ratio: the mean over windows of 1,000 words. Teacher output is "
            "plainer than human text; this ratio shows by how much.",
        ),
    ]
    return Table(columns, "Length and variety of the texts to learn from")
