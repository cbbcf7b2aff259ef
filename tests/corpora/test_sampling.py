"""Samples: seeded, of the wished size, with a share for every language and, in it, for every corpus."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.corpora import sampling
from kd.corpora.ids import Origin
from kd.corpora.sampling import allot, by_language, sample_sentences, shares
from kd.corpora.shard import Shard
from kd.corpora.shards import Corpus, CorpusWriter


def corpus(folder: Path, languages: tuple[str, str], sizes: dict[str, int], lines: int = 100) -> Corpus:
    """Sentences such as `en of europarl 17`; the sources of each corpus folder mixed, as in a shuffled corpus."""
    pair = "-".join(languages)
    origins = [Origin(pair, name) for name in sizes]
    rows = []
    for origin in origins:
        count = sizes[origin.name]
        texts = [tuple(f"{language} of {origin.name} {n}" for language in languages) for n in range(count)]
        rows += [((n + 0.5) / count, each) for n, each in enumerate(origin.number(texts))]
    with CorpusWriter(folder, languages, lines, origins=origins) as writer:
        for _, each in sorted(rows):
            writer.add(each)
    return Corpus(folder)


def by(sentences: list[str], words: slice) -> Counter[str]:
    return Counter(" ".join(sentence.split()[words]) for sentence in sentences)


LANGUAGE, ORIGIN = slice(0, 1), slice(2, 3)


def test_a_language_in_many_pairs_gets_no_more_than_the_others(tmp_path: Path) -> None:
    made = [
        corpus(tmp_path / other, (other, "en"), {"web": size})
        for other, size in {"de": 4000, "da": 1000, "fi": 200}.items()
    ]
    found = list(sample_sentences(made, 2000, seed=1))
    assert len(found) == 2000
    # 500 each; Finnish has 200, and the others share its rest.
    assert by(found, LANGUAGE) == {"de": 600, "da": 600, "en": 600, "fi": 200}
    # With exponent 1 by size, which is here: 4000, 1000, 200 and 5200 of 10400
    assert by(list(sample_sentences(made, 1040, 1, 1.0)), LANGUAGE) == {"de": 400, "da": 100, "en": 520, "fi": 20}


def test_english_of_all_pairs_fills_what_the_others_lack_unless_the_sample_is_small(tmp_path: Path) -> None:
    made = [corpus(tmp_path / other, (other, "en"), {"web": 300}) for other in ("da", "de", "nl", "sv")]
    assert by_language(shares(made, 2400)) == {"da": 300, "de": 300, "nl": 300, "sv": 300, "en": 1200}
    assert by_language(shares(made, 1500)) == {"da": 300, "de": 300, "nl": 300, "sv": 300, "en": 300}


def test_corpora_of_a_language_count_by_their_size(tmp_path: Path) -> None:
    made = [corpus(tmp_path / "a", ("de", "en"), {"large": 1500, "small": 500})]
    found = list(sample_sentences(made, 1000, seed=1))
    assert by(found, ORIGIN)["large"] == pytest.approx(750, abs=40)
    made.append(corpus(tmp_path / "b", ("fr", "en"), {"other": 1000}))
    english = [sentence for sentence in sample_sentences(made, 900, seed=1) if sentence.startswith("en")]
    assert by(english, ORIGIN)["other"] == 100  # a third of English


@dataclass(frozen=True)
class Weighted(Origin):
    weight: float = 1.0


def test_weights_change_the_mixture(tmp_path: Path) -> None:
    made = corpus(tmp_path / "a", ("de", "en"), {"legal": 2000, "web": 2000, "never": 500})
    weights = {"legal": 3.0, "web": 1.0, "never": 0.0}
    made.origins = {
        prefix: Weighted(origin.pair, origin.name, weight=weights[origin.name])
        for prefix, origin in made.origins.items()
    }
    found = by(list(sample_sentences([made], 1000, seed=1)), ORIGIN)
    assert found["legal"] == pytest.approx(750, abs=60)
    assert found.keys() == {"legal", "web"}
    # Where there is not enough to choose from, everything is taken.
    assert by(list(sample_sentences([made], 8000, seed=1)), ORIGIN) == {"legal": 4000, "web": 4000}


def test_the_seed_decides(tmp_path: Path) -> None:
    for lines in (50, 10_000):
        made = [corpus(tmp_path / str(lines), ("de", "en"), {"web": 2000}, lines)]
        one, again, other = (list(sample_sentences(made, 500, seed)) for seed in (1, 1, 2))
        assert one == again
        assert len(set(one) & set(other)) < 400
    # Of all sentences there is but one sample.
    assert set(sample_sentences(made, 10**6, 1)) == set(sample_sentences(made, 10**6, 2))
    assert len(list(sample_sentences(made, 10**6, 1))) == 4000


def test_no_more_is_read_than_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [corpus(tmp_path / "a", ("de", "en"), {"web": 5000}, 100)]
    read: list[str] = []
    real = Shard.read
    monkeypatch.setattr(Shard, "read", lambda shard: (read.append(shard.name), real(shard))[1])
    assert len(list(sample_sentences(made, 400, 1))) == 400
    assert len(read) == 3  # 220 pairs of the 5000, and no shard twice
    assert read != ["00000", "00001", "00002"]


@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**5)), min_size=1, max_size=8),
)
def test_all_is_allotted_and_nobody_gets_more_than_he_has(total: int, parts: list[tuple[float, int]]) -> None:
    wishes = {number: wish for number, (wish, _) in enumerate(parts)}
    most = {number: limit for number, (_, limit) in enumerate(parts)}
    given_ = allot(total, wishes, most)
    assert sum(given_.values()) == min(total, sum(most.values()))
    assert all(0 <= given_[key] <= most[key] for key in most)


def test_shares_say_what_is_taken(tmp_path: Path) -> None:
    made = [corpus(tmp_path / "a", ("de", "en"), {"web": 10}), corpus(tmp_path / "b", ("fr", "en"), {"web": 30})]
    assert [(share.source, share.target) for share in shares(made, 30)] == [(10, 2), (10, 8)]
    assert sampling.shares([], 30) == []
