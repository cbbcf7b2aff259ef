"""The course of each training, from the `metrics.jsonl` that it wrote: losses and BLEU, with tokens and time.

A training of weeks has more lines than a plot has room for; those between are left out, the last one never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kd.engines.fairseq.training import METRICS, read_metrics
from kd.models.systems import labelled
from kd.pipeline.model import Artifact
from kd.report.model import Curve, CurvePoint

MOST_POINTS = 240  # of a curve


def curves(artifacts: Sequence[Artifact], several: bool) -> list[Curve]:
    """Return the curve of each training that has one; `several`: whether its language pair is named."""
    found = []
    for artifact in artifacts:
        points = _points(artifact)
        if points:  # none of a model trained elsewhere
            system = labelled(artifact)
            name = f"{system.title} ({system.pair})" if several and system.pair else system.title
            found.append(Curve(name, system.kind, points, str(artifact.manifest.get("device") or "")))
    return found


def _points(artifact: Artifact) -> list[CurvePoint]:
    """Of the training's own file; of one that has none, the validations in its manifest."""
    points = merged(read_metrics(artifact.path / METRICS))
    if points:
        return thinned(points)
    validations: Iterable[Mapping[str, Any]] = artifact.manifest["facts"].get("validations", [])
    return [CurvePoint(each["update"], each.get("dev_loss"), each.get("dev_bleu")) for each in validations]


def merged(entries: Iterable[Mapping[str, Any]]) -> list[CurvePoint]:
    """One point an update, in order; of an update that was gone through twice, what was written last."""
    by_update: dict[int, dict[str, Any]] = {}
    for entry in entries:
        values = by_update.setdefault(int(entry["update"]), {})
        if entry.get("split") == "dev":
            values |= {"dev_loss": entry.get("loss"), "dev_bleu": entry.get("bleu")}
        else:
            values |= {"train_loss": entry.get("loss")}
        values["seconds"] = entry.get("seconds")
        # Without devices the line is of an earlier version, in which target_tokens are those of one update.
        if entry.get("devices") is not None:
            values |= {"devices": int(entry["devices"]), "target_tokens": entry.get("target_tokens")}
    return [CurvePoint(update, **by_update[update]) for update in sorted(by_update)]


def thinned(points: Sequence[CurvePoint], most: int = MOST_POINTS) -> list[CurvePoint]:
    """About `most` of the points that are no validation, evenly; as many of those that are; the last in any case."""
    kept: set[int] = {len(points) - 1} if points else set()
    for validated in (True, False):
        places = [i for i, p in enumerate(points) if validated == (p.dev_loss is not None or p.dev_bleu is not None)]
        kept.update(places[:: max(1, -(-len(places) // most))])
        kept.update(places[-1:])
    return [points[place] for place in sorted(kept)]
