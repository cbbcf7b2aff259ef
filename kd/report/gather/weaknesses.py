"""The report's section on weaknesses, from what evaluate counted, and the test segments that are shown side by side.

An evaluation of an earlier version, which counted nothing, leaves the section out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.corpora.heldout import read_heldout
from kd.corpora.lines import open_lines
from kd.metrics.segments import Behind, Weaknesses
from kd.pipeline.model import Artifact
from kd.report.gather.systems import shown_name
from kd.report.model import Example, WeaknessesOfPair
from kd.report.records import record


def weaknesses(counted: Mapping[str, Mapping[str, Any]], number: int, several: bool) -> list[WeaknessesOfPair]:
    """One record for each pair, with the `number` segments in which each system is furthest behind.

    counted: evaluate's file by pair. several: whether pairs are named.
    """
    found = []
    for pair, content in counted.items():
        systems = {shown_name(name): record(Weaknesses, item, name) for name, item in content["systems"].items()}
        by_system: dict[str, list[Behind]] = {}
        for item in content.get("worst", []):  # the worst of each system first
            by_system.setdefault(item["system"], []).append(record(Behind, item, "worst"))
        worst = [item for items in by_system.values() for item in items[:number]]
        baseline = shown_name(content.get("baseline") or "")
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
        outputs.setdefault(str(artifact.axis), {})[shown_name(artifact.task)] = first
    return [
        Example(pair.source, pair.target, {name: lines[i] for name, lines in systems.items()}, axis if several else "")
        for axis, systems in outputs.items()
        for i, pair in enumerate(read_heldout(held_out, axis, "test")[:number])
    ]
