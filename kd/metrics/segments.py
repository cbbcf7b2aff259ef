"""Scores of single segments and of length buckets, and counts of typical faults of students.

Faults are judged against the references: a copy that the reference makes as well is not a fault.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sacrebleu.metrics.bleu import BLEU

from kd.corpora.filters.numbers import numbers_of, unmatched
from kd.corpora.guards import NAMES, Guards
from kd.corpora.variants import PROTECTED
from kd.metrics.corpus import DEFAULTS, Options, References, corpus_scores, present, sacrebleu_metrics
from kd.metrics.words import WordReport, frequencies, word_report, words

BUCKETS = ((1, 3), (4, 10), (11, 20), (21, 40), (41, None))
"""Lengths of a segment in words (`words`), both bounds included; None: no upper bound."""

SHORT_WORDS = 3  # a source of at most this many words is a short input
RUNAWAY_RATIO, RUNAWAY_SLACK = 2.0, 20  # characters: longer than 2 x (the longest reference + 20)

_NAME_OR_CODE = re.compile(r"[^\W_][\w'’-]*[^\W_]")  # two characters and more


@dataclass(frozen=True)
class Kept:
    """Number of items that source and every reference share, and how many of them the hypotheses keep."""

    expected: int = 0
    kept: int = 0
    segments: int = 0  # that lack some of them


@dataclass(frozen=True)
class Bucket:
    """The segments whose first reference has a length in the given range."""

    shortest: int  # words
    longest: int | None
    segments: int
    scores: dict[str, float] = field(default_factory=dict)  # by metric, of a corpus of these segments alone


@dataclass(frozen=True)
class Weaknesses:
    """Counts over one system's segments; counts that need the source are None without it."""

    segments: int
    empty: int  # blank hypotheses, where no reference is blank
    runaway: int  # much longer than every reference
    guards: dict[str, int] | None  # that a guard trips (kd/corpora/guards.py) and no reference does, by guard
    copied: int | None  # the source itself, which no reference is
    short: int | None  # inputs of one to three words
    short_exact: int | None  # of those, equal to a reference
    short_runaway: int | None  # of those, runaway
    numbers: Kept | None
    placeholders: Kept | None
    names: Kept | None  # words with a capital letter or digit that the references keep as the source has them
    buckets: list[Bucket] = field(default_factory=list)
    words: WordReport = field(default_factory=WordReport)


@dataclass(frozen=True)
class Behind:
    """A segment in which a system falls behind the baseline."""

    system: str
    segment: int  # from 1: the line
    metric: str
    score: float
    baseline_score: float
    source: str | None
    reference: str  # the first
    hypothesis: str
    baseline: str
    references: list[str] = field(default_factory=list)  # all of them


def segment_scores(
    systems: Mapping[str, Sequence[str]], references: References, metrics: Iterable[str], options: Options = DEFAULTS
) -> dict[str, dict[str, list[float]]]:
    """Return sacreBLEU's sentence scores, one per segment, by metric and system. BLEU has effective order."""
    found: dict[str, dict[str, list[float]]] = {}
    by_segment = [present(texts) for texts in zip(*references, strict=True)]
    for metric in sacrebleu_metrics(metrics, options).values():
        if isinstance(metric, BLEU):
            metric.effective_order = True
        for system, lines in systems.items():
            scores = [metric.sentence_score(line, texts) for line, texts in zip(lines, by_segment, strict=True)]
            found.setdefault(scores[0].name, {})[system] = [score.score for score in scores]
    return found


def weaknesses(
    hypotheses: Sequence[str],
    references: References,
    sources: Sequence[str] | None = None,
    *,
    metrics: Iterable[str] = ("bleu", "chrf"),
    options: Options = DEFAULTS,
    guards: Guards | None = None,
    known: Mapping[str, int] | None = None,
) -> Weaknesses:
    """Count the faults in a system's output.

    Args:
        hypotheses: One per segment.
        references: One or several texts of one line per segment; a blank line beside others means no reference.
        sources: Source segments; without them, faults that need the source are not counted.
        metrics: Metrics for the scores by length.
        options: Options of those metrics.
        guards: Guards to count if there is a source.
        known: Frequency of each word in the training text; by default, in the references.
    """
    by_segment = [present(texts) for texts in zip(*references, strict=True)]
    runaway = [_runaway(line, texts) for line, texts in zip(hypotheses, by_segment, strict=True)]
    about_sources = _about_sources(hypotheses, by_segment, sources, runaway) if sources is not None else {}
    return Weaknesses(
        segments=len(hypotheses),
        empty=sum(
            not line.strip() and all(map(str.strip, texts)) for line, texts in zip(hypotheses, by_segment, strict=True)
        ),
        runaway=sum(runaway),
        guards=_tripped(hypotheses, by_segment, sources, guards) if guards and sources is not None else None,
        buckets=_buckets(hypotheses, references, list(metrics), options),
        words=word_report(
            hypotheses,
            by_segment,
            frequencies(references[0]) if known is None else known,
            "the references" if known is None else "the training text",
        ),
        **{name: about_sources.get(name) for name in _ABOUT_SOURCES},  # type: ignore[arg-type]
    )


_ABOUT_SOURCES = ("copied", "short", "short_exact", "short_runaway", "numbers", "placeholders", "names")


def _about_sources(
    hypotheses: Sequence[str], by_segment: Sequence[tuple[str, ...]], sources: Sequence[str], runaway: Sequence[bool]
) -> dict[str, int | Kept]:
    stripped = [[text.strip() for text in texts] for texts in by_segment]
    rows = list(zip(sources, (line.strip() for line in hypotheses), stripped, runaway, strict=True))
    short = [row for row in rows if 1 <= len(words(row[0])) <= SHORT_WORDS]
    return {
        "copied": sum(bool(line) and line == source.strip() and line not in texts for source, line, texts, _ in rows),
        "short": len(short),
        "short_exact": sum(line in texts for _, line, texts, _ in short),
        "short_runaway": sum(ran for *_, ran in short),
        "numbers": _kept(hypotheses, by_segment, sources, _kept_numbers),
        "placeholders": _kept(hypotheses, by_segment, sources, _shared(_placeholders)),
        "names": _kept(hypotheses, by_segment, sources, _shared(_names)),
    }


def worst(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    metric: str,
    baseline: str,
    systems: Mapping[str, Sequence[str]],
    references: References,
    sources: Sequence[str] | None,
    number: int,
) -> list[Behind]:
    """Return for each system the segments in which it is furthest behind the baseline, the worst first."""
    sign = -1 if metric == "TER" else 1
    found = []
    for system in systems:
        if system == baseline:
            continue
        here, there = scores[metric][system], scores[metric][baseline]
        order = sorted(range(len(here)), key=lambda i: (sign * (here[i] - there[i]), i))
        found += [
            Behind(system, i + 1, metric, here[i], there[i], sources[i] if sources else None,
                   references[0][i], systems[system][i], systems[baseline][i], [text[i] for text in references])
            for i in order[:number]
            if sign * (here[i] - there[i]) < 0
        ]  # fmt: skip
    return found


# --- faults ----------------------------------------------------------------------------------------------------------


def _runaway(line: str, texts: Iterable[str]) -> bool:
    return len(line.strip()) > RUNAWAY_RATIO * (max(len(text.strip()) for text in texts) + RUNAWAY_SLACK)


def _tripped(
    hypotheses: Sequence[str], by_segment: Sequence[tuple[str, ...]], sources: Sequence[str], guards: Guards
) -> dict[str, int]:
    """Count the segments by the first guard that they trip, unless a reference trips it too."""
    counts: Counter[str] = Counter()
    for line, texts, source in zip(hypotheses, by_segment, sources, strict=True):
        name = guards.check(source, line)
        if name is not None and all(guards.check(source, text) != name for text in texts):
            counts[name] += 1
    return {name: counts[name] for name in NAMES}


def _kept_numbers(source: str, text: str) -> Counter[Hashable]:
    """Return the source's numbers that a text has, compared like the filter `numbers`: 1,000.5 equals 1.000,5."""
    missing, _ = unmatched(source, text)
    there = Counter[Hashable](number.value for number in numbers_of(source) if number.digits)
    return there - Counter(number.value for number in missing)


def _shared(items: Callable[[str], Counter[Hashable]]) -> Callable[[str, str], Counter[Hashable]]:
    """Return a function that finds the items of a source that a text has as well."""
    return lambda source, text: items(source) & items(text)


def _placeholders(text: str) -> Counter[Hashable]:
    return Counter(PROTECTED.findall(text))


def _names(text: str) -> Counter[Hashable]:
    """Count the words with a letter and, in addition, a capital or a digit."""
    found = _NAME_OR_CODE.findall(PROTECTED.sub(" ", text))
    return Counter(
        word for word in found if any(map(str.isalpha, word)) and any(char.isupper() or char.isdigit() for char in word)
    )


def _kept(
    hypotheses: Sequence[str],
    by_segment: Sequence[tuple[str, ...]],
    sources: Sequence[str],
    items_kept: Callable[[str, str], Counter[Hashable]],
) -> Kept:
    """Count the items that the source and every reference share, and how many of them the hypotheses keep.

    Args:
        hypotheses: One per segment.
        by_segment: The references of each segment.
        sources: One per segment.
        items_kept: Returns the items of a source that a text has as well.
    """
    expected = kept = lacking = 0
    for line, texts, source in zip(hypotheses, by_segment, sources, strict=True):
        wanted = items_kept(source, texts[0])
        for text in texts[1:]:
            wanted &= items_kept(source, text)
        if wanted:
            here = (wanted & items_kept(source, line)).total()
            expected += wanted.total()
            kept += here
            lacking += here < wanted.total()
    return Kept(expected, kept, lacking)


def _buckets(hypotheses: Sequence[str], references: References, metrics: list[str], options: Options) -> list[Bucket]:
    lengths = [len(words(text)) for text in references[0]]
    found = []
    for shortest, longest in BUCKETS:
        inside = [i for i, length in enumerate(lengths) if shortest <= length <= (longest or length)]
        scores = {}
        if inside and metrics:
            some = [[text[i] for i in inside] for text in references]
            made = corpus_scores([hypotheses[i] for i in inside], some, metrics, options)
            scores = {score.metric: score.value for score in made}
        found.append(Bucket(shortest, longest, len(inside), scores))
    return found
