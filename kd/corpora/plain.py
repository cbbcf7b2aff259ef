"""Reads two aligned text files, the plainest form of parallel text."""

from __future__ import annotations

from collections.abc import Iterator

from kd.corpora.archives import Member
from kd.corpora.lines import Broken, BrokenRow, PathLike, check_file, open_marked, open_text, unequal

Sides = tuple[PathLike | Member, ...]


def read_plain(
    source: PathLike | Member, target: PathLike | Member, *further: PathLike | Member, broken: Broken | None = None
) -> Iterator[tuple[str, ...]]:
    """Yield the sentence pairs of two files (.gz, .zst, .xz and .bz2 are decompressed), one sentence a line.

    Lines at the end that are empty in every file are left out, also where only some of the files have them.

    Args:
        source: The file of the source language.
        target: The file of the target language.
        further: Files with one value a line, such as scores, that follow the pair.
        broken: Takes each row in which a line cannot be read; without it such a row raises BrokenRow.

    Raises:
        UserError: At once if a file is missing; in reading for files of unequal length, with their counts, and what
            `open_text` raises.
    """
    places = tuple(check_file(path) for path in (source, target, *further))
    return _without_blank_end(_rows(places, broken))


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
    """Return how many lines a file has, and the number of the last one that is not empty."""
    lines = text = 0
    for lines, line in enumerate(open_marked(place), 1):
        text = lines if line else text
    return lines, text
