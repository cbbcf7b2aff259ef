"""What each stage took, and what it let through of the corpus, from the manifests of all artifacts.

Time counts every attempt; energy is what was measured, never an estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kd.pipeline.model import Artifact
from kd.report.model import FlowStep, StageCost


def in_chain_order(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Each after all that it was made from; where that says nothing, in the order given."""
    stages = list(dict.fromkeys(artifact.stage for artifact in artifacts))
    needs: dict[str, set[str]] = {stage: set() for stage in stages}
    for artifact in artifacts:
        for inputs in artifact.manifest.get("inputs", {}).values():
            needs[artifact.stage] |= {name.partition("/")[0] for name in inputs} & needs.keys()
    ordered: list[str] = []
    while len(ordered) < len(stages):
        left = [stage for stage in stages if stage not in ordered]
        ordered.append(next((stage for stage in left if needs[stage] <= {*ordered, stage}), left[0]))
    return sorted(artifacts, key=lambda artifact: ordered.index(artifact.stage))


def flow(artifacts: Iterable[Artifact], several: bool) -> list[FlowStep]:
    """The counts of pairs of each stage that has them; stages of all pairs are named where there are several."""
    steps: dict[str, FlowStep] = {}
    for artifact in artifacts:
        counts = artifact.manifest["counts"]
        if "pairs out" not in counts:
            continue
        stage = artifact.stage if several else artifact.stage.partition(".")[0]
        entered, left = counts.get("pairs in", counts["pairs out"]), counts["pairs out"]
        before = steps.get(stage, FlowStep(stage, 0, 0))
        dropped = Counter(before.dropped)
        dropped.update(artifact.manifest["dropped"])
        steps[stage] = FlowStep(stage, before.entered + entered, before.left + left, dict(dropped))
    return list(steps.values())


def costs(artifacts: Iterable[Artifact]) -> list[StageCost]:
    """One record for each stage."""
    by_stage: dict[str, list[Mapping[str, Any]]] = {}
    for artifact in artifacts:
        by_stage.setdefault(artifact.stage, []).append(artifact.manifest)
    return [_cost(stage, manifests) for stage, manifests in by_stage.items()]


def _cost(stage: str, manifests: Sequence[Mapping[str, Any]]) -> StageCost:
    energies = [(manifest["seconds"], manifest.get("energy") or {}) for manifest in manifests]
    kwh = [energy["kwh"] for _, energy in energies if energy.get("kwh") is not None]
    co2 = [energy["kg_co2e"] for _, energy in energies if energy.get("kg_co2e") is not None]
    hours = [seconds / 3600 * len(energy["gpus"]) for seconds, energy in energies if energy.get("gpus")]
    busy = [(s, e["gpu_utilisation"]) for s, e in energies if e.get("gpu_utilisation") is not None and s > 0]
    return StageCost(
        stage=stage,
        seconds=sum(manifest["seconds"] for manifest in manifests),
        tasks=len(manifests),
        bytes=sum(manifest["bytes"] for manifest in manifests),
        gpus=list(dict.fromkeys(str(name) for _, energy in energies for name in energy.get("gpus") or [])),
        gpu_hours=sum(hours) if hours else None,
        kwh=sum(kwh) if kwh else None,
        unmeasured=len(manifests) - len(kwh) if kwh else 0,
        sources=list(dict.fromkeys(str(e["source"]) for _, e in energies if e.get("source") and e.get("kwh"))),
        gpu_utilisation=sum(s * share for s, share in busy) / sum(s for s, _ in busy) if busy else None,
        pue=_common(energy.get("pue") for _, energy in energies),
        carbon_intensity=_common(energy.get("carbon_intensity") for _, energy in energies),
        kg_co2e=sum(co2) if co2 else None,
    )


def _common(values: Iterable[float | None]) -> float | None:
    """The value that all tasks have; None where they differ, since a sum of kWh has then no single factor."""
    found = {value for value in values if value is not None}
    return found.pop() if len(found) == 1 else None
