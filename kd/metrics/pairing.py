"""Compare systems seed by seed: a student with the control of the same seed.

Two trainings with one seed see their data in the same order and start from the same weights, so they differ only in
their training text. The spread over seeds shows the effect of the seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kd.metrics.comet import CometScores
from kd.metrics.corpus import DEFAULTS, Options, References
from kd.metrics.judge import judge
from kd.metrics.significance import Resampling
from kd.models.systems import System


@dataclass(frozen=True)
class Match:
    """Two systems to compare, and the trainings that they are members of."""

    of: str  # label of the one training: student
    against: str  # of the other: control
    system: str  # name: student-2, or student if there is only one
    other: str  # control-2


def matches(pairs: Mapping[str, Mapping[str, bool]], systems: Iterable[System]) -> list[Match]:
    """Match member k of each training with member k of the trainings to compare it with, if both exist."""
    known = list(systems)
    found = []
    for of, opponents in pairs.items():
        for against in [label for label, wanted in opponents.items() if wanted]:
            ours, theirs = members(of, known), members(against, known)
            found += [Match(of, against, ours[seed].name, theirs[seed].name) for seed in ours if seed in theirs]
    return found


def members(label: str, systems: Iterable[System]) -> dict[str, System]:
    """Return the trained members of a label by number; a single model counts as the first member."""
    found = {each.seed: each for each in systems if each.label == label and not each.format and not each.ensemble}
    return {seed: found[seed] for seed in sorted(found, key=lambda seed: (len(seed), seed))}


def named(name: str, systems: Iterable[System]) -> System | None:
    """Return the system of this name, or the first member of the training of this label; None if there is neither."""
    known = list(systems)
    exact = next((each for each in known if each.name == name), None)
    return exact or next(iter(members(name, known).values()), None)


def compare(
    match: Match,
    outputs: Mapping[str, Sequence[str]],
    references: References,
    metrics: Sequence[str],
    *,
    comet_scores: Sequence[CometScores] = (),
    resampling: Resampling | None = None,
    options: Options = DEFAULTS,
) -> list[dict[str, Any]]:
    """Score both and test their difference: one entry per metric, for JSON.

    The p-value is sacreBLEU's and does not depend on other systems, since all are resampled alike. It is None without
    `resampling`. Raises the errors of `judge`.
    """
    two = {name: outputs[name] for name in (match.other, match.system)}
    comets = [CometScores(c.metric, c.signature, {name: c.segments[name] for name in two}) for c in comet_scores]
    baseline = match.other if resampling else None
    found = judge(
        two, references, metrics, comet_scores=comets, baseline=baseline, resampling=resampling, options=options
    )
    others = {item.metric: item.value for item in found if item.system == match.other}
    return [
        {
            "of": match.of,
            "against": match.against,
            "system": match.system,
            "other": match.other,
            "metric": item.metric,
            "value": item.value,
            "other_value": others[item.metric],
            "p_value": item.p_value,
        }
        for item in found
        if item.system == match.system
    ]
