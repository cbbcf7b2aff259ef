"""Read two aligned text files, the plainest form of parallel text."""

from __future__ import annotations

from collections.abc import Iterator

from kd.corpora.archives import Member
from kd.corpora.lines import Broken, BrokenRow, PathLike, check_file, open_marked, open_text, unequal

Sides = tuple[PathLike | Member, ...]


def read_plain(
    source: PathLike | Member,
    target: PathLike | Member | None,
    *further: PathLike | Member,
    broken: Broken | None = None,
) -> Iterator[tuple[str, ...]]:
    """Yield the sentence pairs of two files (.gz, .zst, .xz and .bz2 are decompressed), one sentence a line.

    Trailing lines that are empty in every file are left out, even if only some of the files have them.

    Args:
        source: The file of the source language.
        target: The file of the target language; None for text without translations, whose targets are empty.
        further: Files with one additional value per line, such as scores.
        broken: Receives each row with an unreadable line; without it, such a row raises BrokenRow.

    Raises:
        UserError: Immediately if a file is missing; while reading, for files of unequal length, with their counts; and
            the errors of `open_text`.
    """
    places = tuple(check_file(path) for path in (source, target, *further) if path is not None)
    rows = _without_blank_end(_rows(places, broken))
    return rows if target is not None else ((row[0], "", *row[1:]) for row in rows)


def _without_blank_end(rows: Iterator[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    blank: list[tuple[str, ...]] = []
    for row in rows:
        if not any(row):
            blank.append(row)
            continue
        if blank:
            yield from blank
            blank = []
        yield row


def _rows(places: Sides, broken: Broken | None) -> Iterator[tuple[str, ...]]:
    streams = [open_text(place) if broken is None else open_marked(place) for place in places]
    rows = zip(*streams, strict=True)
    try:
        if broken is None:
            yield from rows
        else:
            yield from _readable(rows, broken)
        return
    except ValueError:  # of `strict` alone: reading raises none
        pass
    counts = {str(place): _lines_and_text(place) for place in places}
    shortest = min(lines for lines, _ in counts.values())
    if any(text > shortest for _, text in counts.values()):
        raise unequal({name: lines for name, (lines, _) in counts.items()})


def _readable(rows: Iterator[tuple[str | BrokenRow, ...]], broken: Broken) -> Iterator[tuple[str, ...]]:
    for row in rows:
        bad = next((line for line in row if isinstance(line, BrokenRow)), None)
        if bad is None:
            yield row  # type: ignore[misc]  # every line is text
        else:
            broken(bad, [line.text if isinstance(line, BrokenRow) else line for line in row])


def _lines_and_text(place: PathLike | Member) -> tuple[int, int]:
    """Return the number of lines of a file, and the number of its last non-empty line."""
    lines = text = 0
    for lines, line in enumerate(open_marked(place), 1):
        text = lines if line else text
    return lines, text
