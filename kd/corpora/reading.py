"""Read a corpus of a recipe: find or fetch its files, and count the rows that its reader leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kd.base.errors import UserError
from kd.base.urls import pass_on
from kd.corpora.archives import lacks_end_mark
from kd.corpora.download import Say, fetch, is_url
from kd.corpora.hub import fetch_hub, is_hub, listing
from kd.corpora.lines import Broken, BrokenRow, BrokenText
from kd.corpora.places import Key, Place, align, find, find_aligned
from kd.corpora.skips import Skips
from kd.recipe.schema import CorpusConfig, OnError, SourceConfig, Use

Row = tuple[str, ...]  # source, target, and the values of the further columns
UNKNOWN = "unknown"  # licence
DOWNLOADS = "downloads"  # below corpus.cache
# What readers count beside the pairs that they leave out
NOTED = frozenset(("line breaks made spaces", "several variants of a language", "files without the pair"))


def is_remote(text: str) -> bool:
    """Return whether a path has to be fetched rather than found on disk."""
    return is_url(text) or is_hub(text)


@dataclass
class Reading:
    """The reading of a corpus for one language pair, with the counts and warnings of its reader."""

    name: str
    source: SourceConfig
    config: CorpusConfig
    left: str  # codes of the languages
    right: str
    say: Say = lambda *_: None
    counts: Counter[str] = field(default_factory=Counter)  # what was left out or changed, by reason
    broken: list[str] = field(default_factory=list)  # files that were read up to some place only
    skips: Skips = field(default_factory=Skips)  # broken rows that were left out
    warnings: list[str] = field(default_factory=list)  # sentences about suspicious files

    @property
    def cache(self) -> Path:
        """Return the folder of fetched files."""
        return Path(self.config.cache, DOWNLOADS)

    def path(self, pattern: str) -> Path:
        """Return a path of the recipe, with the languages' codes filled in."""
        # Not str.format: a path may hold braces of its own.
        text = pattern.replace("{source}", self.left).replace("{target}", self.right)
        return Path(self.config.root or ".", Path(text).expanduser())

    def patterns(self) -> dict[str, str]:
        """Return the paths and URLs of the recipe, by the names of source, target and scores."""
        sides = {"source": self.source.source, "target": self.source.target}
        # Sorted like their columns: the order of the files assigns them to columns.
        given = {name: text for name, text in sides.items() if text} | dict(sorted(self.source.scores.items()))
        return {name: self._filled(text) for name, text in given.items()}

    def _filled(self, text: str) -> str:
        """Return a path or URL of the recipe for this language pair."""
        filled = text.replace("{source}", self.left).replace("{target}", self.right)
        if is_url(text):
            pass_on(text, filled)  # secrets are stored for the URL as the recipe has it
        return filled

    def local(self) -> list[dict[str, Place]]:
        """Return the groups of local files that belong together; fetches nothing."""
        patterns = {name: self.path(text) for name, text in self.patterns().items() if not is_remote(text)}
        return find_aligned(patterns) if patterns else []

    def fetched(self) -> list[dict[str, Place]]:
        """Return the groups of files that belong together; downloads those given by URL."""
        patterns = self.patterns()
        found = {name: self._found(name, text) for name, text in patterns.items()}
        if any(map(is_url, patterns.values())) and any(len(files) > 1 for files in found.values()):
            raise UserError(f"corpus.sources.{self.name} mixes wildcards and a URL.", "Give each file as a corpus.")
        return align(found, patterns)

    def _found(self, name: str, text: str) -> Mapping[Key, Place]:
        if is_hub(text):
            return fetch_hub(text, self.config.cache)
        if not is_url(text):
            return find(self.path(text))
        wanted = self.source.sha256
        return {(): fetch(text, self.cache, {"sha256": wanted[name]} if name in wanted else {}, say=self.say)}

    def licence(self) -> str:
        """Return the licence that the recipe states, else the licence on the data set's card on the hub."""
        addresses = [text for text in self.patterns().values() if is_hub(text)]
        if self.source.licence != UNKNOWN or not addresses:
            return self.source.licence
        return listing(addresses[0], self.config.cache).licence or UNKNOWN

    @property
    def on_broken_row(self) -> Broken | None:
        """Return the callback for broken rows if corpus.on_error skips them, else None."""
        if self.config.on_error is not OnError.skip:
            return None
        if self.source.use is Use.source:  # a reader of two sides gives the source in place of the target as well
            return lambda error, texts: self.skips.take(error, texts[:1])
        return self.skips.take

    def tolerate(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows. With `corpus.on_error=keep`, stop where the text is broken."""
        try:
            yield from rows
        except BrokenText as error:
            if self.config.on_error is not OnError.keep:
                skip = "corpus.on_error=skip to leave out such rows, or " if isinstance(error, BrokenRow) else ""
                hint = f"{error.hint} Or set {skip}corpus.on_error=keep to use what comes before that place."
                raise BrokenText(error.problem, hint) from None
            self.broken.append(error.problem)

    def check_archives(self, files: Iterable[Path]) -> None:
        """Warn about tar archives that may have been cut off between two of their files."""
        self.warnings += [
            f"{path} has no end mark: it may have been cut off between two of its files"
            for path in files
            if lacks_end_mark(path)
        ]
