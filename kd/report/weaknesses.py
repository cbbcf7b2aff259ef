"""Weaknesses that averages hide: tables of counts and of scores by length, and the segments furthest behind.

The numbers are those of `kd/metrics/segments.py`; text from corpora is not read as rich's markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rich.console import Group
from rich.text import Text

from kd.base.escapes import visible
from kd.metrics.segments import Behind, Kept, Weaknesses
from kd.report.formatting import count, metric_score, percent
from kd.report.table import Cell, Column, Table


def failings(systems: Mapping[str, Weaknesses]) -> Table:
    """Make the table of counts, one column per system; rows that could not be counted are left out."""
    rows = [(label, *(shown(item) for item in systems.values())) for label, shown in ROWS]
    found = [row for row in rows if any(row[1:])]
    return Table.of_rows(["Segments that are", *systems], found, title="What goes wrong")


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
    words = [f"{part.shortest}–{part.longest}" if part.longest else f"{part.shortest} and more" for part in here]
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


def behind(segments: Sequence[Behind], baseline: str) -> Group:
    """Render segments for the terminal, one below the other, whole."""
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
    return _number(value) if item.short else ""  # a test set without such inputs says nothing of them


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
