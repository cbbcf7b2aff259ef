"""The machine-readable log of a training, `metrics.jsonl`: one JSON object per logged or validated update."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a `metrics.jsonl`; a last line that was cut short is ignored."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


@dataclass(frozen=True)
class Usage:
    """The use of a training's time; None where the log does not state it.

    Attributes:
        mfu: Model FLOPs utilisation, 0 to 1: median of the log lines, without validating and saving.
        saving_share: Share of the wall time that saving checkpoints took, 0 to 1.
        validating_share: Share of the wall time that validation took, 0 to 1.
    """

    mfu: float | None = None
    saving_share: float | None = None
    validating_share: float | None = None


def usage(entries: Iterable[Mapping[str, Any]]) -> Usage:
    """Compute the use of the time from the entries of a `metrics.jsonl`."""
    known = list(entries)
    utilised = [float(entry["mfu"]) for entry in known if entry.get("mfu") is not None]
    last = known[-1] if known else {}
    return Usage(
        statistics.median(utilised) if utilised else None, last.get("saving_share"), last.get("validating_share")
    )
