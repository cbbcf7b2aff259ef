"""Build the manifest of an artifact: how it was made, its inputs and its files."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kd.base import energy
from kd.base.hashing import sha256
from kd.base.software import versions
from kd.base.usage import peak_memory
from kd.pipeline import attempts
from kd.pipeline.attempts import Attempt
from kd.pipeline.fingerprint import canonical
from kd.pipeline.model import Job, Summary, Task
from kd.pipeline.store import MANIFEST, RAN


def manifest(
    task: Task, job: Job[Any], summary: Summary, so_far: list[Attempt], spent: energy.Spent, packages: Sequence[str]
) -> dict[str, Any]:
    """Return the manifest of a task whose output in `job.out` is complete.

    Args:
        task: The task.
        job: The job that the task was given.
        summary: The result of its check.
        so_far: All attempts at the task, the current one last.
        spent: The energy of all attempts.
        packages: Packages whose versions are recorded.
    """
    files = hashed_files(job.out)
    attempts.set_times(so_far[-1])
    return {
        "stage": task.stage.name,
        "task": task.name,
        "kind": task.stage.kind.name,
        "kind_version": task.stage.kind.version,
        "fingerprint": task.fingerprint,
        "lineage": task.lineage,
        "axis": task.stage.axis,
        "system": canonical(task.subject) or None,
        "settings": canonical(task.stage.config),
        "inputs": {
            role: [f"{item.task.full_name}@{item.task.fingerprint}" for item in items]
            for role, items in task.inputs.items()
        },
        "raw_files": {str(path): value for path, value in task.files.items()},
        **asdict(summary),
        "bytes": sum(int(entry["bytes"]) for entry in files.values()),
        "files": files,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(sum(attempt.get("seconds", 0.0) for attempt in so_far), 3),
        "cpu_seconds": attempts.cpu_seconds(so_far),
        "attempts": len(so_far),
        "peak_memory": peak_memory(),
        "energy": energy.record(spent, job.machine),
        "host": socket.gethostname(),
        "machine": job.machine.get("name"),
        "device": job.device,
        "threads": job.threads,
        "nodes": job.world.nodes,
        "container": container(),
        "versions": versions(packages),
    }


def hashed_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return path in the folder -> {"bytes", "sha256"} of all files to publish, without the manifest and links."""
    return {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path not in (folder / MANIFEST, folder / RAN)
    }


def container(environment: Mapping[str, str] = os.environ) -> dict[str, str | None] | None:
    """Return the image that this process runs in, as its launcher set it; None outside of an image.

    The form is {"path", "sha256"}; sha256 is None for an image that was entered by hand.
    """
    path = environment.get("APPTAINER_CONTAINER") or environment.get("SINGULARITY_CONTAINER")
    if path is None:
        return None
    return {"path": environment.get("KD_CONTAINER") or path, "sha256": environment.get("KD_CONTAINER_SHA256") or None}
