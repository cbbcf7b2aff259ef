"""Read and write held-out sets: plain text files such as `FOLDER/en-de/test.source`.

The folder also holds the pairs' ids, and an index with each set's origins, drawing method, counts and hashes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.corpora.ids import Origin, Pair, prefix_of
from kd.corpora.index import INDEX, Damaged, file_entry, read_index, verify_file, write_index
from kd.corpora.lines import PathLike, open_aligned
from kd.corpora.writing import LineWriter
from kd.models.languages import primary

FORMAT, VERSION = "kd.heldout", 2
COLUMNS = ("id", "source", "target")


def write_heldout(
    folder: PathLike,
    pair: str,
    sets: Mapping[str, Iterable[Pair]],
    languages: tuple[str, str] | None = None,
    side: str = "source",
    drawn: Mapping[str, Mapping[str, Any]] | None = None,
    origins: Iterable[Origin] = (),
) -> dict[str, int]:
    """Write the sets (`dev`, `test`) of a language pair; returns the number of pairs of each.

    Args:
        folder: The folder of the sets of all language pairs.
        pair: Name of the language pair.
        sets: The pairs of each set.
        languages: Codes of source and target; those of the pair's name unless given.
        side: The side whose held-out sentences occur in no training corpus.
        drawn: The method by which each set was drawn; missing for sets given as files.
        origins: The corpora of the pairs; the index states how many pairs came from each.
    """
    place = Path(folder) / pair
    place.mkdir(parents=True, exist_ok=True)
    by_prefix = {origin.prefix: origin for origin in origins}
    entries: dict[str, dict[str, Any]] = {}
    for name, pairs in sets.items():
        counts: Counter[int] = Counter()
        with (
            LineWriter(place / f"{name}.id") as ids,
            LineWriter(place / f"{name}.source") as sources,
            LineWriter(place / f"{name}.target") as targets,
        ):
            for item in pairs:
                ids.write(str(item.id))
                sources.write(item.source)
                targets.write(item.target)
                counts[prefix_of(item.id)] += 1
        files = {column: file_entry(writer) for column, writer in zip(COLUMNS, (ids, sources, targets), strict=True)}
        entries[name] = {
            "lines": ids.lines,
            "drawn": dict(drawn[name]) if drawn and name in drawn else None,
            "origins": [
                {**origin.to_json(), "lines": counts[prefix]}
                for prefix, origin in sorted(by_prefix.items(), key=lambda item: item[1].name)
                if counts[prefix]
            ],
            "files": files,
        }
    source, target = languages or (pair.partition("-")[0], pair.partition("-")[2])
    write_index(
        place, FORMAT, VERSION, {"pair": pair, "source": source, "target": target, "side": side, "sets": entries}
    )
    return {name: entry["lines"] for name, entry in entries.items()}


def heldout_path(folder: PathLike, pair: str, name: str, column: str) -> Path:
    """Return the file of a set's `id`, `source` or `target`."""
    return Path(folder) / pair / f"{name}.{column}"


def read_heldout(folder: PathLike, pair: str, name: str) -> list[Pair]:
    """Read a set. Raises UserError if it does not exist, Damaged, with file and line, if it is incomplete."""
    sets = read_index(Path(folder) / pair, FORMAT, VERSION)["sets"]
    if name not in sets:
        raise UserError(f"{Path(folder) / pair} holds no set {name}.", f"It holds: {', '.join(sets) or 'none'}.")
    paths = [heldout_path(folder, pair, name, column) for column in COLUMNS]
    try:
        rows = list(open_aligned(paths))
    except UserError as error:
        raise Damaged(error.problem) from None
    if len(rows) != sets[name]["lines"]:
        raise Damaged(f"{paths[0]} ends after line {len(rows)}, but its index states {sets[name]['lines']} lines.")
    return [Pair(_id(text, paths[0], line), source, target) for line, (text, source, target) in enumerate(rows, 1)]


@dataclass(frozen=True)
class HeldOutSet:
    """A set as its index describes it; a set given as several corpora counts as several sets."""

    pair: str  # language pair, as the recipe names it
    use: str  # dev | test
    languages: tuple[str, str]
    side: str  # source | target: the side whose sentences are in no training corpus, if the set was drawn
    drawn: bool  # from the training corpora; other sets came as files
    corpus: str  # its name in the recipe; empty for a set that was drawn
    pairs: list[Pair]

    @property
    def name(self) -> str:
        """Return a display name: `en-de test`, `en-de test (newstest2018)`."""
        return f"{self.pair} {self.use}" + (f" ({self.corpus})" if self.corpus else "")

    def texts(self) -> set[str]:
        """Return the sentences on the side that is held out."""
        return {getattr(pair, self.side) for pair in self.pairs}

    def sides_in(self, code: str) -> list[str]:
        """Return the sides in a language, by its primary code."""
        return [side for side, each in zip(COLUMNS[1:], self.languages, strict=True) if primary(each) == code]


def read_sets(folder: PathLike) -> Iterator[HeldOutSet]:
    """Yield the non-empty sets of every language pair of a folder; raises the errors of `read_heldout`."""
    for place in sorted(path.parent for path in Path(folder).glob(f"*/{INDEX}")):
        index = read_index(place, FORMAT, VERSION)
        for use, entry in index["sets"].items():
            # Drawn pairs come from training corpora. Ids tell them from the others where a set has both.
            corpora = {origin["prefix"]: origin["name"] for origin in entry["origins"] if origin["use"] == use}
            by_corpus: dict[str, list[Pair]] = {}
            for pair in read_heldout(folder, place.name, use):
                by_corpus.setdefault(corpora.get(prefix_of(pair.id), ""), []).append(pair)
            for corpus, pairs in by_corpus.items():
                languages, drawn = (index["source"], index["target"]), bool(entry["drawn"]) and not corpus
                yield HeldOutSet(place.name, use, languages, index["side"], drawn, corpus, pairs)


def side_of(folder: PathLike, pair: str) -> str:
    """Return the side, source or target, whose held-out sentences are in no training corpus."""
    return str(read_index(Path(folder) / pair, FORMAT, VERSION)["side"])


def _id(text: str, path: Path, line: int) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Damaged(f"{path}, line {line}: {text[:40]!r} is not an id.")
    return int(text)


def verify_heldout(folder: PathLike, pair: str) -> None:
    """Read the sets of a language pair back. Raises Damaged, an IncompleteArtifact, if they are not as written."""
    for name, entry in read_index(Path(folder) / pair, FORMAT, VERSION)["sets"].items():
        for column in COLUMNS:
            verify_file(heldout_path(folder, pair, name, column), entry["files"][column])
        pairs = read_heldout(folder, pair, name)
        if len({item.id for item in pairs}) != len(pairs):
            raise Damaged(f"{heldout_path(folder, pair, name, 'id')} holds an id twice.")
