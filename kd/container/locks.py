"""Read a lock: pinned packages with the hashes of their files, as `make lock` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_EXACT = re.compile(r"^([A-Za-z0-9._-]+)==([^=<>~!,;*\s]+)$")


@dataclass(frozen=True)
class LockEntry:
    """One requirement of a lock."""

    requirement: str
    hashes: tuple[str, ...]

    @property
    def pin(self) -> tuple[str, str] | None:
        """Package and version, or None for a requirement that allows several versions."""
        match = _EXACT.match(self.requirement)
        return (match[1], match[2]) if match else None


def entries(path: Path) -> Iterator[LockEntry]:
    """Yield the requirements of a lock, joined with their `--hash` lines."""
    text = re.sub(r"\\\n\s*", " ", path.read_text("utf-8"))
    for line in text.split("\n"):
        words = line.split()
        if words and not words[0].startswith("#"):
            hashes = [word.removeprefix("--hash=") for word in words if word.startswith("--hash=")]
            yield LockEntry(" ".join(word for word in words if not word.startswith("--hash=")), tuple(hashes))


def pins(path: Path) -> dict[str, str]:
    """Return package -> version of all requirements that are pinned."""
    return dict(entry.pin for entry in entries(path) if entry.pin)
