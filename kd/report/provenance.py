"""Provenance on the page: settings, versions, seeds, fingerprints, machines and containers of a run's tasks.

If tasks ran with different versions or on different machines, all of them are named.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kd.pipeline.model import Artifact


@dataclass(frozen=True)
class Provenance:
    """Everything needed to repeat the run."""

    config: str = ""  # the recipe as it was run, YAML
    versions: dict[str, str] = field(default_factory=dict)  # by package
    fingerprints: dict[str, str] = field(default_factory=dict)  # by stage and task
    seeds: dict[str, int] = field(default_factory=dict)  # by what is seeded
    machine: dict[str, str] = field(default_factory=dict)  # processor, memory, threads …
    containers: dict[str, str] = field(default_factory=dict)  # path -> sha256, empty where it is not known


def in_chain_order(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Sort artifacts so that each follows its inputs, otherwise keeping the given order."""
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


def provenance(artifacts: Sequence[Artifact], machine: Mapping[str, Any], device: str) -> Provenance:
    """Collect the provenance of all artifacts of a run, in chain order.

    Args:
        artifacts: In the order of the chain.
        machine: The machine of the running task, for manifests that name none.
        device: Its device.
    """
    settings = {artifact.stage: dict(artifact.settings) for artifact in artifacts}
    manifests = [artifact.manifest for artifact in artifacts]
    versions: dict[str, list[str]] = {}
    containers: dict[str, str] = {}
    for manifest in manifests:
        for package, version in manifest["versions"].items():
            versions.setdefault(package, []).append(version)
        containers |= _container(manifest.get("container"))
    return Provenance(
        config=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True),
        versions={package: _all(found) for package, found in versions.items()},
        fingerprints={f"{artifact.stage}/{artifact.task}": artifact.fingerprint for artifact in artifacts},
        seeds={stage: values["seed"] for stage, values in settings.items() if isinstance(values.get("seed"), int)},
        machine=_machine(manifests, machine, device),
        containers=containers,
    )


def _machine(manifests: Iterable[Mapping[str, Any]], machine: Mapping[str, Any], device: str) -> dict[str, str]:
    manifests = list(manifests)
    facts = {
        "machine": _all(m.get("machine") for m in manifests) or str(machine.get("name", "")),
        "hosts": _all(m.get("host") for m in manifests),
        "device": _all(m.get("device") for m in manifests) or device,
        "threads per task": _all(m.get("threads") for m in manifests),
        "report written on": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
    }
    return {name: value for name, value in facts.items() if value}


def _container(value: Any) -> dict[str, str]:
    """Return a manifest's container as path -> hash; empty without one."""
    if isinstance(value, Mapping):
        return {str(value.get("path") or ""): str(value.get("sha256") or "")}
    return {str(value): ""} if value else {}


def _all(values: Iterable[Any]) -> str:
    """Join the distinct values in the order of their appearance."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
