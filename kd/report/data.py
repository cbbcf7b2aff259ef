"""The data of a report as one record: the page, the tables and the verdict are views of a `ReportData`.

Each section of the page has a module in this package with its records, the code that gathers them from the stages'
outputs, and its tables. A part that a run does not have stays empty, and the views leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kd.base.records import plain, record, text
from kd.report.corpora import FlowStep, Leakage
from kd.report.costs import StageCost
from kd.report.provenance import Provenance
from kd.report.robustness import RobustnessOfPair
from kd.report.search import Search
from kd.report.selection import GuardCounts, Selection
from kd.report.source_only import SourceOnly
from kd.report.systems import Comparison, PairedScore, SystemRow, TestSet, VerdictRoles
from kd.report.training import Curve
from kd.report.weaknesses import Example, Segments, WeaknessesOfPair

FORMAT = 2
"""Version of the JSON. Raise it when the meaning of a key changes, not when a key is added."""


@dataclass(frozen=True)
class ReportData:
    """Everything a page shows.

    Attributes:
        date: When the last artifact was finished, ISO 8601.
        baseline: Title of the system that the p-values of the rows are against; empty without one.
        paired: Comparisons seed by seed.
        test_set: Description of the test set, with its number of segments.
        test_sets: Scores on each test set, if a pair has several.
        speed_note: Description of the speed measurement.
        source_only: The part of the student's corpus without human translations; None without any.
        speed_notes: Explanations of the other speed measurements, by name.
    """

    title: str
    date: str
    systems: list[SystemRow] = field(default_factory=list)
    verdict: VerdictRoles = field(default_factory=VerdictRoles)
    baseline: str = ""
    comparisons: list[Comparison] = field(default_factory=list)
    paired: list[PairedScore] = field(default_factory=list)
    test_set: str = ""
    test_sets: list[TestSet] = field(default_factory=list)
    speed_note: str = ""
    speed_notes: dict[str, str] = field(default_factory=dict)
    source_only: SourceOnly | None = None
    curves: list[Curve] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    selections: list[Selection] = field(default_factory=list)
    guards: list[GuardCounts] = field(default_factory=list)
    weaknesses: list[WeaknessesOfPair] = field(default_factory=list)
    robustness: list[RobustnessOfPair] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    segments: list[Segments] = field(default_factory=list)
    flow: list[FlowStep] = field(default_factory=list)
    leakage: Leakage | None = None
    costs: list[StageCost] = field(default_factory=list)
    provenance: Provenance = field(default_factory=Provenance)

    def metrics(self) -> list[str]:
        """Return the names of all metrics, in the order of their first appearance."""
        return list(dict.fromkeys(score.metric for system in self.systems for score in system.scores))

    def signatures(self) -> dict[str, str]:
        """Return the signature of each metric; several are joined if systems were scored differently."""
        found: dict[str, dict[str, None]] = {}
        for score in (score for system in self.systems for score in system.scores):
            found.setdefault(score.metric, {})[score.signature] = None
        return {metric: " / ".join(signatures) for metric, signatures in found.items()}

    def system(self, name: str, pair: str = "") -> SystemRow | None:
        """Return the row of that title and pair, if there is one."""
        return next((row for row in self.systems if row.name == name and row.pair == pair), None)

    def to_json(self) -> str:
        """Return the data as readable JSON, numbers unrounded; NaN and infinity become null."""
        return text({"format": FORMAT, **plain(self)})

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ReportData:
        """Build the record from the content of `report.json`.

        Raises:
            ValueError: The format version differs, a key is unknown, or a value has the wrong type.
        """
        if values.get("format") != FORMAT:
            raise ValueError(f"report of format {values.get('format')!r}, this version reads {FORMAT}")
        return record(ReportData, {key: value for key, value in values.items() if key != "format"}, "report")
