"""The report's section on weaknesses, from what evaluate counted, and the test segments that are shown side by side.

An evaluation of an earlier version, which counted nothing, leaves the section out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd.base.records import record
from kd.corpora.heldout import read_heldout
from kd.corpora.lines import open_lines
from kd.metrics.segments import Behind, Weaknesses
from kd.models.systems import system_of
from kd.pipeline.model import Artifact
from kd.report.model import Example, WeaknessesOfPair


def weaknesses(
    counted: Mapping[str, Mapping[str, Any]], titles: Mapping[str, Mapping[str, str]], number: int, several: bool
) -> list[WeaknessesOfPair]:
    """Make one record for each pair, with the `number` segments in which each system is furthest behind.

    Args:
        counted: Content of evaluate's `weaknesses.json` by pair.
        titles: Title of each system by pair and name.
        number: Segments kept of each system.
        several: Whether pairs are named.
    """
    found = []
    for pair, content in counted.items():
        shown = titles[pair]
        systems = {shown[name]: record(Weaknesses, item, name) for name, item in content["systems"].items()}
        by_system: dict[str, list[Behind]] = {}
        for item in content.get("worst", []):  # the worst of each system first
            segment = record(Behind, item, "worst")
            by_system.setdefault(segment.system, []).append(replace(segment, system=shown[segment.system]))
        worst = [item for items in by_system.values() for item in items[:number]]
        baseline = shown.get(content.get("baseline") or "", "")
        found.append(WeaknessesOfPair(systems, baseline, worst, pair if several else ""))
    return found


def examples(
    translations: Iterable[Artifact], held_out: Path, hypotheses: str, number: int, several: bool
) -> list[Example]:
    """The first `number` test segments; the set is in a seeded order, so they are a random sample.

    hypotheses: the name of the file with the translations.
    """
    outputs: dict[str, dict[str, Sequence[str]]] = {}
    for artifact in translations:
        lines = open_lines(artifact.path / hypotheses)
        first = [line for line, _ in zip(lines, range(number), strict=False)]
        outputs.setdefault(str(artifact.axis), {})[system_of(artifact).title] = first
    return [
        Example(pair.source, pair.target, {name: lines[i] for name, lines in systems.items()}, axis if several else "")
        for axis, systems in outputs.items()
        for i, pair in enumerate(read_heldout(held_out, axis, "test")[:number])
    ]
