"""The order follows from seed and text alone, however many buckets there are, and a prefix is a random sample."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.corpora import shuffle as shuffle_module
from kd.corpora.ids import Pair
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.shuffle import Scattered, scatter, shuffle
from tests.corpora.samples import TORTURE

any_text = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))
texts = st.sampled_from(["a", "b", "c", ""]) | any_text


@given(
    st.lists(st.tuples(st.integers(0, 2**63 - 1), texts, texts), unique_by=lambda row: row[0]),
    st.integers(0, 2**64),
    st.integers(2, 9),
    st.randoms(use_true_random=False),
)
def test_the_order_depends_on_nothing_but_seed_and_text(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, str]], seed: int, buckets: int, random: object
) -> None:
    folder = tmp_path_factory.mktemp("shuffle")
    pairs = [Pair(*row) for row in rows]
    mixed = pairs.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    in_memory = list(shuffle(pairs, seed, folder, len(pairs), buckets=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle_module, "BUFFER_CHARACTERS", 500)
        on_disk = list(shuffle(mixed, seed, folder, len(pairs), buckets=buckets))
    assert on_disk == in_memory
    assert sorted(in_memory) == sorted(pairs)
    runs = [source for source, _ in groupby(pair.source for pair in in_memory)]
    assert len(runs) == len({pair.source for pair in pairs})
    assert all(a.id < b.id for a, b in pairwise(in_memory) if a.source == b.source)
    assert list(folder.iterdir()) == []


def test_torture_text_survives(tmp_path: Path) -> None:
    pairs = [Pair(place, text, text[::-1]) for place, text in enumerate(TORTURE)]
    assert sorted(shuffle(pairs, 1, tmp_path, 14, buckets=3)) == pairs


def test_the_number_of_buckets_follows_from_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [Pair(place, f"{place}", "x") for place in range(100)]
    monkeypatch.setattr(shuffle_module, "BUCKET_PAIRS", 30)
    order = shuffle(pairs, 1, tmp_path, 100)
    next(order)
    (hidden,) = tmp_path.iterdir()
    assert sorted(path.name for path in hidden.iterdir()) == [
        f"000{bucket}-all.{ending}" for bucket in range(4) for ending in ("hashes", "zst")
    ]
    order.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []
    assert list(shuffle([], 1, tmp_path, 0)) == []


@pytest.mark.parametrize(("lines", "bucket_pairs"), [(1, 30), (10, 30), (25, 7), (1000, 30)])
def test_ranges_of_several_writers_are_the_shards_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int, bucket_pairs: int
) -> None:
    pairs = [Pair(place, f"sentence {place * place % 73}", f"{place}") for place in range(300)]
    with CorpusWriter(tmp_path / "wanted", ("en", "de"), lines, keep_groups=True) as writer:
        for pair in shuffle(pairs, 1, tmp_path / "all", 300):
            writer.add(pair)
    wanted = [list(shard.read()) for shard in Corpus(tmp_path / "wanted").shards]
    monkeypatch.setattr(shuffle_module, "BUCKET_PAIRS", bucket_pairs)
    scattered = Scattered(tmp_path, ("a", "b", "c"), 5)
    for place, name in enumerate("abc"):
        scatter(pairs[place * 100 : place * 100 + 100], 1, scattered, name)
    found: list[list[Pair]] = []
    for each in scattered.cut(lines):
        assert each.number == len(found)
        rows = list(scattered.in_order(each.starts[0], each.end, each.pairs))
        assert len(rows) == each.pairs
        bounds = [*each.starts, each.end]
        found += [[Pair(i, s, t) for value, s, i, t in rows if a <= value < b] for a, b in pairwise(bounds)]
    assert found == wanted


def test_other_seeds_give_other_orders_and_a_prefix_is_a_sample(tmp_path: Path) -> None:
    pairs = [Pair(place, f"sentence {place}", "x") for place in range(2000)]
    first, second = (list(shuffle(pairs, seed, tmp_path, 2000)) for seed in (1, 2))
    assert first != second
    for order in (first, second):
        early = sum(pair.id < 1000 for pair in order[:500])
        assert 200 < early < 300  # 250 expected of a random sample, standard deviation below 10


def test_a_longer_corpus_keeps_the_order_of_the_shorter_one(tmp_path: Path) -> None:
    pairs = [Pair(place, f"sentence {place}", "x") for place in range(200)]
    longer = list(shuffle(pairs, 7, tmp_path, 200, buckets=4))
    assert [pair for pair in longer if pair.id < 100] == list(shuffle(pairs[:100], 7, tmp_path, 100))


def test_shards_keep_groups_whole(tmp_path: Path) -> None:
    pairs = [Pair(place, f"sentence {place % 7}", f"{place}") for place in range(100)]
    with CorpusWriter(tmp_path, ("en", "de"), 10, keep_groups=True) as writer:
        for pair in shuffle(pairs, 1, tmp_path, 100, buckets=2):
            writer.add(pair)
    corpus = Corpus(tmp_path)
    corpus.verify()
    assert corpus.sources == 7
    assert corpus.pairs == 100
    assert all(path.name.startswith("0") or path.name == "index.json" for path in tmp_path.iterdir())


def test_a_source_that_fills_a_bucket_alone_is_sorted_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [Pair(place * 37 % 501, "Article 1" if place % 20 else f"Article {place}", "x") for place in range(501)]
    in_memory = list(shuffle(pairs, 1, tmp_path, 501))
    monkeypatch.setattr(shuffle_module, "BUCKET_PAIRS", 30)
    most = 0

    def counted(rows: Iterable[tuple[int, str, int, str]]) -> list[tuple[int, str, int, str]]:
        nonlocal most
        found = sorted(rows)
        most = max(most, len(found))
        return found

    monkeypatch.setattr(shuffle_module, "sorted", counted, raising=False)
    assert list(shuffle(pairs, 1, tmp_path, 501)) == in_memory
    assert 30 <= most <= 60
    assert list(tmp_path.iterdir()) == []
