"""The report's section on leakage: what the guard left in the manifests of all training corpora, as one record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from kd.corpora.known_testsets import known_test_sets, training_names
from kd.report.model import Leakage, LeakedCorpus, LeakedSet


def leakage(manifests: Iterable[Mapping[str, Any]]) -> Leakage | None:
    """Make the record of all stages' manifests; None where no stage looked."""
    corpora: list[LeakedCorpus] = []
    sets: dict[str, LeakedSet] = {}
    warnings: dict[str, str] = {}
    reproduced: list[Mapping[str, int]] = []
    words = 0
    for manifest in manifests:
        facts = manifest["facts"]
        warnings |= known_test_sets(training_names(manifest["settings"].get("sources") or {}))
        if "reproduced" in facts:
            reproduced.append(facts["reproduced"])
        if "leakage" in facts:
            found = facts["leakage"]
            words = found["one_sided_words"]
            warnings |= found["known_test_sets"]
            corpora.append(LeakedCorpus(str(manifest["axis"]), found["mode"], found["pairs"]))
            for name, segments in found["held_out_sets"].items():
                sets[name] = _added(sets.get(name, LeakedSet(name, segments)), Counter(found["sets"].get(name, {})))
    if not corpora:
        return None
    totals = [sum(part[key] for part in reproduced) if reproduced else None for key in ("outputs", "references")]
    return Leakage(corpora, list(sets.values()), words, warnings, *totals)


def _added(before: LeakedSet, kinds: Counter[str]) -> LeakedSet:
    both, source, target = (getattr(before, kind) + kinds[kind] for kind in ("both", "source", "target"))
    return LeakedSet(before.name, before.segments, both, source, target)
