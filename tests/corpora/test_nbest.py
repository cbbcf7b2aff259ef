"""N-best lists round-trip whatever the text holds; what is lost, doubled or swapped is refused with file and line."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from kd.base.errors import IncompleteArtifact, UserError
from kd.corpora.finished import finished
from kd.corpora.ids import Pair
from kd.corpora.nbest import (
    Hypothesis,
    NBestCorpus,
    NBestList,
    NBestShardWriter,
    NBestWriter,
    escape,
    member_features,
    read_nbest,
    unescape,
    write_nbest_index,
)
from kd.corpora.shards import Corpus, CorpusWriter
from tests.corpora.samples import TORTURE, rewrite

nasty = st.lists(st.sampled_from(["|", "&", "#124;", "amp;", " ", "a", "\u2028", "\r"])).map("".join) | st.text(
    st.characters(exclude_characters="\n", exclude_categories=["Cs"])
)
scores = st.floats(allow_nan=False)


@given(nasty)
@example("|||")
@example("||||||| &#124; &amp;#124; &amp;amp;#124; &&#124;")
def test_escaping_is_reversible_and_leaves_no_separator(text: str) -> None:
    assert "|||" not in escape(text)
    assert unescape(escape(text)) == text


def test_escaping_is_the_one_that_the_format_names() -> None:
    assert escape("a ||| b | c") == "a &#124;&#124;&#124; b | c"
    assert escape("&#124; &amp;#124; &amp;") == "&amp;#124; &amp;amp;#124; &amp;"


@given(st.lists(st.lists(st.tuples(nasty, scores, scores, nasty), min_size=1, max_size=3), max_size=4))
def test_lists_round_trip_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[tuple[str, float, float, str]]]
) -> None:
    folder = tmp_path_factory.mktemp("nbest")
    lists = [
        NBestList(
            17 + 1000 * place,
            [Hypothesis(text, member_features([member, total]), total, pieces) for text, member, total, pieces in row],
        )
        for place, row in enumerate(rows)
    ]
    with NBestWriter(folder / "nbest.zst", pieces=True) as writer:
        for nbest in lists:
            writer.add(nbest)
    assert list(read_nbest(folder / "nbest.zst")) == lists
    assert writer.lists == len(lists)
    assert writer.lines == sum(map(len, rows))


def test_torture_text_survives(tmp_path: Path) -> None:
    hypotheses = [Hypothesis(text, {}, -1.0) for text in TORTURE]
    with NBestWriter(tmp_path / "nbest.gz") as writer:
        writer.add(NBestList(3, hypotheses))
    assert list(read_nbest(tmp_path / "nbest.gz")) == [NBestList(3, hypotheses)]


def test_a_line_is_what_the_format_says(tmp_path: Path) -> None:
    with NBestWriter(tmp_path / "nbest", pieces=True) as writer:
        writer.add(NBestList(7, [Hypothesis("ein Haus", member_features([-1.2, -1.3]), -1.25, "▁ein ▁Haus")]))
    assert (tmp_path / "nbest").read_text() == "7 ||| ein Haus ||| F0= -1.2 F1= -1.3 ||| -1.25 ||| ▁ein ▁Haus\n"


def test_lists_of_other_tools_are_read(tmp_path: Path) -> None:
    # Moses' manual, "n-best lists", shows features with several values; Marian leaves the text as it is.
    (tmp_path / "nbest").write_text(
        "0 ||| we &#124; meet ||| LexicalReordering0= -1.8 0 -2 LM0= -26 ||| -3\n1 ||| no ||| F0= -1 ||| -1\n"
    )
    first, second = read_nbest(tmp_path / "nbest", escaped=False)
    assert first.hypotheses[0].text == "we &#124; meet"
    assert first.hypotheses[0].features == {"LexicalReordering0": (-1.8, 0, -2), "LM0": (-26,)}
    assert second == NBestList(1, [Hypothesis("no", {"F0": (-1,)}, -1)])


GOOD = "0 ||| a ||| F0= -1 ||| -1\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (GOOD + "0 ||| b ||| -2\n", "line 2: 3 fields where n-best lists have 4 or 5"),
        (GOOD + "0 ||| b ||| c ||| F0= -1 ||| -1\n", "line 2: a feature's name is missing before 'c'"),
        (GOOD + "\n", "line 2: 1 fields"),
        (GOOD + "x ||| a ||| F0= -1 ||| -1\n", "line 2: 'x' is not an id"),
        (GOOD + "-1 ||| a ||| F0= -1 ||| -1\n", "line 2: '-1' is not an id"),
        (GOOD + "0 ||| a ||| F0= -1 ||| best\n", "line 2: 'best' is not a score"),
        (GOOD + "0 ||| a ||| F0= nan ||| -1\n", "line 2: 'nan' is not a score"),
        (GOOD + "0 ||| a ||| F0= F1= -1 ||| -1\n", "line 2: the feature F0 has no value"),
        (GOOD + "0 ||| a ||| F0= -1 F0= -1 ||| -1\n", "line 2: 'F0=' is not a feature's name, or occurs twice"),
        (GOOD + "0 ||| a ||| -1 ||| -1\n", "line 2: a feature's name is missing before '-1'"),
        (GOOD + GOOD.replace("0", "1", 1) + GOOD, "line 3: the id 0 occurs again after another id"),
        (
            GOOD.replace("0", "9", 1) + GOOD + GOOD.replace("0", "9", 1),
            "line 3: the id 9 occurs again after another id",
        ),
    ],
)
def test_another_form_is_refused_with_its_line(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "lists").write_text(content)
    with pytest.raises(UserError) as caught:
        list(read_nbest(tmp_path / "lists"))
    assert f"{tmp_path / 'lists'}, {sentence}" in caught.value.problem


def test_lists_are_read_with_and_without_tokens(tmp_path: Path) -> None:
    (tmp_path / "lists").write_text(GOOD + GOOD.replace("\n", " ||| ▁a ||| ▁b\n"))
    (nbest,) = read_nbest(tmp_path / "lists")
    assert [hypothesis.pieces for hypothesis in nbest.hypotheses] == [None, "▁a ||| ▁b"]


@pytest.mark.parametrize(
    "lists",
    [
        [NBestList(1, [])],
        [NBestList(-1, [Hypothesis("a", {}, -1.0, "a")])],
        [NBestList(1, [Hypothesis("a", {}, -1.0, "a")]), NBestList(1, [Hypothesis("a", {}, -1.0, "a")])],
        [NBestList(1, [Hypothesis("a", {}, math.nan, "a")])],
        [NBestList(1, [Hypothesis("a", {}, -1.0)])],
        [NBestList(1, [Hypothesis("a\nb", {}, -1.0, "a")])],
    ],
)
def test_a_list_that_could_not_be_read_back_is_not_written(tmp_path: Path, lists: list[NBestList]) -> None:
    with pytest.raises(ValueError), NBestWriter(tmp_path / "nbest", pieces=True) as writer:
        for nbest in lists:
            writer.add(nbest)
    assert list(tmp_path.iterdir()) == []


# --- folders -----------------------------------------------------------------------------------------------------


def decoded(folder: Path) -> tuple[Corpus, NBestCorpus]:
    """A corpus of two shards, three sources in each, decoded by two workers."""
    with CorpusWriter(folder / "corpus", ("en", "de"), 4, keep_groups=True) as writer:
        for place, source in enumerate("aabcddef"):
            writer.add(Pair(100 + place, source, source.upper()))
    corpus = Corpus(folder / "corpus")
    for worker, shard in enumerate(corpus.shards):
        with NBestShardWriter(folder / str(worker), shard.name) as nbest:
            for group in shard.groups():
                hypotheses = [Hypothesis(f"{group[0].source}{n}", {"F0": (-n,)}, -n, "▁x") for n in (1.0, 2.0)]
                nbest.add(NBestList(group[0].id, hypotheses))
        write_nbest_index(folder / str(worker), {"scores": "natural logarithms"})
    return corpus, NBestCorpus.join([folder / "1", folder / "0"])


def test_lists_stand_beside_the_groups_they_translate(tmp_path: Path) -> None:
    corpus, lists = decoded(tmp_path)
    assert [shard.name for shard in lists.shards] == ["00000", "00001"]
    assert (lists.lists, lists.lines) == (6, 12)
    assert lists.facts == {"scores": "natural logarithms"}
    seen = [
        ([pair.id for pair in group], nbest.id, nbest.hypotheses[0].text)
        for shard, nbest_shard in zip(corpus.shards, lists.shards, strict=True)
        for group, nbest in nbest_shard.beside(shard)
    ]
    assert seen[:2] == [([100, 101], 100, "a1.0"), ([102], 102, "b1.0")]
    assert len(seen) == 6
    lists.verify({shard.name: shard for shard in corpus.shards})
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == [
        "00000.nbest.zst",
        "index.json",
        "shards.jsonl",
    ]


def test_a_worker_that_dies_keeps_its_finished_shards(tmp_path: Path) -> None:
    with NBestShardWriter(tmp_path, "00000") as writer:
        writer.add(NBestList(1, [Hypothesis("a", {}, -1.0, "a")]))
    with pytest.raises(KeyboardInterrupt), NBestShardWriter(tmp_path, "00001") as writer:
        writer.add(NBestList(2, [Hypothesis("a", {}, -1.0, "a")]))
        raise KeyboardInterrupt
    assert list(finished(tmp_path)) == ["00000"]
    with pytest.raises(IncompleteArtifact):
        NBestCorpus(tmp_path)
    write_nbest_index(tmp_path, {})
    assert [shard.name for shard in NBestCorpus(tmp_path).shards] == ["00000"]


def test_a_lost_line_is_noticed(tmp_path: Path) -> None:
    corpus, lists = decoded(tmp_path)
    rewrite(tmp_path / "0" / "00000.nbest.zst", lambda lines: lines[:2] + lines[3:])
    with pytest.raises(UserError, match=r"00000\.nbest\.zst ends after line 5, with 3 lists; its index states 6 and 3"):
        list(lists.shards[0].beside(corpus.shards[0]))
    with pytest.raises(IncompleteArtifact, match=r"00000\.nbest\.zst was changed: .* 5 lines"):
        lists.verify()


def test_a_lost_list_is_noticed_at_its_line(tmp_path: Path) -> None:
    corpus, lists = decoded(tmp_path)
    rewrite(tmp_path / "0" / "00000.nbest.zst", lambda lines: lines[:2] + lines[4:])
    with pytest.raises(UserError, match=r"00000\.nbest\.zst, line 3: the list of 103 is in the place of 102"):
        list(lists.shards[0].beside(corpus.shards[0]))


def test_swapped_shards_are_noticed(tmp_path: Path) -> None:
    corpus, lists = decoded(tmp_path)
    first = corpus.shards[0]
    with pytest.raises(IncompleteArtifact, match="line 1: the list of 104 is in the place of 100"):
        list(lists.shards[1].beside(first))
    with pytest.raises(IncompleteArtifact, match=r"00001\.nbest\.zst belongs to no shard"):
        lists.verify({"00000": first})
    with pytest.raises(UserError, match="hold a shard 00000"):
        NBestCorpus.join([tmp_path / "0", tmp_path / "0"])


def test_features_are_the_same_throughout(tmp_path: Path) -> None:
    with NBestShardWriter(tmp_path, "00000") as writer:
        writer.add(NBestList(1, [Hypothesis("a", {"F0": (-1.0,)}, -1.0, "a"), Hypothesis("b", {}, -1.0, "b")]))
    write_nbest_index(tmp_path, {})
    with pytest.raises(IncompleteArtifact, match=r"00000\.nbest\.zst, line 2: features unlike"):
        NBestCorpus(tmp_path).verify()


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    _, lists = decoded(tmp_path)
    path = tmp_path / "1" / "00001.nbest.zst"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IncompleteArtifact, match=r"00001\.nbest\.zst is truncated after line \d+"):
        lists.verify()
    path.write_bytes(zstandard.compress(b"junk"))
    with pytest.raises(IncompleteArtifact, match=r"00001\.nbest\.zst was changed"):
        lists.verify()


def test_tokens_are_in_every_line_of_a_shard_or_in_none(tmp_path: Path) -> None:
    _, lists = decoded(tmp_path)
    path = tmp_path / "0" / "00000.nbest.zst"
    rewrite(path, lambda lines: [lines[0].rpartition(b" ||| ")[0], *lines[1:]])
    entry = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    with pytest.raises(IncompleteArtifact, match=r"00000\.nbest\.zst, line 2: features unlike those of line 1"):
        replace(lists.shards[0], file=entry).verify()
