"""What a report shows, as plain records: the page and the terminal's table are two views of one `ReportData`.

It is written as JSON beside the page, so that programs read the same unrounded numbers; a part that a run does not have
stays empty, and the views leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kd.base.records import plain, record, text
from kd.models.systems import SystemKind
from kd.report.model.corpora import FlowStep, Leakage, LeakedCorpus, LeakedSet
from kd.report.model.costs import Provenance, StageCost
from kd.report.model.searching import CellForm, CellScore, Chosen, Search, SearchCell
from kd.report.model.selecting import ChangedPair, GuardCounts, Histogram, Selection, SideOfSelection
from kd.report.model.systems import (
    Comparison,
    MetricScore,
    PairedScore,
    Speed,
    SystemRow,
    TestSet,
    VerdictRoles,
)
from kd.report.model.training import Curve, CurvePoint
from kd.report.model.weaknesses import Example, WeaknessesOfPair

__all__ = [
    "CellForm",
    "CellScore",
    "ChangedPair",
    "Chosen",
    "Comparison",
    "Curve",
    "CurvePoint",
    "Example",
    "FlowStep",
    "GuardCounts",
    "Histogram",
    "Leakage",
    "LeakedCorpus",
    "LeakedSet",
    "MetricScore",
    "PairedScore",
    "Provenance",
    "ReportData",
    "Search",
    "SearchCell",
    "Selection",
    "SideOfSelection",
    "Speed",
    "StageCost",
    "SystemKind",
    "SystemRow",
    "TestSet",
    "VerdictRoles",
    "WeaknessesOfPair",
]

FORMAT = 2
"""Of the JSON; raised when what it says changes its meaning, not when something is added."""


@dataclass(frozen=True)
class ReportData:
    """Everything a page shows."""

    title: str
    date: str  # ISO 8601
    systems: list[SystemRow] = field(default_factory=list)
    verdict: VerdictRoles = field(default_factory=VerdictRoles)
    baseline: str = ""  # the row that the p-values of the others are against
    comparisons: list[Comparison] = field(default_factory=list)
    paired: list[PairedScore] = field(default_factory=list)  # compared seed by seed
    test_set: str = ""  # in words: what it is and how many segments it has
    test_sets: list[TestSet] = field(default_factory=list)  # each by itself, where a pair has several
    speed_note: str = ""  # in words: how speed was measured
    speed_notes: dict[str, str] = field(default_factory=dict)  # what the other figures of speed mean
    curves: list[Curve] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    selections: list[Selection] = field(default_factory=list)
    guards: list[GuardCounts] = field(default_factory=list)
    weaknesses: list[WeaknessesOfPair] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    flow: list[FlowStep] = field(default_factory=list)
    leakage: Leakage | None = None
    costs: list[StageCost] = field(default_factory=list)
    provenance: Provenance = field(default_factory=Provenance)

    def metrics(self) -> list[str]:
        """The names of the metrics that any system has a score of, in the order of their first appearance."""
        return list(dict.fromkeys(score.metric for system in self.systems for score in system.scores))

    def signatures(self) -> dict[str, str]:
        """The signature of each metric; several are joined where systems were scored differently."""
        found: dict[str, list[str]] = {}
        for system in self.systems:
            for score in system.scores:
                if score.signature not in found.setdefault(score.metric, []):
                    found[score.metric].append(score.signature)
        return {metric: " / ".join(signatures) for metric, signatures in found.items()}

    def system(self, name: str, pair: str = "") -> SystemRow | None:
        """The row of that name and pair, if there is one."""
        return next((row for row in self.systems if row.name == name and row.pair == pair), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, unrounded; what is no finite number becomes null."""
        return {"format": FORMAT, **plain(self)}

    def to_json(self) -> str:
        """The same as text, readable."""
        return text(self.to_dict())

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ReportData:
        """What `to_dict` gave. Raises ValueError for another format, unknown keys or values of the wrong type."""
        if values.get("format") != FORMAT:
            raise ValueError(f"report of format {values.get('format')!r}, this version reads {FORMAT}")
        return record(ReportData, {key: value for key, value in values.items() if key != "format"}, "report")
