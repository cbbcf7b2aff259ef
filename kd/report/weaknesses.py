"""What goes wrong beyond averages, for the terminal: counts by system, scores by length, segments furthest behind.

The numbers are those of `kd/metrics/segments.py`; text from corpora is shown without rich's markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kd.base.escapes import visible
from kd.metrics.segments import Behind, Kept, Weaknesses
from kd.report.formatting import count, metric_score, percent


def counts(systems: Mapping[str, Weaknesses]) -> Table:
    """One column a system; what could not be counted is left out."""
    table = Table(title="What goes wrong", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("segments that are")
    for name in systems:
        table.add_column(Text(visible(name)), justify="right", overflow="fold")
    for label, shown in ROWS:
        cells = [shown(item) for item in systems.values()]
        if any(cells):
            table.add_row(label, *cells)
    return table


def by_length(systems: Mapping[str, Weaknesses]) -> Table:
    """Scores of the segments whose reference has so many words."""
    metrics = list(dict.fromkeys(name for item in systems.values() for part in item.buckets for name in part.scores))
    table = Table(title="By words of the reference", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("words", "segments"):
        table.add_column(heading, justify="right")
    for name in systems:
        for metric in metrics:
            table.add_column(Text(f"{visible(name)}\n{metric}"), justify="right", overflow="fold")
    for rows in zip(*(item.buckets for item in systems.values()), strict=True):
        first = rows[0]
        words = f"{first.shortest}–{first.longest}" if first.longest else f"{first.shortest} and more"
        scores = [metric_score(name, row.scores[name]) if row.scores else "" for row in rows for name in metrics]
        table.add_row(words, count(first.segments), *scores)
    return table


def behind(segments: Sequence[Behind], baseline: str) -> Group:
    """Segments, one below the other, long ones whole."""
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
