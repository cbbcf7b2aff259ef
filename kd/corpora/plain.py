"""Two aligned plain files, compressed or not, as pairs of texts."""

from __future__ import annotations

from collections.abc import Iterator

from kd.corpora.archives import Member
from kd.corpora.lines import PathLike, open_aligned


def read_plain(
    source: PathLike | Member, target: PathLike | Member, *further: PathLike | Member
) -> Iterator[tuple[str, ...]]:
    """Yield the sentence pairs of two files (.gz, .zst, .xz and .bz2 are decompressed), one sentence a line.

    further: files with one value a line, such as scores, that follow the pair. Raises UserError at once if a file is
    missing, and while reading for invalid UTF-8, a truncated archive, files of unequal length, with their counts.
    """
    return open_aligned([source, target, *further])
