"""No pair gets lost uncounted, whatever the text and whichever filters there are."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.corpora.cleaning import Cleaner, Piece, Repeats, Rules, drop_repeats, filter_piece
from kd.corpora.duplicates import DuplicateFinder
from kd.corpora.filters import KINDS, parse
from kd.corpora.filters.contract import PairFilter, Rewriter
from kd.corpora.ids import Origin, Pair
from kd.corpora.shards import Corpus, CorpusWriter
from kd.recipe.schema import DuplicatesConfig, SameBy
from tests.messages import messages

FILTERS = {kind: {} for kind in KINDS if kind != "score"} | {
    "length": {"max_words": 4, "max_characters": 30},
    "repetition": {"most": 1},
    "language": {"letters": 10},
}
words = st.sampled_from(
    ["the", "house", "Haus", "das", "12", "1,000", "<b>", "дом", "&amp;", "\u200b", "\t", "a\r", ""]
)
sides = st.lists(words, max_size=6).map(" ".join)
pairs = st.lists(st.tuples(sides, sides), max_size=15)
RULES = Rules(parse(FILTERS), ("en", "de"), DuplicatesConfig(True, SameBy.pair, False), 1000)


@given(st.lists(st.tuples(st.integers(0, 2), sides, sides), max_size=25))
def test_in_is_out_and_dropped(rows: list[tuple[int, str, str]]) -> None:
    cleaner = Cleaner(RULES)
    numbered = [Pair((origin << 40) + place, *row) for place, (origin, *row) in enumerate(rows)]
    left = list(cleaner.survivors((pair, ()) for pair in numbered))
    tally = cleaner.finished()
    assert tally.read == Counter(origin for origin, *_ in rows)
    assert len(left) + tally.dropped.total() == len(rows)
    assert len(tally.rejects) == tally.dropped.total()
    ids = [pair.id for pair in left] + [reject.id for reject in tally.rejects]
    assert sorted(ids) == sorted(pair.id for pair in numbered)
    # Cleaned text is clean: nothing more goes, and nothing more is rewritten.
    again = Cleaner(RULES)
    assert list(again.survivors((pair, ()) for pair in left)) == left
    assert again.finished().rewritten.total() == 0


def test_blocks_decide_as_each_filter_does_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expected decisions are those of `rewrite` and `rejects`, pair by pair, with fastText's own answers."""
    english_german = messages("de")
    rows = [*english_german, *zip(*(side[::3] for side in zip(*english_german, strict=True)), strict=True)]
    rows += [(source, target) for (source, _), (_, target) in zip(rows, messages("fr"), strict=False)]
    rows += [(f"no 5{n} " * (n % 9), f"nein 5{n % 7} " * (n % 8)) for n in range(60)]
    rules = Rules(parse(FILTERS | {"length": {}}), ("en", "de"), None, 1000)
    numbered = list(Origin("en-de", "x").number(rows))
    left, dropped = [], Counter[str]()
    steps = [(setting.label, setting.make(("en", "de"))) for setting in rules.filters]
    for number, source, target in numbered:
        for label, step in steps:
            if isinstance(step, Rewriter):
                source, target = step.rewrite(source), step.rewrite(target)
            elif isinstance(step, PairFilter) and step.rejects(source, target):
                dropped[label] += 1
                break
        else:
            left.append(Pair(number, source, target))
    assert len(dropped) > 5
    monkeypatch.setattr("kd.corpora.filters.language.MANY", 0)
    cleaner = Cleaner(rules)
    assert list(cleaner.survivors((pair, ()) for pair in numbered)) == left
    assert {label: count for (_, label), count in cleaner.tally.dropped.items()} == dropped


@settings(max_examples=40)
@given(st.lists(pairs, min_size=1, max_size=3), st.integers(1, 5))
def test_both_looks_leave_what_a_set_in_memory_leaves(parts: list[list[tuple[str, str]]], buckets: int) -> None:
    numbered = list(Origin("en-de", "x").number([row for part in parts for row in part]))
    seen: set[tuple[str, str]] = set()
    expected = []
    for pair in Cleaner(RULES).survivors((pair, ()) for pair in numbered):
        if pair[1:] not in seen:
            expected.append(pair)
        seen.add(pair[1:])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = 0
        pieces, kept = [], []
        finder = DuplicateFinder(folder / "work", len(numbered), buckets)
        for number, part in enumerate(parts):
            with CorpusWriter(folder / str(number), ("en", "de"), None) as writer:
                writer.begin_shard("00000")
                for pair in numbered[first : first + len(part)]:
                    writer.add(pair)
            first += len(part)
            pieces.append(Piece(Corpus(folder / str(number)).shards[0], f"{number:05d}", folder / "work"))
            kept.append(filter_piece(RULES, pieces[-1], lambda _: None)[0])
            finder.add(pieces[-1].keys.read_bytes())
        verdicts = finder.find()
        left: list[Pair] = []
        for number, piece in enumerate(pieces):
            again = verdicts.of(sum(kept[:number]), kept[number])
            tally = drop_repeats(RULES, Repeats(piece, again), lambda _: None)
            assert tally.dropped.total() == sum(again)
            left += Corpus(piece.filtered).read()
    assert left == expected
