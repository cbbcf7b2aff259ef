"""Make variants of training pairs, from which a student learns robustness, and write them after the original pairs.

Each source gets at most one variant and at most one copied span. Two seeded hashes of the source decide, so the same
sources are varied in every corpus, on every machine and after every restart. The ids of variants have a separate prefix
for each corpus and kind. A variant is left out if the shard already has its source, since pairs with equal sources must
be adjacent.
"""

from __future__ import annotations

import random
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from kd.corpora.guards import UNSPACED
from kd.corpora.hashing import HASH_BITS, sentence_hash
from kd.corpora.ids import PLACE_BITS, Origin, Pair, place_of, prefix_of
from kd.corpora.leakage import Guard
from kd.corpora.sentence_ends import sentences
from kd.corpora.variants import mistyped, title_case, upper_case, without_full_stop
from kd.models.languages import primary
from kd.recipe.schema import AugmentConfig

Row = tuple[Pair, tuple[str, ...]]  # a pair and its values in further columns
Texts = list[str]  # source, target, further targets

VARIANTS = ("upper_case", "title_case", "no_full_stop", "typos", "concatenated", "single")
COPIED = "copied_spans"
KINDS = (*VARIANTS, COPIED)
"""Kinds of variants, as the settings name their shares."""

MOST_CHARACTERS = 500  # of the source of a concatenated pair
ALONE = 0.25  # share of copied spans that are a pair of their own
_DOMAINS = ("com", "org", "net", "eu", "de", "fr", "hu", "fi", "se", "dk", "nl", "io")
_CLOSING = ".。।!?！？…:"


def origin_of(origin: Origin, kind: str) -> Origin:
    """Return the origin of the variants of a corpus."""
    return replace(origin, name=f"{origin.name}+{kind}")


def is_variant(origin: Origin) -> bool:
    """Return whether pairs of an origin are variants."""
    return origin.name.rpartition("+")[2] in KINDS


@dataclass(frozen=True)
class Rules:
    """The settings of augmentation for one corpus.

    Attributes:
        config: The shares.
        languages: Codes of source and target.
        origins: The corpora of the pairs, by prefix.
        targets: Number of further targets, which are the first of the further columns.
        guard: Held-out sentences, which no variant may equal; None: no comparison.
    """

    config: AugmentConfig
    languages: tuple[str, str]
    origins: Mapping[int, Origin]
    targets: int = 0
    guard: Guard | None = None

    @property
    def new_origins(self) -> list[Origin]:
        """The origins of all variants with a share above 0."""
        kinds = [kind for kind in KINDS if getattr(self.config, kind)]
        return [origin_of(each, kind) for each in self.origins.values() if not is_variant(each) for kind in kinds]


class Augmenter:
    """Add variants to one shard; `counts` has how many of each kind were added, and how many were left out."""

    def __init__(self, rules: Rules, sources: Iterable[str]) -> None:
        """Prepare for a shard.

        Args:
            rules: The settings.
            sources: The sources of the shard and the first source of the next shard; no variant may equal any of them.
        """
        config = rules.config
        self.counts: Counter[str] = Counter()
        self._rules = rules
        self._known_as = sentence_hash(config.seed, "kd.variant.known")
        self._known = set(map(self._known_as, sources))
        self._fate = sentence_hash(config.seed, "kd.variant")
        self._copy_fate = sentence_hash(config.seed, "kd.variant.copy")
        self._prefixes = {
            (prefix, kind): origin_of(origin, kind).prefix
            for prefix, origin in rules.origins.items()
            if not is_variant(origin)
            for kind in KINDS
        }
        self._before: Row | None = None
        self._make: dict[str, Callable[[Sequence[Row], random.Random], list[Texts] | None]] = {
            "upper_case": self._upper_case,
            "title_case": self._title_case,
            "no_full_stop": self._no_full_stop,
            "typos": self._typos,
            "concatenated": self._concatenated,
            "single": self._single,
            COPIED: self._copied,
        }

    def rows(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows of the shard; the variants of each run of equal sources follow the run."""
        for source, run in groupby(rows, key=lambda row: row[0].source):
            group = list(run)
            yield from group
            if (prefix_of(group[0][0].id), COPIED) not in self._prefixes:  # a variant itself
                continue
            for kind, value in self._chosen(source):
                yield from self._variant(kind, group, random.Random(value))
            self._before = group[0]

    def _chosen(self, source: str) -> Iterator[tuple[str, int]]:
        """Yield the kinds of variants that a source gets, each with the hash that seeds it."""
        value, below = self._fate(source), 0.0
        for kind in VARIANTS:
            above = below + getattr(self._rules.config, kind)
            if below <= value / (1 << HASH_BITS) < above:
                yield kind, value
            below = above
        value = self._copy_fate(source)
        if value / (1 << HASH_BITS) < getattr(self._rules.config, COPIED):
            yield COPIED, value

    def _variant(self, kind: str, group: Sequence[Row], draw: random.Random) -> Iterator[Row]:
        """Yield the variant of a run of equal sources, if there is one with a new source."""
        texts = self._make[kind](group, draw)
        if not texts or texts[0][0] == group[0][0].source:
            self.counts[f"{kind}: no variant"] += 1
            return
        key = self._known_as(texts[0][0])
        if key in self._known:
            self.counts[f"{kind}: source known already"] += 1
            return
        if self._rules.guard and any(self._rules.guard.match(each[0], each[1]) for each in texts):
            self.counts[f"{kind}: held out"] += 1
            return
        self._known.add(key)
        self.counts[kind] += len(texts)
        for (pair, values), (source, target, *further) in zip(group, texts, strict=False):
            pair_id = self._prefixes[prefix_of(pair.id), kind] << PLACE_BITS | place_of(pair.id)
            yield Pair(pair_id, source, target), (*further, *values[self._rules.targets :])

    def _texts(self, row: Row) -> Texts:
        pair, values = row
        return [pair.source, pair.target, *values[: self._rules.targets]]

    # --- the kinds: texts of the first rows of a run; None if it has no such variant ----------------------------------

    def _upper_case(self, rows: Sequence[Row], _: random.Random) -> list[Texts]:
        """Put both sides into capitals."""
        source, target = self._rules.languages
        return [
            [upper_case(text[0], source), *(upper_case(each, target) for each in text[1:])]
            for text in map(self._texts, rows)
        ]

    def _title_case(self, rows: Sequence[Row], _: random.Random) -> list[Texts]:
        """Put the source into title case; the target stays, as most languages write headings like sentences."""
        source = title_case(rows[0][0].source, self._rules.languages[0])
        return [[source, *self._texts(row)[1:]] for row in rows]

    def _no_full_stop(self, rows: Sequence[Row], _: random.Random) -> list[Texts] | None:
        """Leave out the final full stop of both sides, where both have one."""
        found = []
        for texts in map(self._texts, rows):
            bare = [without_full_stop(text) for text in texts]
            if any(new == old for new, old in zip(bare, texts, strict=True)):
                return None
            found.append(bare)
        return found

    def _typos(self, rows: Sequence[Row], draw: random.Random) -> list[Texts]:
        """Put a typing error into the source; the target stays."""
        source = mistyped(rows[0][0].source, draw)
        return [[source, *self._texts(row)[1:]] for row in rows]

    def _concatenated(self, rows: Sequence[Row], _: random.Random) -> list[Texts] | None:
        """Put the preceding pair in front of the first pair."""
        if self._before is None:
            return None
        before, here = self._texts(self._before), self._texts(rows[0])
        if len(before[0]) + len(here[0]) > MOST_CHARACTERS:
            return None
        source, target = ("" if primary(code) in UNSPACED else " " for code in self._rules.languages)
        spaces = [source, *[target] * (len(here) - 1)]
        return [[f"{a}{space}{b}" for a, b, space in zip(before, here, spaces, strict=True)]]

    def _single(self, rows: Sequence[Row], draw: random.Random) -> list[Texts] | None:
        """Take one sentence from a pair with several sentences, equally many on both sides."""
        source, target = self._rules.languages
        texts = self._texts(rows[0])
        parts = [sentences(texts[0], source), *(sentences(text, target) for text in texts[1:])]
        if len(parts[0]) < 2 or len({len(each) for each in parts}) > 1:
            return None
        place = draw.randrange(len(parts[0]))
        single = [each[place].strip() for each in parts]
        return [single] if all(single) else None

    def _copied(self, rows: Sequence[Row], draw: random.Random) -> list[Texts]:
        """Put a number, a URL or an address into both sides, or make it a pair of its own."""
        span = drawn_span(draw)
        if draw.random() < ALONE:
            return [[span] * len(self._texts(rows[0]))]
        place = draw.choice((_in_brackets, _behind, _in_front))
        return [[place(text, span) for text in self._texts(row)] for row in rows]


def drawn_span(draw: random.Random) -> str:
    """Draw an e-mail address, a URL or a long number."""
    kind = draw.randrange(3)
    if kind == 0:
        return f"{_name(draw)}{draw.choice(('.', '_', '+', '-'))}{_name(draw)}@{_name(draw)}.{draw.choice(_DOMAINS)}"
    if kind == 1:
        path = draw.choice(("", f"/{_name(draw)}", f"/{_name(draw)}/{_name(draw)}-{draw.randrange(1000)}.html"))
        query = draw.choice(("", f"?{_name(draw)[0]}={draw.randrange(10_000)}"))
        return f"https://{draw.choice(('www.', ''))}{_name(draw)}.{draw.choice(_DOMAINS)}{path}{query}"
    return "".join(draw.choices(string.digits[1:], k=1) + draw.choices(string.digits, k=draw.randint(4, 13)))


def _name(draw: random.Random) -> str:
    return "".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9)))


def _in_brackets(text: str, span: str) -> str:
    bare = text.rstrip(_CLOSING)
    return f"{bare} ({span}){text[len(bare) :]}"


def _behind(text: str, span: str) -> str:
    return f"{text} {span}"


def _in_front(text: str, span: str) -> str:
    return f"{span}: {text}"
