"""Score systems on one test set, for `kd evaluate` and the stage `evaluate`.

The scores of sacreBLEU's metrics and of COMET form one list, with intervals and a paired test against a baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kd.base.errors import UserError
from kd.metrics import comet
from kd.metrics.comet import CometScores
from kd.metrics.corpus import DEFAULTS, Options, References, corpus_scores
from kd.metrics.significance import Resampling, Significance, intervals, paired_test


def judge(
    systems: Mapping[str, Sequence[str]],
    references: References,
    metrics: Sequence[str] = ("bleu", "chrf"),
    *,
    comet_scores: Sequence[CometScores] = (),
    baseline: str | None = None,
    resampling: Resampling | None = None,
    options: Options = DEFAULTS,
) -> list[Significance]:
    """Score every system with every metric; systems in the order given, the baseline first.

    With a baseline, every other system is tested against it on the same segments. Without `resampling` there are
    neither tests nor intervals.

    Raises:
        UserError: The baseline, a metric or the test is unknown, outputs differ in length, or a number is out of range.
    """
    if baseline is not None and baseline not in systems:
        raise UserError(
            f"There is no system {baseline} to compare with (the baseline).", f"Choose one of: {', '.join(systems)}."
        )
    found: list[Significance] = []
    if metrics and resampling is None:
        for name, lines in systems.items():
            scores = corpus_scores(lines, references, metrics, options)
            found += [Significance(name, s.metric, s.value, None, None, None, s.signature) for s in scores]
    elif metrics and baseline is not None and len(systems) > 1:
        found += paired_test(systems, baseline, references, metrics, resampling, options)
    elif metrics:
        found += intervals(systems, references, metrics, resampling, options)
    for scores_of_model in comet_scores:
        found += comet.compare(scores_of_model, baseline, resampling)
    order = {name: place for place, name in enumerate(systems)}
    if baseline is not None:
        order[baseline] = -1
    return sorted(found, key=lambda item: order[item.system])
