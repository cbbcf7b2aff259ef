"""Robustness on the page: how often each system failed on inputs like those of users, and some of its failures.

The counts are those of `kd/metrics/robustness.py`; the model card has them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kd.base.records import record
from kd.corpora.robustness import KINDS
from kd.metrics.robustness import CASE, CHECKS, COPYING, ONE_OUTPUT, SOUND, Checked, Failure, Robustness
from kd.report.formatting import count
from kd.report.systems import VerdictRoles
from kd.report.table import Cell, Column, Table

LABELS = {
    COPYING: "lost an address, number, emoji or placeholder",
    CASE: "changed the case",
    ONE_OUTPUT: "translated the same sentence differently",
    SOUND: "refused by a guard",
}
"""The fault of a system that failed a check."""
EXPECTED = {COPYING: "missing", CASE: "missing", ONE_OUTPUT: "expected", SOUND: "guard"}
"""The word in front of the expected text of a failure."""
ANY = "failed any check"


@dataclass(frozen=True)
class RobustnessOfPair:
    """The results of a language pair's systems on the robustness suite."""

    systems: dict[str, Robustness] = field(default_factory=dict)  # by name, as in the table of results
    name: str = ""  # language pair, where there are several


def gathered(
    counted: Mapping[str, Mapping[str, Any]], titles: Mapping[str, Mapping[str, str]], several: bool
) -> list[RobustnessOfPair]:
    """Make one record for each pair.

    Args:
        counted: Content of evaluate's `robustness.json` by pair.
        titles: Title of each system by pair and name.
        several: Whether pairs are named.
    """
    return [
        RobustnessOfPair(
            {titles[pair][name]: record(Robustness, item, name) for name, item in content["systems"].items()},
            pair if several else "",
        )
        for pair, content in counted.items()
    ]


def check_table(systems: Mapping[str, Robustness]) -> Table:
    """Make the table of failures by check, one column per system."""
    rows = {LABELS[name]: [item.checks.get(name, Checked()) for item in systems.values()] for name in CHECKS}
    rows[ANY] = [Checked(item.inputs, item.failed) for item in systems.values()]
    return _table("Inputs that a system …", list(systems), rows)


def kind_table(systems: Mapping[str, Robustness]) -> Table:
    """Make the table of inputs that failed any check, by kind of input, one column per system."""
    rows = {KINDS[kind]: [item.kinds.get(kind, Checked()) for item in systems.values()] for kind in KINDS}
    return _table("Kind of input", list(systems), rows)


def shown(systems: Mapping[str, Robustness], roles: VerdictRoles) -> Iterator[tuple[str, Robustness]]:
    """Yield the student, its deployed form and the teacher, as far as they failed a check."""
    for name in dict.fromkeys((roles.student, roles.export, roles.teacher)):
        if name in systems and systems[name].failures:
            yield name, systems[name]


def explained(failure: Failure) -> str:
    """Return the expected text with a word in front: `missing: {name}`."""
    return f"{EXPECTED[failure.check]}: {failure.expected}"


def _table(heading: str, systems: Sequence[str], rows: Mapping[str, Sequence[Checked]]) -> Table:
    """Make a table with a column per system; rows that no system has inputs for are left out."""
    filled = {label: items for label, items in rows.items() if any(item.inputs for item in items)}
    columns = [Column(heading, [Cell(label, label) for label in filled], numeric=False)]
    for place, name in enumerate(systems):
        columns.append(Column(name, [_cell(items[place]) for items in filled.values()]))
    return Table(columns, "Robustness")


def _cell(item: Checked) -> Cell:
    return Cell(f"{count(item.failed)} of {count(item.inputs)}", item.failed / item.inputs) if item.inputs else Cell()
