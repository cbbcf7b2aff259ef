"""Two aligned plain files, compressed or not, as pairs of texts."""

from __future__ import annotations

from collections.abc import Iterator

from kd.corpora.lines import PathLike, open_aligned


def read_plain(source: PathLike, target: PathLike) -> Iterator[tuple[str, str]]:
    """Yield the sentence pairs of two files (.gz, .zst, .xz and .bz2 are decompressed), one sentence a line.

    Raises UserError at once if a file is missing, and while reading for invalid UTF-8, a truncated archive, sides of
    unequal length, with both counts.
    """
    return ((left, right) for left, right in open_aligned([source, target]))
