"""Numbers as the report prints them: the same on the page, in the terminal and in the verdict's sentences.

Nothing here decides anything: comparisons are made on unrounded values before they are printed.
"""

from __future__ import annotations

from datetime import UTC, datetime

SIGNIFICANT = 0.05
"""The level of p below which the field calls a difference significant."""


def score(value: float) -> str:
    """A corpus score or a difference of two: one decimal, as is customary."""
    return f"{value:.1f}"


def metric_score(metric: str, value: float) -> str:
    """A score of a metric: COMET's lie around 0 to 1, and four decimals are customary."""
    return f"{value:.4f}" if metric.startswith("COMET") else score(value)


def of_metric(value: float, metric: str) -> str:
    """The same for templates, in which the value comes first."""
    return metric_score(metric, value)


def signed(metric: str, gain: float) -> str:
    """A difference in a metric with its sign; `±` where print shows none."""
    size = metric_score(metric, abs(gain))
    return f"{'±' if size == metric_score(metric, 0) else '+' if gain > 0 else '−'}{size}"


def p_value(value: float) -> str:
    """Three decimals; below that only that it is smaller."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(value: float) -> str:
    """What stands after a p in a sentence: `= 0.303`, `< 0.001`."""
    printed = p_value(value)
    return printed if printed.startswith("<") else f"= {printed}"


def p_meaning(baseline: str = "") -> str:
    """What p is. "Of no difference" would read as how likely it is that there is none, which no such test says."""
    than = f" from {baseline}" if baseline else ""
    return f"how likely a difference{than} this large would be by the luck of the test segments alone"


def of_test_set(verdict: str) -> str:
    """The leakage guard's verdict on one test set, which counts fewer pairs than that on all sets together."""
    return f"{verdict} (training pairs that match this test set)" if verdict.startswith("removed") else verdict


def count(value: int) -> str:
    """With thousands set apart."""
    return f"{value:,}"


def sentence_metric(name: str) -> str:
    """What a sentence metric is called in print; one that is not known keeps its name."""
    return {"bleu": "BLEU", "chrf": "chrF2", "comet": "COMET", "qe": "COMET-QE"}.get(name, name)


def sentence_score(value: float, metric: str) -> str:
    """A sentence score: one decimal on a scale to 100, three of a model's score or somebody else's."""
    return score(value) if metric in ("bleu", "chrf", "mbr_bleu", "mbr_chrf", "mix") else f"{value:.3f}"


def percent(share: float) -> str:
    """A share of 1 in per cent."""
    return f"{100 * share:.1f}\u00a0%"


def times(ratio: float) -> str:
    """A ratio, as the number before "times"."""
    return f"{ratio:,.0f}" if ratio >= 9.95 else f"{ratio:.1f}" if ratio >= 0.95 else f"{ratio:.2f}"


LONGEST = 1_200
"""Characters of a segment that are shown: a model that never ends writes thousands."""


def shortened(text: str) -> str:
    """A segment, without what goes beyond `LONGEST` characters; how much that is stands there instead."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({count(len(text) - LONGEST)} characters more)"


def moment(iso: str) -> str:
    """A time of ISO 8601 in UTC to the minute; a date alone, or what is neither, as it is."""
    try:
        time = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if time.tzinfo else iso
