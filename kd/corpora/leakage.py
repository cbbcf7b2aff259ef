"""The leakage guard: look up every held-out sentence, normalised, in the training corpora.

A training pair that contains both sides of a held-out pair is a leak, whatever their length; one side alone counts if
it has more than a set number of words. Sides are compared by language, so direction and language pair do not matter.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from kd.base.errors import UserError
from kd.corpora.heldout import HeldOutSet, read_sets
from kd.corpora.ids import Origin, Pair, place_of, prefix_of
from kd.corpora.lines import PathLike
from kd.corpora.shards import Corpus
from kd.corpora.writing import LineWriter
from kd.models.languages import primary

MODES = ("remove", "fail", "off")
KINDS = ("both", "source", "target")  # the sides of a held-out pair that were found; the first that applies is counted
ONE_SIDED_WORDS = 5  # where no setting applies
MOST_SAMPLED = 10_000  # lines of the sample of removed pairs
MOST_EXAMPLES = 20

HEAD = 16  # characters of a normalised sentence that are compared first
HEAD_READ = 36  # characters of a sentence that these are taken from

# --- normal form -----------------------------------------------------------------------------------------------------

_LOWER = bytes(range(256)).lower()
_ASCII_DROPPED = bytes(code for code in range(128) if not chr(code).isalnum())
_TABLE_SIZE = 0x20000  # code points; beyond them there are only ideographs


def normalised(text: str) -> str:
    """Return a form that is equal for sentences that differ only in case, spacing, punctuation or encoding.

    The form is NFKC, case-folded, and reduced to letters, marks and digits; if it has none of them, the whole text
    without whitespace. Without spaces and symbols, as in the contamination check of GPT-4's technical report (OpenAI,
    2023, appendix C), tokenised text matches text that is not. Accents and digits stay.

    `filters.words.bare` normalises less, as it compares texts of one corpus. Held-out sets and training corpora come
    from different places, in which similar characters may be encoded differently (full width, ligatures, fractions).
    """
    return _bare(text) or "".join(text.split())


def _bare(text: str) -> str:
    if text.isascii():
        return text.encode().translate(_LOWER, _ASCII_DROPPED).decode()
    normalize = unicodedata.normalize
    # NFKC would turn an acute accent, which some type for an apostrophe, into a space with a mark.
    folded = normalize("NFKC", text.replace("\u00b4", "'")).casefold()
    return normalize("NFKC", folded).translate(_table())


@cache
def _table() -> list[int | None]:
    """Return a table for `str.translate` that drops punctuation, symbols, separators and control characters."""

    def kept(code: int) -> bool:
        category = unicodedata.category(chr(code))
        return not (category[0] in "PSZ" or category in ("Cc", "Cf") or 0xFE00 <= code <= 0xFE0F)  # of emoji

    return [code if kept(code) else None for code in range(_TABLE_SIZE)]


# Scripts without spaces: Thai, Lao, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def words(text: str) -> int:
    """Return the number of words: runs of letters and digits; in scripts without spaces, two characters are a word."""
    rest, characters = _UNSPACED.subn(" ", text)
    return len(re.findall(r"\w+", rest)) + characters // 2


# --- looking up ------------------------------------------------------------------------------------------------------


class _Known:
    """The sentences of the held-out sets in one language."""

    def __init__(self) -> None:
        self.alone: dict[str, set[tuple[str, str]]] = {}  # normal form -> (set, side of it), where that is enough
        self._heads: set[str] = set()

    def add(self, key: str, held: str, side: str, long_enough: bool) -> None:
        found = self.alone.setdefault(key, set())
        if long_enough:
            found.add((held, side))
        if len(key) >= HEAD:
            self._heads.add(key[:HEAD])

    def finder(self) -> Callable[[str], str | None]:
        """Return a function that maps a known sentence to its normal form, and any other sentence to None.

        Nearly all sentences of a corpus differ from all held-out ones in their first words; then only these words are
        normalised. Neither normalisation nor case folding depends on text across a space.
        """
        known, heads, bare = self.alone, self._heads, _bare

        def find(text: str) -> str | None:
            cut = text.rfind(" ", 0, HEAD_READ)
            if cut > 0:
                head = bare(text[:cut])
                if len(head) >= HEAD and head[:HEAD] not in heads:
                    return None
            key = normalised(text)
            return key if key in known else None

        return find


class Guard:
    """The held-out sets of a recipe, for comparison with a training corpus of one language pair.

    Memory holds the held-out sentences in the two languages, but nothing of the corpus.

    Args:
        sets: The held-out sets of all language pairs.
        languages: Codes of source and target of the corpus.
        one_sided_words: A sentence with more words than this is a match even on one side alone.
    """

    def __init__(self, sets: Iterable[HeldOutSet], languages: tuple[str, str], one_sided_words: int) -> None:
        self.sets: dict[str, int] = {}  # name -> pairs, of those that share a language with the corpus
        self.given: set[str] = set()  # those of them that came as files
        self._source, self._target = _Known(), _Known()
        self._both: dict[tuple[str, str], set[str]] = {}
        left, right = (primary(code) for code in languages)
        for held in sets:
            first, second = (primary(code) for code in held.languages)
            if not {first, second} & {left, right}:
                continue
            self.sets[held.name] = self.sets.get(held.name, 0) + len(held.pairs)
            self.given |= set() if held.drawn else {held.name}
            for pair in held.pairs:
                keys = (normalised(pair.source), normalised(pair.target))
                for language, text, key, side in zip(
                    (first, second), pair[1:], keys, ("source", "target"), strict=True
                ):
                    long_enough = words(text) > one_sided_words
                    if language == left:
                        self._source.add(key, held.name, side, long_enough)
                    if language == right:
                        self._target.add(key, held.name, side, long_enough)
                if (first, second) == (left, right):
                    self._both.setdefault(keys, set()).add(held.name)
                if (second, first) == (left, right):
                    self._both.setdefault(keys[::-1], set()).add(held.name)
        self._find_source, self._find_target = self._source.finder(), self._target.finder()

    def match(self, source: str, target: str) -> dict[str, str] | None:
        """Return the held-out sets that a training pair matches, each with the kind of match; None without a match."""
        left, right = self._find_source(source), self._find_target(target)
        if left is None and right is None:
            return None
        hits: dict[str, str] = {}
        if left is not None and right is not None:
            hits = dict.fromkeys(self._both.get((left, right), ()), "both")
        for known, key in ((self._source, left), (self._target, right)):
            for held, side in sorted(known.alone.get(key, ())) if key is not None else ():
                hits.setdefault(held, side)
        return hits or None


# --- counts -----------------------------------------------------------------------------------------------------------


@dataclass
class Leaks:
    """The training pairs that match held-out sets: counts, examples, and a sample in a file.

    Attributes:
        origins: Origins of the corpus, by prefix.
        sample: Receives the sample of leaks.
        blocking: Sets that the corpus must not overlap with; see `refuse`.
    """

    origins: Mapping[int, Origin]
    sample: LineWriter | None = None
    blocking: Collection[str] = ()
    pairs: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)  # of each pair its strongest match
    by_set: dict[str, Counter[str]] = field(default_factory=dict)  # a pair counts in each set that it matches
    examples: list[dict[str, str]] = field(default_factory=list)
    blocked: int = 0  # pairs that match a blocking set
    blocked_examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, pair: Pair, hits: Mapping[str, str]) -> None:
        """Count a pair, and offer it to the sample and the examples."""
        if self.sample is not None and not self.pairs:
            self.sample.write("id\tcorpus\tline\tmatch\tset\tsource\ttarget")
        self.pairs += 1
        kind = min(hits.values(), key=KINDS.index)
        self.by_kind[kind] += 1
        for held, found in hits.items():
            self.by_set.setdefault(held, Counter())[found] += 1
        blocked = not hits.keys().isdisjoint(self.blocking)
        self.blocked += blocked
        if self.pairs > MOST_SAMPLED and not (blocked and len(self.blocked_examples) < MOST_EXAMPLES):
            return
        origin = self.origins.get(prefix_of(pair.id))
        entry = {
            "id": str(pair.id),
            "corpus": origin.name if origin else "",
            "line": str(place_of(pair.id) + 1),
            "match": kind,
            "set": ", ".join(sorted(hits)),
            "source": pair.source,
            "target": pair.target,
        }
        for examples, wanted in ((self.examples, True), (self.blocked_examples, blocked)):
            if wanted and len(examples) < MOST_EXAMPLES:
                examples.append(entry)
        if self.sample is not None and self.pairs <= MOST_SAMPLED:
            self.sample.write("\t".join(value.replace("\t", " ") for value in entry.values()))

    def refuse(self, name: str) -> None:
        """Raise UserError if pairs match a blocking set; it names their number, the sets and the first pairs."""
        if not self.blocked:
            return
        counts = "; ".join(
            f"{held}: {', '.join(f'{found[kind]} {_IN_WORDS[kind]}' for kind in KINDS if found[kind])}"
            for held, found in sorted(self.by_set.items())
            if held in self.blocking
        )
        shown = ", ".join(
            f"{entry['id']} ({entry['corpus']}, pair {entry['line']}: {_short(entry['source'])!r})"
            for entry in self.blocked_examples[:3]
        )
        raise UserError(
            f"{self.blocked} training pairs of {name} match held-out sets ({counts}), for instance {shown}.",
            "Remove them from the corpora, or set corpus.leakage=remove.",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain values for a manifest."""
        sets = {held: {kind: found[kind] for kind in KINDS} for held, found in sorted(self.by_set.items())}
        return {"pairs": self.pairs, "kinds": dict(self.by_kind), "sets": sets, "examples": self.examples}


_IN_WORDS = {"both": "by both sides", "source": "by its source alone", "target": "by its target alone"}


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def keep_out(pairs: Iterable[Pair], guard: Guard, leak: Callable[[Pair, dict[str, str]], None]) -> Iterator[Pair]:
    """Yield the pairs that match no held-out set; call `leak` with every pair that matches one, and its matches."""
    match = guard.match
    for pair in pairs:
        hits = match(pair.source, pair.target)
        if hits is None:
            yield pair
        else:
            leak(pair, hits)


def mode(setting: str) -> str:
    """Return `remove`, `fail` or `off`; YAML reads a bare `off` as false. Raises UserError for any other setting."""
    chosen = "off" if setting.lower() == "false" else setting
    if chosen not in MODES:
        raise UserError(f"corpus.leakage is {setting!r}.", f"Set it to one of {', '.join(MODES)}.")
    return chosen


# --- references that a teacher reproduces -----------------------------------------------------------------------------


class References:
    """The test references in a target language, to count outputs that reproduce the reference of a different source.

    Many such outputs show that a teacher was trained on the test set. Sentences of up to `one_sided_words` words are
    left out, and so are references of the very source that was translated.
    """

    def __init__(
        self, sets: Iterable[HeldOutSet], languages: tuple[str, str], one_sided_words: int = ONE_SIDED_WORDS
    ) -> None:
        self._known = _Known()
        self._sources: dict[str, set[str]] = {}  # reference -> its sources
        left, right = (primary(code) for code in languages)
        for held in sets:
            first, second = (primary(code) for code in held.languages)
            for _, source, target in held.pairs if held.use == "test" else ():
                for language, text, of, other in ((first, source, second, target), (second, target, first, source)):
                    if language == right and words(text) > one_sided_words:
                        key = normalised(text)
                        self._known.add(key, held.name, "target", True)
                        if of == left:
                            self._sources.setdefault(key, set()).add(normalised(other))
        self._find = self._known.finder()

    def reproduced(self, source: str, output: str) -> str | None:
        """Return the normal form of the reference that an output equals; None without one or if it is `source`'s."""
        key = self._find(output)
        if key is None or normalised(source) in self._sources.get(key, ()):
            return None
        return key


def reproduced(references: References, rows: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Count a teacher's outputs that equal a test reference, and the distinct references among them."""
    found: Counter[str] = Counter()
    for source, output in rows:
        key = references.reproduced(source, output)
        if key is not None:
            found[key] += 1
    return {"outputs": found.total(), "references": len(found)}


def reproduced_facts(held_out: Iterable[PathLike], selected: Corpus) -> dict[str, Any]:
    """Return a selected corpus' count as the fact `reproduced` for its manifest; empty without held-out sets.

    Args:
        held_out: Folders of held-out sets.
        selected: The selected corpus. Rows with `gold` in the column `rank` are human translations, and do not count.
    """
    folders = list(held_out)
    if not folders:
        return {}
    references = References((held for folder in folders for held in read_sets(folder)), selected.languages)
    texts = selected.texts("source", "target", "rank")
    rows = ((source, target) for source, target, rank in texts if rank != "gold")
    return {"reproduced": reproduced(references, rows)}
