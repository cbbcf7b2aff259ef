"""What decoding and selection counted of hypotheses that trip guards, by language pair, for the page.

A pair without a bad hypothesis has no entry, and a report without any has no section.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from kd.report.model import GuardCounts

FIELDS = ("best", "set_aside", "no_way_out")  # of GuardCounts; selection's statistics have the last two


def guard_counts(
    decoded: Iterable[tuple[str, Mapping[str, Any]]],
    selected: Iterable[tuple[str, Mapping[str, Any], str]],
    several: bool,
) -> list[GuardCounts]:
    """The counts of each pair.

    decoded: pair and manifest of each decoding task; others' manifests are passed over. selected: pair, statistics and
    `on_guard` of each selection task. several: whether pairs are named.
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
