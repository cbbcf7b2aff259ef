"""The report's section on selection: the statistics that the workers of each language pair left, as one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd.metrics.statistics import merged
from kd.report.model import ChangedPair, Histogram, Selection, SideOfSelection

SIDES = {"gold": "human translation", "first": "teacher's best", "selected": "what was chosen"}


def selection(name: str, parts: Sequence[Mapping[str, Any]]) -> Selection:
    """Make the record of one language pair from its workers' statistics, as JSON has them."""
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
        further=total.get("further", 0),  # older shards do not count them
        gold=total["gold"],
        dropped=total["dropped"],
        set_aside=total["set_aside"],
        no_way_out=total["no_way_out"],
        sides=[_side(shown, total["words"][key], chosen) for key, shown in SIDES.items()] if chosen else [],
        examples=[ChangedPair(**item) for item in total["examples"]],
    )


def _histograms(counts: Sequence[Mapping[str, int]], width: float) -> list[Histogram | None]:
    """Counts by bin, all between the same edges."""
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
