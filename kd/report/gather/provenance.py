"""What one needs to do a run again: settings, versions, seeds, fingerprints, machines and containers of its tasks.

Where tasks ran with different versions or on different machines, all of them are named.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kd.pipeline.model import Artifact
from kd.report.model import Provenance


def provenance(artifacts: Sequence[Artifact], machine: Mapping[str, Any], device: str) -> Provenance:
    """Of all artifacts of a run, in chain order; machine and device are those of the task that asks."""
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
        "threads a task": _all(m.get("threads") for m in manifests),
        "page made on": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
    }
    return {name: value for name, value in facts.items() if value}


def _container(value: Any) -> dict[str, str]:
    """A manifest's container: none, a path, or a path with its hash."""
    if isinstance(value, Mapping):
        return {str(value.get("path") or ""): str(value.get("sha256") or "")}
    return {str(value): ""} if value else {}


def _all(values: Iterable[Any]) -> str:
    """Every value there is, once, in the order of their appearance."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
