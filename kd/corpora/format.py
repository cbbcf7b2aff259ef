"""The interface of the readers of corpora: one class for each file format, all in `kd.corpora.formats`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from kd.base.urls import mask
from kd.corpora.places import inside_archive, on_disk
from kd.corpora.reading import Reading, Row, is_remote
from kd.recipe.schema import SourceConfig


class Format(ABC):
    """The reader of one corpus format."""

    takes: ClassVar[frozenset[str]]  # settings of SourceConfig, beside those of every format
    source_only: ClassVar[bool] = True  # whether `use: source` can read its source side alone

    @abstractmethod
    def check(self, where: str, source: SourceConfig) -> None:
        """Raise UserError for settings that cannot work. `where`: the corpus' key in the recipe."""

    @abstractmethod
    def rows(self, reading: Reading) -> Iterator[Row]:
        """Yield the pairs, with the values of the additional columns. May fetch files."""

    def files(self, reading: Reading) -> list[Path]:
        """Return the raw files on this disk, whose content is part of the corpus' identity. Fetches nothing."""
        return list(dict.fromkeys(on_disk(place) for files in reading.local() for place in files.values()))

    def columns(self, source: SourceConfig) -> tuple[str, ...]:
        """Return the names of the additional columns."""
        return ()

    def identity(self, reading: Reading) -> dict[str, object]:
        """Return the identity of the corpus, apart from its settings and the content of its files. Reads no file.

        These are the fetched files, and the paths inside archives, since the hash of an archive covers it as a whole.
        """
        source = reading.source
        named = {"source": source.source, "target": source.target, **source.scores}
        given = {name: text for name, text in named.items() if text}
        remote = {name: source.sha256.get(name, mask(text)) for name, text in given.items() if is_remote(text)}
        local = {name: reading.path(text) for name, text in given.items() if not is_remote(text)}
        inside = {name: inner for name, path in local.items() if (inner := inside_archive(path))}
        return {**({"fetched": remote} if remote else {}), **({"inside": inside} if inside else {})}
