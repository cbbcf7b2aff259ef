"""The pairs with the lowest scores: an exact share, whatever the shards; expected values from sorting all of them."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest

from kd.corpora import worst
from kd.corpora.ids import Origin, Pair
from kd.corpora.index import Damaged
from kd.corpora.scores import ScoreCorpus, finish_scores, write_score_index, write_scores
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.worst import RankedShard, dropped_of, find_cut

ORIGIN = Origin("en-de", "made")
FIRST = ORIGIN.prefix << 40


def ranked(folder: Path, scores: list[float], lines: int) -> list[RankedShard]:
    """Shards of `lines` pairs with these scores; every seventh pair has the text of the pair before it."""
    with CorpusWriter(folder / "corpus", ("en", "de"), lines, origins=[ORIGIN]) as writer:
        for place in range(len(scores)):
            text = place - 1 if place % 7 == 6 else place
            writer.add(Pair(FIRST + place, f"source {text}", f"Ziel {text}"))
    corpus, rest = Corpus(folder / "corpus"), iter(scores)
    place = folder / "scores"
    place.mkdir()
    for shard in corpus.shards:
        rows = ((pair.id, {"backward": [next(rest)]}) for pair in shard.read())
        finish_scores(place, write_scores(place, shard.name, rows, ["backward"]), "made")
    write_score_index(place, {"backward": "made"})
    found = ScoreCorpus(place).shards
    return [RankedShard(shard, found[shard.name], "backward") for shard in corpus.shards]


def dropped(shards: list[RankedShard], share: float) -> set[int]:
    cut = find_cut(shards, share, 1)
    rows = [row for shard in shards for row in shard.rows()]
    found = {pair.id - FIRST for pair, _, score in rows if cut.drops(pair, score)}
    assert (cut.pairs, cut.dropped) == (len(rows), len(found))
    return found


@pytest.mark.parametrize("share", [0.0, 0.004, 0.05, 0.29, 0.999])
def test_the_worst_share_of_all_shards_is_found(tmp_path: Path, share: float) -> None:
    rng = random.Random(3)
    scores = [-rng.expovariate(0.5) for _ in range(247)] + [-math.inf, 0.0, 1e-42]
    best_last = sorted(range(250), key=lambda place: np.float32(scores[place]))
    shards = ranked(tmp_path, scores, 40)
    assert dropped(shards, share) == set(best_last[: math.floor(250 * share + 1e-9)])


def test_equal_scores_are_told_apart_by_content_not_by_place(tmp_path: Path) -> None:
    scores = [-1.0] * 60 + [-2.0] * 3
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    few, many = ranked(tmp_path / "a", scores, 50), ranked(tmp_path / "b", scores, 9)
    one, other = dropped(few, 0.5), dropped(many, 0.5)
    assert one == other
    assert {60, 61, 62} < one
    assert len(one) == 31
    assert sorted(one)[:28] != list(range(28))


def test_a_share_is_exact() -> None:
    assert [dropped_of(100, 0.29), dropped_of(20, 0.05), dropped_of(19, 0.05), dropped_of(10**9, 0.07)] == [
        29, 1, 0, 70_000_000,
    ]  # fmt: skip


def test_orders_are_those_of_the_numbers() -> None:
    values = np.array([-np.inf, -3e38, -1.5, -1e-45, -0.0, 0.0, 1e-45, 1.5, np.inf], np.float32)
    assert (np.diff(worst._orders(values).astype(np.int64)) > 0).all()
    assert [worst._order(float(value)) for value in values] == worst._orders(values).tolist()
    for value in values:
        assert worst.Cut(1, 1, worst.Rank(worst._order(float(value)), 0, 0)).score == value


def test_scores_of_other_pairs_are_refused(tmp_path: Path) -> None:
    shards = ranked(tmp_path, [-1.0] * 20, 10)
    with pytest.raises(Damaged, match="belongs"):
        list(RankedShard(shards[0].corpus, shards[1].scores, "backward").rows())
