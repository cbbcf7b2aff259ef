"""N-best lists made elsewhere: their formats, and that each finds its source wherever the shards have it."""

from __future__ import annotations

import gzip
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.corpora import given_lists
from kd.corpora.given_lists import Fit, Joined, ListsFile, human_list, join, read_fairseq, read_moses
from kd.corpora.ids import Origin, Pair, place_of
from kd.corpora.nbest import Hypothesis, NBestCorpus, NBestList, NBestShardWriter, write_nbest_index
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.shuffle import shuffle

ORIGIN = Origin("en-de", "news")

# Moses' manual (section "Generating n-Best Lists") shows lines of this form.
MOSES = """0 ||| this is a small house  ||| LexicalReordering0= -1.5 0 -0.75 LM0= -27.0908 ||| -28.9 ||| 0-0 1-1
0 ||| this is a little house  ||| LexicalReordering0= -1.5 0 -0.5 LM0= -28.1791 ||| -29.8 ||| 0-0 1-1
"""
# marian-decoder --n-best
MARIAN = "0 ||| Das ist ein Haus. ||| F0= -1.2345 ||| -0.24690\n1 |||  ||| F0= -3.5 ||| -3.5\n"
# fairseq-generate --remove-bpe sentencepiece --nbest 2, with its log around it
FAIRSEQ = """2026-11-21 10:00:00 | INFO | fairseq_cli.generate | ...
S-4\t▁a ▁b
T-4\t▁x
H-4\t-0.5\t▁X ▁y
D-4\t-0.5\tX y
P-4\t-0.1 -0.9 -0.5
H-4\t-1.0\t▁X
D-4\t-1.0\tX
S-0\t▁c
D-0\t-2.0\t
"""


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_moses(tmp_path: Path) -> None:
    (found,) = read_moses(write(tmp_path / "n.gz", MOSES))
    assert (found.line, found.id) == (1, 0)
    assert [each.text for each in found.hypotheses] == ["this is a small house", "this is a little house"]
    assert [each.score for each in found.hypotheses] == [-28.9, -29.8]
    assert found.hypotheses[0].features == {
        "LexicalReordering0": (-1.5, 0.0, -0.75),
        "LM0": (-27.0908,),
    }


def test_marian(tmp_path: Path) -> None:
    first, second = read_moses(write(tmp_path / "n", MARIAN))
    assert first.hypotheses == [Hypothesis("Das ist ein Haus.", {"F0": (-1.2345,)}, -0.2469)]
    assert (second.line, second.hypotheses[0].text) == (2, "")


def test_marians_alignments_and_squeezed_empty_hypotheses(tmp_path: Path) -> None:
    """Form: src/translator/output_printer.h of Marian 1.12, with --alignment and --word-scores."""
    text = "0 ||| ein Hund ||| 0-0 1-1 ||| WordScores= -1 -2 ||| F0= -2.0 ||| -2.0\n1 ||| ||| F0= -1 ||| -1\n"
    first, second = read_moses(write(tmp_path / "n", text))
    assert first.hypotheses == [Hypothesis("ein Hund", {"F0": (-2.0,)}, -2.0)]
    assert second.hypotheses == [Hypothesis("", {"F0": (-1.0,)}, -1.0)]


def test_fairseq_prints_detokenised_lines_with_logarithms_to_base_2(tmp_path: Path) -> None:
    first, second = read_fairseq(write(tmp_path / "n", FAIRSEQ))
    assert (first.id, [each.text for each in first.hypotheses]) == (4, ["X y", "X"])
    assert first.hypotheses[0].score == -0.5 * math.log(2)
    assert (second.id, second.hypotheses[0].text) == (0, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 ||| a ||| -1\n", "line 1: 3 fields"),
        ("0 ||| a ||| F0= -1 ||| -1\nx ||| a ||| F0= -1 ||| -1\n", "line 2: 'x' is not an id"),
        ("0 ||| a ||| F0= -1 ||| nan\n", "line 1: 'nan' is not a score"),
        ("0 ||| a ||| -1 ||| -1\n", "line 1: a feature's name is missing"),
        ("0 ||| a ||| F0= -1 ||| -1\n0 ||| b ||| F1= -1 ||| -1\n", "line 2: features unlike"),
        ("0 ||| ▁a ▁b ||| F0= -1 ||| -1\n", "line 1: the hypothesis is in sub-words"),
        ("0 ||| ei@@ n ||| F0= -1 ||| -1\n", "line 1: the hypothesis is in sub-words"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"n.txt, {message}"):
        list(read_moses(write(tmp_path / "n.txt", text)))


def test_what_fairseq_did_not_print_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no line that begins with D-"):
        list(read_fairseq(write(tmp_path / "n.txt", MOSES)))
    with pytest.raises(UserError, match=r"n.txt, line 1: 2 fields"):
        list(read_fairseq(write(tmp_path / "n.txt", "D-0\tX\n")))


# --- joining ---------------------------------------------------------------------------------------------------------


def sources(count: int) -> list[str]:
    """Some of them stand there several times."""
    rng = random.Random(4)
    return [f"source {rng.randrange(count)}" for _ in range(count)]


def sharded(folder: Path, texts: Sequence[str]) -> Corpus:
    """A shuffled corpus of shards, of which every seventh pair was cleaned away."""
    pairs = [pair for pair in ORIGIN.number((text, f"gold of {text}") for text in texts) if place_of(pair.id) % 7]
    with CorpusWriter(folder, ("en", "de"), 50, keep_groups=True, origins=[ORIGIN]) as writer:
        for pair in shuffle(pairs, 1, folder, len(pairs)):
            writer.add(pair)
    return Corpus(folder)


def lists_of(texts: Sequence[str], first: int = 0) -> str:
    return "".join(
        f"{number} ||| {rank} of {text}, line {first + number} ||| F0= -{rank}.5 ||| -{rank}\n"
        for number, text in enumerate(texts)
        for rank in range(3)
    )


def whole(path: Path, pairs: int, first: int = 0) -> ListsFile:
    return ListsFile(path, "moses", given_lists.first_id(ORIGIN.prefix, first), pairs - first, "news")


def joined(
    files: Sequence[ListsFile], corpus: Corpus, folder: Path, counts: Joined, most: int = 0
) -> dict[int, tuple[list[Pair], list[Hypothesis] | None]]:
    found = {}
    for shard, runs in join(files, corpus.shards, folder, counts, most):
        assert shard in corpus.shards
        for group, hypotheses in runs:
            found[group[0].id] = group, hypotheses
    return found


@pytest.mark.parametrize("buckets_of", [7, 200_000])
def test_each_source_gets_the_list_of_its_first_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets_of: int
) -> None:
    monkeypatch.setattr(given_lists, "BUCKET_LISTS", buckets_of)
    monkeypatch.setattr(given_lists, "BUFFER_CHARACTERS", 300)
    texts = sources(400)
    corpus = sharded(tmp_path / "corpus", texts)
    assert len(corpus.shards) > 3
    # Decoded in two parts, each numbered from 0, and the second one in any order.
    parts = [write(tmp_path / "a.gz", lists_of(texts[:150])), tmp_path / "b"]
    rows = lists_of(texts[150:], 150).split("\n")[:-1]
    triples = [rows[start : start + 3] for start in range(0, len(rows), 3)]
    random.Random(1).shuffle(triples)
    write(parts[1], "".join(f"{row}\n" for triple in triples for row in triple))
    counts = Joined()
    files = [whole(parts[0], 400), whole(parts[1], 400, 150)]
    found = joined(files, corpus, tmp_path, counts, most=2)
    assert len(found) == corpus.sources == len({text for place, text in enumerate(texts) if place % 7})
    for first, (group, hypotheses) in found.items():
        assert hypotheses == [
            Hypothesis(f"{rank} of {group[0].source}, line {place_of(first)}", {"F0": (-rank - 0.5,)}, -float(rank))
            for rank in range(2)
        ]
    assert (counts.lists, counts.missing, counts.features) == (400, 0, {"F0": 1})
    assert counts.unused == 400 - corpus.pairs
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_another_pair_with_the_same_source_serves_and_what_is_missing_is_counted(tmp_path: Path) -> None:
    texts = ["x", "alone", "twice", "y", "twice"]
    corpus = sharded(tmp_path / "corpus", texts)
    rows = lists_of(texts).split("\n")
    kept = [row for row in rows if row.startswith(("3 ", "4 "))]  # neither `alone` nor the first `twice`
    counts = Joined()
    path = write(tmp_path / "lists", "".join(f"{row}\n" for row in kept))
    found = joined([whole(path, 5)], corpus, tmp_path, counts)
    by_source = {group[0].source: hypotheses for group, hypotheses in found.values()}
    assert by_source["alone"] is None
    assert by_source["twice"] is not None
    assert by_source["twice"][0].text == "0 of twice, line 4"
    assert counts.missing == 1
    assert given_lists.list_place(counts.first_missing or 0) == 2


def test_ids_of_pairs(tmp_path: Path) -> None:
    texts = sources(60)
    corpus = sharded(tmp_path / "corpus", texts)
    first = given_lists.first_id(ORIGIN.prefix, 0)
    rows = lists_of(texts).split("\n")[:-1]
    text = "".join(f"{first + int(row.partition(' ')[0])} {row.partition(' ')[2]}\n" for row in rows)
    counts = Joined()
    found = joined([ListsFile(write(tmp_path / "lists", text), "moses", None)], corpus, tmp_path, counts)
    assert counts.missing == 0
    assert all(
        hypotheses and hypotheses[0].text.endswith(f"line {place_of(first)}")
        for first, (_, hypotheses) in found.items()
    )


def test_ids_beyond_the_corpus_and_ids_that_come_twice_are_named(tmp_path: Path) -> None:
    corpus = sharded(tmp_path / "corpus", sources(20))
    text = lists_of(sources(20))
    path = write(tmp_path / "lists", f"{text}20 ||| x ||| F0= -1 ||| -1\n")
    with pytest.raises(
        UserError, match=r"lists, line 61: the id 20 is too large: news has 20 pairs from `first` on, .* ids 0 to 19"
    ):
        joined([whole(path, 20)], corpus, tmp_path, Joined())
    path = write(tmp_path / "lists", f"{text}3 ||| x ||| F0= -1 ||| -1\n")
    with pytest.raises(UserError, match=r"lists, line 61: a list of the same source was there before, on line 10"):
        joined([whole(path, 20)], corpus, tmp_path, Joined())
    other = write(tmp_path / "other", "0 ||| x ||| F1= -1 ||| -1\n")
    with pytest.raises(UserError, match=r"other, line 1: features unlike the previous file's"):
        joined([whole(write(tmp_path / "lists", text), 20), whole(other, 20)], corpus, tmp_path, Joined())


def test_lists_without_pieces_are_a_folder_of_lists_like_any(tmp_path: Path) -> None:
    corpus = sharded(tmp_path / "corpus", sources(80))
    counts = Joined()
    path = write(tmp_path / "lists", lists_of(sources(80)[:40]))
    for shard, runs in join([whole(path, 80)], corpus.shards, tmp_path, counts):
        with NBestShardWriter(tmp_path / "out", shard.name, pieces=False) as writer:
            for group, hypotheses in runs:
                writer.add(NBestList(group[0].id, hypotheses or human_list(group, counts.features or {})))
    write_nbest_index(tmp_path / "out", {})
    lists = NBestCorpus(tmp_path / "out")
    lists.verify({shard.name: shard for shard in corpus.shards})
    assert lists.lists == corpus.sources
    assert counts.missing
    assert not list((tmp_path / "out").glob("*pieces*"))


def test_lists_of_other_sources_are_found_out() -> None:
    rng = random.Random(3)
    words = ["".join(rng.choices("abcdefghij", k=4)) for _ in range(500)]
    golds = [" ".join(rng.choices(words, k=10)) for _ in range(300)]
    right, shifted = Fit(), Fit()
    for number, gold in enumerate(golds):
        right.add(gold, " ".join(word if rng.random() < 0.3 else rng.choice(words) for word in gold.split()))
        shifted.add(gold, golds[(number + 50) % 300])
    assert not right.refuse()
    assert shifted.refuse()
    few = Fit()
    for gold in golds[:50]:
        few.add(gold, "unrelated")
    assert not few.refuse()
