"""Format numbers identically on the page, on the card, in tables and in the verdict's sentences.

Comparisons are made on unrounded values, before they are printed.
"""

from __future__ import annotations

from datetime import UTC, datetime

SIGNIFICANT = 0.05
"""The level of p below which the field calls a difference significant."""


def score(value: float) -> str:
    """Format a corpus score or a difference of two with one decimal, as is customary."""
    return f"{value:.1f}"


def metric_score(metric: str, value: float) -> str:
    """Format a metric's score: four decimals for COMET, whose scores are around 0 to 1, and one for other metrics."""
    return f"{value:.4f}" if metric.startswith("COMET") else score(value)


def of_metric(value: float, metric: str) -> str:
    """Format a score like `metric_score`, with the arguments swapped: template filters pass the value first."""
    return metric_score(metric, value)


def signed(metric: str, gain: float) -> str:
    """Format a difference in a metric with its sign; `±` if it rounds to zero."""
    size = metric_score(metric, abs(gain))
    return f"{'±' if size == metric_score(metric, 0) else '+' if gain > 0 else '−'}{size}"


def p_value(value: float) -> str:
    """Format a p-value: three decimals, or `< 0.001`."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(value: float) -> str:
    """Format a p-value after the letter p in a sentence: `= 0.303`, `< 0.001`."""
    printed = p_value(value)
    return printed if printed.startswith("<") else f"= {printed}"


def p_meaning(baseline: str = "") -> str:
    """Return a definition of p, which must not suggest that p is the probability of no difference."""
    than = f" from {baseline}" if baseline else ""
    return f"how likely a difference{than} this large would be by the luck of the test segments alone"


def of_test_set(verdict: str) -> str:
    """Return the leakage guard's result on one test set; if pairs were removed, add that they match this set."""
    return f"{verdict} (training pairs that match this test set)" if verdict.startswith("removed") else verdict


DISTURBED_MEANING = "other processes used the machine in every repetition; repeat the measurement on an idle machine"


def d3_format(metric: str) -> str:
    """Return the format of a metric's scores in figures, in the notation of d3."""
    return ".4f" if metric.startswith("COMET") else ".2f"


def count(value: int) -> str:
    """Format a whole number with thousands separators."""
    return f"{value:,}"


def sentence_metric(name: str) -> str:
    """Return the printed name of a sentence metric; an unknown one keeps its name."""
    return {"bleu": "BLEU", "chrf": "chrF2", "comet": "COMET", "qe": "COMET-QE"}.get(name, name)


def sentence_score(value: float, metric: str) -> str:
    """Format a sentence score: one decimal on a scale to 100, three for scores of models."""
    return score(value) if metric in ("bleu", "chrf", "mbr_bleu", "mbr_chrf", "mix") else f"{value:.3f}"


def percent(share: float) -> str:
    """Format a share of 1 in per cent."""
    return f"{100 * share:.1f}\u00a0%"


def times(ratio: float) -> str:
    """Format a ratio as the number before "times"."""
    return f"{ratio:,.0f}" if ratio >= 9.95 else f"{ratio:.1f}" if ratio >= 0.95 else f"{ratio:.2f}"


LONGEST = 1_200
"""Characters of a segment that are shown: a runaway output has thousands."""


def shortened(text: str) -> str:
    """Cut a segment after `LONGEST` characters and state how many are missing."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({count(len(text) - LONGEST)} characters more)"


def moment(iso: str) -> str:
    """Format an ISO 8601 time in UTC to the minute; other text, such as a date, stays unchanged."""
    try:
        time = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if time.tzinfo else iso
