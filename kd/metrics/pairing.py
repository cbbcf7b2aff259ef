"""Which systems are compared member by member: the student of a seed with the control of the same seed.

Two trainings of one seed see their data in the same order and start from the same weights, so that what is left of a
difference is what they were trained on; luck in training shows as the spread over the seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kd.metrics.comet import CometScores
from kd.metrics.corpus import DEFAULTS, Options, References
from kd.metrics.judge import judge
from kd.metrics.significance import Resampling


@dataclass(frozen=True)
class Match:
    """Two systems to be compared, and the trainings that they are members of."""

    of: str  # label of the one training: student
    against: str  # of the other: control
    system: str  # student-2, or student where there is one alone
    other: str  # control-2


def matches(pairs: Mapping[str, Mapping[str, bool]], systems: Iterable[str]) -> list[Match]:
    """Member k of each training against member k of those that it is to be compared with, as far as there are both."""
    names = list(systems)
    found = []
    for of, opponents in pairs.items():
        for against in [label for label, wanted in opponents.items() if wanted]:
            ours, theirs = members(of, names), members(against, names)
            found += [Match(of, against, ours[k], theirs[k]) for k in ours if k in theirs]
    return found


def members(label: str, systems: Iterable[str]) -> dict[int, str]:
    """The members of a training among systems, by number; one that stands alone is the first."""
    found = {}
    for name in systems:
        number = re.fullmatch(rf"{re.escape(label)}(?:-([1-9]\d*))?", name)
        if number:
            found[int(number[1] or 1)] = name
    return dict(sorted(found.items()))


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
    """Scores of both, and what a paired test says of the difference; an entry a metric, for JSON.

    The p-value is the one that sacreBLEU gives, whatever other systems there are: all are resampled alike. None without
    `resampling`. Raises what `judge` raises.
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
