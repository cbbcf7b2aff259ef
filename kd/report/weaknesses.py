"""Weaknesses that averages hide: counts by system, scores by length, and segments side by side.

The counts are those of `kd/metrics/segments.py`; `kd evaluate` prints the same tables. Text from corpora is not
interpreted as rich's markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from kd.base.escapes import visible
from kd.base.records import record
from kd.corpora.heldout import read_heldout
from kd.corpora.lines import open_lines
from kd.metrics.segments import Behind, Kept, Weaknesses
from kd.models.systems import system_of
from kd.pipeline.model import Artifact
from kd.report.formatting import count, metric_score, percent
from kd.report.systems import VerdictRoles
from kd.report.table import Cell, Column, Table

Outputs = dict[str, dict[str, list[str]]]
"""Translations: language pair -> title of the system -> lines."""


@dataclass(frozen=True)
class WeaknessesOfPair:
    """Faults counted on the test set of a language pair."""

    systems: dict[str, Weaknesses] = field(default_factory=dict)  # by name, as in the table of results
    baseline: str = ""  # the system that the segments below are compared with
    worst: list[Behind] = field(default_factory=list)
    name: str = ""  # language pair, if there are several


@dataclass(frozen=True)
class Segment:
    """A test segment for the browser: texts and sentence scores by system."""

    number: int  # from 1
    source: str
    reference: str
    outputs: dict[str, str]
    scores: dict[str, float]


@dataclass(frozen=True)
class Segments:
    """The test segments of a language pair that can be searched and sorted on the page."""

    metric: str
    segments: list[Segment] = field(default_factory=list)
    total: int = 0  # of the test set
    pair: str = ""


@dataclass(frozen=True)
class Example:
    """A test segment with the output of every system."""

    source: str
    reference: str
    outputs: dict[str, str]  # by system
    pair: str = ""


# --- gathering --------------------------------------------------------------------------------------------------------


def weaknesses(
    counted: Mapping[str, Mapping[str, Any]], titles: Mapping[str, Mapping[str, str]], number: int, several: bool
) -> list[WeaknessesOfPair]:
    """Make one record per pair, with the `number` segments in which each system is furthest behind.

    Args:
        counted: Content of evaluate's `weaknesses.json` by pair.
        titles: Title of each system by pair and name.
        number: Number of segments to keep per system.
        several: Whether to name the language pairs.
    """
    found = []
    for pair, content in counted.items():
        shown = titles[pair]
        systems = {shown[name]: record(Weaknesses, item, name) for name, item in content["systems"].items()}
        by_system: dict[str, list[Behind]] = {}
        for item in content.get("worst", []):  # the worst of each system first
            segment = record(Behind, item, "worst")
            by_system.setdefault(segment.system, []).append(replace(segment, system=shown[segment.system]))
        worst = [item for items in by_system.values() for item in items[:number]]
        baseline = shown.get(content.get("baseline") or "", "")
        found.append(WeaknessesOfPair(systems, baseline, worst, pair if several else ""))
    return found


def segments(
    counted: Mapping[str, Mapping[str, Any]],
    titles: Mapping[str, Mapping[str, str]],
    outputs: Outputs,
    held_out: Path,
    number: int,
    several: bool,
) -> list[Segments]:
    """Make the record of the segment browser for each pair.

    Args:
        counted: Content of evaluate's `weaknesses.json` by pair; earlier versions have no scores of segments.
        titles: Title of each system by pair and name.
        outputs: First lines of each system's translation, by pair and title.
        held_out: Folder of the held-out sets.
        number: Largest number of segments per pair.
        several: Whether to name the language pairs.
    """
    found = []
    for axis, systems in outputs.items():
        scored = counted.get(axis, {}).get("segments")
        if not scored or not number:
            continue
        by_title = {titles[axis][name]: values for name, values in scored["scores"].items()}
        test = read_heldout(held_out, axis, "test")
        rows = [
            Segment(
                i + 1,
                pair.source,
                pair.target,
                {name: lines[i] for name, lines in systems.items()},
                {name: round(by_title[name][i], 1) for name in systems if name in by_title},
            )
            for i, pair in enumerate(test[:number])
        ]
        found.append(Segments(scored["metric"], rows, len(test), axis if several else ""))
    return found


def first_outputs(translations: Iterable[Artifact], hypotheses: str, number: int) -> Outputs:
    """Read the first lines of each system's translation: language pair -> title -> lines.

    Args:
        translations: Artifacts of the stage translate.
        hypotheses: Name of the file with the translations.
        number: Largest number of lines per translation.
    """
    outputs: Outputs = {}
    for artifact in translations:
        lines = list(islice(open_lines(artifact.path / hypotheses), number))
        outputs.setdefault(str(artifact.axis), {})[system_of(artifact).title] = lines
    return outputs


def examples(outputs: Outputs, held_out: Path, number: int, several: bool) -> list[Example]:
    """Return the first `number` test segments; the set is in a seeded order, so they are a random sample."""
    return [
        Example(pair.source, pair.target, {name: lines[i] for name, lines in systems.items()}, axis if several else "")
        for axis, systems in outputs.items()
        for i, pair in enumerate(read_heldout(held_out, axis, "test")[:number])
    ]


# --- tables -----------------------------------------------------------------------------------------------------------


def furthest_behind(weak: WeaknessesOfPair, roles: VerdictRoles) -> dict[str, list[Behind]]:
    """Group the segments by system, the student and its deployed form first."""
    found: dict[str, list[Behind]] = {}
    for item in weak.worst:
        found.setdefault(item.system, []).append(item)
    first = [name for name in (roles.student, roles.export) if name in found]
    return {name: found[name] for name in dict.fromkeys([*first, *found])}


def failings(systems: Mapping[str, Weaknesses]) -> Table:
    """Make the table of counts, one column per system; rows that could not be counted are left out."""
    rows = [(label, *(shown(item) for item in systems.values())) for label, shown in ROWS]
    found = [row for row in rows if any(row[1:])]
    return Table.of_rows(["Segments that are", *systems], found, title="Faults")


def by_length(systems: Mapping[str, Weaknesses], metrics: Sequence[str] | None = None) -> Table:
    """Make the table of scores by words of the reference; lengths without segments are left out.

    Args:
        systems: By name.
        metrics: Metrics to show; by default all that were scored, named in the headings.
    """
    first = next(iter(systems.values()), None)
    places = [place for place, bucket in enumerate(first.buckets) if bucket.segments] if first else []
    if first is None or not places:
        return Table()
    scored = list(dict.fromkeys(name for item in systems.values() for part in item.buckets for name in part.scores))
    wanted = scored if metrics is None else [metric for metric in metrics if metric in scored]
    if not wanted:
        return Table()
    here = [first.buckets[place] for place in places]
    words = [_span(part.shortest, part.longest) for part in here]
    columns = [
        Column("Words", [Cell(text) for text in words], numeric=False),
        Column("Segments", [Cell(count(part.segments)) for part in here]),
    ]
    for name, item in systems.items():
        for metric in wanted:
            values = [item.buckets[place].scores.get(metric) for place in places]
            heading = name if metrics else f"{name} {metric}"
            columns.append(Column.of(heading, values, partial(metric_score, metric)))
    return Table(columns, "By words of the reference")


def by_frequency(systems: Mapping[str, Weaknesses]) -> Table:
    """Make the table of word accuracy (F1) by frequency of the word, one column per system."""
    first = next(iter(systems.values()), None)
    buckets = first.words.frequencies if first else []
    headings = [_span(bucket.least, bucket.most) for bucket in buckets]
    columns = [
        Column("Frequency", [Cell(text) for text in headings], numeric=False),
        Column("Words", [Cell(count(bucket.words)) for bucket in buckets]),
    ]
    for name, item in systems.items():
        known = {bucket.least: bucket.f1 for bucket in item.words.frequencies}
        columns.append(Column.of(name, [known.get(bucket.least) for bucket in buckets], percent))
    return Table(columns, "Word accuracy by frequency") if buckets else Table()


def ngrams(item: Weaknesses) -> Table:
    """Make the table of the n-grams that a system over- and under-produces, side by side."""
    over, under = item.words.over, item.words.under
    rows = []
    for more, less in zip_longest(over, under):
        sides = ((each.text, count(each.produced), count(each.expected)) if each else [""] * 3 for each in (more, less))
        rows.append([text for side in sides for text in side])
    headings = ["Too often", "in output", "in reference", "Too rarely", "in output", "in reference"]
    return Table.of_rows(headings, rows, title="N-grams too often and too rarely", text=["Too often", "Too rarely"])


def _span(least: int, most: int | None) -> str:
    return f"{count(least)} and more" if most is None else count(least) if least == most else f"{least}–{count(most)}"


def behind(segments: Sequence[Behind], baseline: str) -> Group:
    """Render complete segments for the terminal, one below the other."""
    parts = [Text("Furthest behind the baseline\n", style="italic")]
    for item in segments:
        here, there = (metric_score(item.metric, value) for value in (item.score, item.baseline_score))
        parts.append(
            Text(f"line {item.segment}: {visible(item.system)} {here} {item.metric}, {baseline} {there}", "bold")
        )
        several = len(item.references) > 1
        texts = [("source", item.source)]
        texts += [(f"reference {number}" if several else "reference", text)
                  for number, text in enumerate(item.references or [item.reference], 1)]  # fmt: skip
        texts += [(baseline, item.baseline), (item.system, item.hypothesis)]
        parts += [Text(f"  {visible(name)}: {visible(text)}") for name, text in texts if text is not None]
    return Group(*parts)


def _number(value: int | None) -> str:
    return "" if value is None else count(value)


def _guarded(item: Weaknesses, guard: str) -> str:
    return _number(item.guards.get(guard)) if item.guards else ""


def _of_short(item: Weaknesses, value: int | None) -> str:
    return _number(value) if item.short else ""  # a test set without such inputs has no count


def _kept(value: Kept | None) -> str:
    if value is None or not value.expected:
        return ""
    return f"{percent(value.kept / value.expected)} of {count(value.expected)}"


ROWS: list[tuple[str, Callable[[Weaknesses], str]]] = [
    ("empty", lambda item: _number(item.empty)),
    ("copies of the source", lambda item: _number(item.copied)),
    ("far longer than the references", lambda item: _number(item.runaway)),
    ("in another language", lambda item: _guarded(item, "language")),
    ("repeating themselves", lambda item: _guarded(item, "repetition")),
    ("of a length unlike the source's", lambda item: _guarded(item, "length")),
    ("of an input of 1–3 words", lambda item: _of_short(item, item.short)),
    ("  of those, exactly a reference", lambda item: _of_short(item, item.short_exact)),
    ("  of those, far too long", lambda item: _of_short(item, item.short_runaway)),
    ("kept: numbers", lambda item: _kept(item.numbers)),
    ("kept: placeholders, tags, addresses", lambda item: _kept(item.placeholders)),
    ("kept: names and codes", lambda item: _kept(item.names)),
]
