"""Write the remarks of `kd status` on artifacts that were made in an image other than the run's current one.

Such artifacts stay valid. A remark names the packages whose versions differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kd.base.hashing import FileHashes
from kd.base.software import versions
from kd.container.images import read_record
from kd.engines import PACKAGES


def remarks(image: str | None, hashes: FileHashes) -> Callable[[Mapping[str, Any]], str]:
    """Return a function from a manifest to its remark, which is empty if there is nothing to remark.

    Args:
        image: The run's machine.container; the versions are read from the record beside the image.
        hashes: Cached file hashes.
    """
    path = Path(image).absolute() if image else None
    there = path is not None and path.is_file()
    digest = hashes(path) if path is not None and there else None
    record = read_record(path) if path is not None and there else None

    def remark(manifest: Mapping[str, Any]) -> str:
        made = manifest.get("container")
        origin = made if isinstance(made, dict) else None
        if (origin is None and path is None) or (digest and origin and origin.get("sha256") == digest):
            return ""
        source = f"made in {_named(origin)}" if origin else "made outside the image"
        if path is not None and record is None:
            return f"{source}; the versions in {path.name} are unknown"
        now = record.versions if record is not None else versions(PACKAGES)
        differences = _differences(manifest.get("versions") or {}, now)
        here = path.name if path is not None else "this kd"
        return f"{source} with {', '.join(differences)} (not the versions that {here} has)" if differences else ""

    return remark


def _named(origin: Mapping[str, Any]) -> str:
    digest = str(origin.get("sha256") or "")[:12]
    return Path(str(origin["path"])).name + (f" ({digest}…)" if digest else "")


def _differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return `torch 2.6.0 instead of 2.13.0` for each differing package; Python counts with two numbers only."""
    found = []
    for package in sorted(then.keys() & now.keys()):
        old, new = (str(known[package]).partition("+")[0] for known in (then, now))
        if package == "python":
            old, new = (".".join(version.split(".")[:2]) for version in (old, new))
        if old != new:
            found.append(f"{package} {old} instead of {new}")
    return found
