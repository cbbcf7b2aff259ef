"""Corpus folders give back what was written, and refuse, with file and line, what was changed since."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kd.base.errors import IncompleteArtifact, UserError
from kd.corpora.ids import Origin, Pair
from kd.corpora.shards import Corpus, CorpusWriter
from tests.corpora.samples import TORTURE, rewrite

texts = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20)
LANGUAGES = ("en", "de")


def written(folder: Path, pairs: list[Pair], lines: int = 3, keep_groups: bool = False) -> Corpus:
    with CorpusWriter(folder, LANGUAGES, lines, keep_groups=keep_groups) as writer:
        for pair in pairs:
            writer.add(pair)
    return Corpus(folder)


def numbered(sources: list[str]) -> list[Pair]:
    return [Pair(place, source, f"translation {place}") for place, source in enumerate(sources)]


def forge(folder: Path, shard: int) -> None:
    """Make the index agree with a changed file's hash, so that the checks behind the hash are reached."""
    index = json.loads((folder / "index.json").read_text())
    entry = index["shards"][shard]
    content = (folder / f"{entry['name']}.tsv.zst").read_bytes()
    entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "index.json").write_text(json.dumps(index))


@given(
    st.lists(st.tuples(st.integers(0, 2**63 - 1), texts, texts, texts), unique_by=lambda row: row[0]), st.integers(1, 5)
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, str, str]], lines: int
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    with CorpusWriter(folder, LANGUAGES, lines, columns=["score"]) as writer:
        for row in rows:
            writer.add(Pair(*row[:3]), row[3])
    corpus = Corpus(folder)
    assert list(corpus.read()) == [row[:3] for row in rows]
    assert list(corpus.column("score")) == [row[3] for row in rows]
    assert [(tuple(pair), *values) for shard in corpus.shards for pair, values in shard.rows("score")] == [
        (row[:3], row[3]) for row in rows
    ]
    assert corpus.pairs == len(rows)
    assert [shard.lines for shard in corpus.shards[:-1]] == [lines] * (len(corpus.shards) - 1)
    assert corpus.languages == LANGUAGES
    corpus.verify()


def test_torture_text_survives(tmp_path: Path) -> None:
    pairs = [Pair(place, text, text[::-1]) for place, text in enumerate(TORTURE)]
    corpus = written(tmp_path, pairs)
    assert list(corpus.read()) == pairs
    corpus.verify()


TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\n"), max_size=12)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT), max_size=9), st.integers(1, 4))
def test_further_columns_stay_beside_their_pairs(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, str]], lines: int
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    origin = Origin("en-de", "demo", licence="CC0-1.0", weight=2.0)
    with CorpusWriter(folder, LANGUAGES, lines, columns=["bicleaner", "prop_domain"], origins=[origin]) as writer:
        for pair, values in origin.number_rows(rows):
            writer.add(pair, *values)
    corpus = Corpus(folder)
    corpus.verify()
    assert list(corpus.origins.values()) == [origin]
    found = [
        (pair.source, pair.target, *values)
        for shard in corpus.shards
        for pair, values in shard.rows("bicleaner", "prop_domain")
    ]
    assert found == rows


@given(st.lists(st.sampled_from("abc")), st.integers(1, 4))
def test_a_run_of_equal_sources_is_never_cut(
    tmp_path_factory: pytest.TempPathFactory, sources: list[str], lines: int
) -> None:
    pairs = numbered(sorted(sources))
    corpus = written(tmp_path_factory.mktemp("corpus"), pairs, lines, keep_groups=True)
    groups = list(corpus.groups())
    assert [pair for group in groups for pair in group] == pairs
    assert [group[0].source for group in groups] == sorted(set(sources))
    assert corpus.sources == len(set(sources))
    assert all(shard.lines >= lines for shard in corpus.shards[:-1])
    corpus.verify()


def test_files_are_those_of_the_contract(tmp_path: Path) -> None:
    origin = Origin("en-de", "demo")
    with CorpusWriter(tmp_path, LANGUAGES, 2, columns=["score"], origins=[origin]) as writer:
        for pair in origin.number([("a", "x"), ("a", "y"), ("b", "z")]):
            writer.add(pair, "0.5")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000.tsv.zst",
        "00001.tsv.zst",
        "index.json",
    ]
    index = json.loads((tmp_path / "index.json").read_text())
    assert [(shard["name"], shard["lines"], shard["sources"]) for shard in index["shards"]] == [
        ("00000", 2, 1),
        ("00001", 1, 1),
    ]
    assert index["origins"] == [
        {
            "pair": "en-de",
            "name": "demo",
            "use": "train",
            "licence": "unknown",
            "weight": 1.0,
            "prefix": origin.prefix,
        }
    ]
    text = zstandard.decompress((tmp_path / "00000.tsv.zst").read_bytes(), max_output_size=99)
    assert text.decode() == f"{origin.prefix << 40}\ta\tx\t0.5\n{(origin.prefix << 40) + 1}\ta\ty\t0.5\n"
    Corpus(tmp_path).verify()


def test_workers_carry_names_on_and_join(tmp_path: Path) -> None:
    for worker, names in enumerate((["00000", "00002"], ["00001"])):
        with CorpusWriter(tmp_path / str(worker), LANGUAGES, None) as writer:
            for name in names:
                writer.begin_shard(name)
                if name != "00002":
                    writer.add(Pair(int(name), f"source {name}", "target"))
    corpus = Corpus.join([tmp_path / "0", tmp_path / "1"])
    assert [shard.name for shard in corpus.shards] == ["00000", "00001", "00002"]
    assert [pair.id for pair in corpus.read()] == [0, 1]
    assert [shard.lines for shard in corpus.shards] == [1, 1, 0]
    corpus.verify()
    with pytest.raises(UserError, match="hold a shard 00001"):
        Corpus.join([tmp_path / "1", tmp_path / "1"])


def test_finished_shards_are_taken_over(tmp_path: Path) -> None:
    for number, rows in enumerate(([1, 2], [], [3])):
        with CorpusWriter(tmp_path / f"piece-{number}", LANGUAGES, None) as writer:
            writer.begin_shard(f"{number:05d}")
            for row in rows:
                writer.add(Pair(row, f"source {row}", "target"))
    with CorpusWriter(tmp_path / "other", ("en", "fr"), None):
        pass
    with CorpusWriter(tmp_path / "whole", LANGUAGES, None) as writer:
        for number in range(3):
            writer.take(Corpus(tmp_path / f"piece-{number}"))
        with pytest.raises(ValueError, match="other languages"):
            writer.take(Corpus(tmp_path / "other"))
    corpus = Corpus(tmp_path / "whole")
    assert [pair.id for pair in corpus.read()] == [1, 2, 3]
    assert (writer.pairs, writer.sources) == (corpus.pairs, corpus.sources) == (3, 3)
    corpus.verify()
    assert not (tmp_path / "piece-0" / "00000.tsv.zst").exists(), "moved, not copied"


def test_corpora_of_different_kinds_do_not_join(tmp_path: Path) -> None:
    written(tmp_path / "a", [])
    with CorpusWriter(tmp_path / "b", ("en", "fr"), 3):
        pass
    with pytest.raises(UserError, match="differ in languages"):
        Corpus.join([tmp_path / "a", tmp_path / "b"])


def test_a_writer_that_fails_leaves_no_index(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line break"), CorpusWriter(tmp_path, LANGUAGES, 2) as writer:
        writer.add(Pair(1, "a", "b"))
        writer.add(Pair(2, "a", "two\nlines"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IncompleteArtifact, match=r"index\.json is missing"):
        Corpus(tmp_path)


@pytest.mark.parametrize("bad", [-1, 2**63])
def test_ids_have_63_bits(tmp_path: Path, bad: int) -> None:
    with pytest.raises(ValueError, match="63 bits"), CorpusWriter(tmp_path, LANGUAGES, 2) as writer:
        writer.add(Pair(bad, "a", "b"))


def test_a_lost_line_is_noticed_by_every_reader(tmp_path: Path) -> None:
    corpus = written(tmp_path, numbered(list("abcde")))
    rewrite(tmp_path / "00001.tsv.zst", lambda lines: lines[:-1])
    for read in (corpus.read, lambda: corpus.column("target"), lambda: corpus.texts("id", "source")):
        with pytest.raises(UserError, match=r"00001\.tsv\.zst ends after line 1, but its index states 2 lines"):
            list(read())
    with pytest.raises(IncompleteArtifact, match=r"00001\.tsv\.zst was changed: .* 1 lines"):
        corpus.verify()


def test_a_lost_or_additional_cell_is_named_with_its_line(tmp_path: Path) -> None:
    corpus = written(tmp_path, numbered(list("abc")))
    rewrite(tmp_path / "00000.tsv.zst", lambda lines: [lines[0], lines[1].rpartition(b"\t")[0], lines[2]])
    with pytest.raises(UserError, match=r"00000\.tsv\.zst, line 2: 2 columns instead of 3"):
        list(corpus.read())
    rewrite(tmp_path / "00000.tsv.zst", lambda lines: [lines[0] + b"\t", *lines[1:]])
    with pytest.raises(UserError, match=r"00000\.tsv\.zst, line 1: 4 columns instead of 3"):
        list(corpus.column("id"))


def test_swapped_lines_and_shards_are_noticed(tmp_path: Path) -> None:
    corpus = written(tmp_path / "lines", numbered(list("abcdef")))
    rewrite(tmp_path / "lines" / "00001.tsv.zst", lambda lines: lines[::-1])
    with pytest.raises(IncompleteArtifact, match=r"00001\.tsv\.zst was changed"):
        corpus.verify()
    corpus = written(tmp_path / "shards", numbered(list("abcdef")))
    first, second = (tmp_path / "shards" / f"{shard}.tsv.zst" for shard in ("00000", "00001"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(IncompleteArtifact, match=r"00000\.tsv\.zst was changed"):
        corpus.verify()


def test_a_broken_archive_is_named_with_its_last_good_line(tmp_path: Path) -> None:
    corpus = written(tmp_path, numbered(list("abc")))
    path = tmp_path / "00000.tsv.zst"
    path.write_bytes(path.read_bytes()[:-2])
    for read in (corpus.verify, lambda: list(corpus.read())):
        with pytest.raises(IncompleteArtifact, match=r"00000\.tsv\.zst is truncated after line \d"):
            read()
    path.unlink()
    with pytest.raises(IncompleteArtifact, match=r"00000\.tsv\.zst is missing"):
        corpus.verify()


@pytest.mark.parametrize(
    ("column", "line", "content", "sentence"),
    [
        (0, 2, b"0", r"00000\.tsv\.zst, line 2: the id 0 occurs twice"),
        (0, 3, b"x7", r"00000\.tsv\.zst, line 3: 'x7' is not an id"),
        (0, 3, b"-7", r"00000\.tsv\.zst, line 3: -7 is not an id"),
        (0, 1, b"%d" % (5 << 40), r"00000\.tsv\.zst, line 1: the id \d+ belongs to no corpus"),
        (1, 3, b"a", r"00000\.tsv\.zst, line 3: a source from an earlier run returns"),
        (1, 2, b"a", r"00000\.tsv\.zst has 2 runs of equal sources, not 3"),
        (1, 2, b"\xff", r"00000\.tsv\.zst, line 2: byte 3 of the line is not valid UTF-8"),
    ],
)
def test_planted_corruption_behind_the_hash_is_found_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: int, line: int, content: bytes, sentence: str
) -> None:
    monkeypatch.setattr("kd.corpora.ids.origin_prefix", lambda pair, corpus: 0)
    with CorpusWriter(tmp_path, LANGUAGES, 9, keep_groups=True, origins=[Origin("en-de", "demo")]) as writer:
        for pair in numbered(list("abc")):
            writer.add(pair)

    def change(lines: list[bytes]) -> list[bytes]:
        cells = lines[line - 1].split(b"\t")
        cells[column] = content
        return [*lines[: line - 1], b"\t".join(cells), *lines[line:]]

    rewrite(tmp_path / "00000.tsv.zst", change)
    forge(tmp_path, 0)
    with pytest.raises(IncompleteArtifact, match=sentence):
        Corpus(tmp_path).verify()


def test_a_group_cut_between_shards_is_found(tmp_path: Path) -> None:
    written(tmp_path, numbered(list("aab")), lines=1)  # keep_groups is off
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**index, "groups_kept": True}))
    with pytest.raises(IncompleteArtifact, match=r"00001\.tsv\.zst, line 1: its source also ends"):
        Corpus(tmp_path).verify()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is damaged"),
        ("[1]", "is not a JSON object"),
        (
            '{"format": "kd.nbest", "version": 1}',
            "has format kd.nbest, version 1, but kd.corpus, version 2, is needed",
        ),
        ('{"format": "kd.corpus", "version": 2}', "is damaged: 'source'"),
    ],
)
def test_another_index_is_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        Corpus(tmp_path)


def test_an_unknown_column_is_one_sentence(tmp_path: Path) -> None:
    corpus = written(tmp_path, numbered(["a"]))
    with pytest.raises(UserError, match=r"has no column score\. It has id, source, target"):
        list(corpus.column("score"))


def test_more_shards_than_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.corpora.shards.MOST_SHARDS", 2)
    with pytest.raises(UserError, match=r"more than 2 shards\. Raise shard\.lines"):
        written(tmp_path, numbered(list("abc")), lines=1)


@pytest.mark.parametrize("name", ["9" * 300, "é" * 150])  # file systems take 255 bytes, and é has two
def test_a_name_in_the_index_that_no_file_can_have_is_one_sentence(tmp_path: Path, name: str) -> None:
    written(tmp_path, numbered(list("abc")), lines=2)
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0]["name"] = name
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="is not the name of a shard"):
        Corpus(tmp_path)
