"""Encoding: equal to sentencepiece and stock `fairseq-preprocess`, whatever the number of workers, in flat memory."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

from kd.corpora.ids import Origin
from kd.corpora.index import Damaged
from kd.corpora.shards import Corpus, CorpusWriter, target_columns
from kd.engines.fairseq.binary import IndexedReader, data_folder, data_folders, data_prefix, read_runs
from kd.engines.fairseq.encoding import SIDES, Encoded, Encoding, encode_corpora, encode_pairs
from kd.models import vocabulary
from kd.models.segmentation import Sampling
from kd.recipe.schema import VocabularyConfig

Texts = list[tuple[str, str]]


def texts(count: int, seed: int, words: tuple[int, int] = (1, 12)) -> Texts:
    """Make random sentences with digits, punctuation, letters of several scripts, and double spaces."""
    rng = random.Random(seed)
    things = ["Haus", "see", "12", "größer", "…", "m²", "日本", "e\u0301", "naïve", "(a)", "x" * 30, "😀", "", "B.C."]
    return [
        (" ".join(rng.choices(things, k=rng.randint(*words))), " ".join(rng.choices(things, k=rng.randint(*words))))
        for _ in range(count)
    ]


def corpus(folder: Path, pairs: Iterable[tuple[str, str]], lines: int = 100, name: str = "made_up") -> Corpus:
    origin = Origin("en-de", name)
    with CorpusWriter(folder, ("en", "de"), lines, origins=[origin]) as writer:
        for pair in origin.number(pairs):
            writer.add(pair)
    return Corpus(folder)


def trained(folder: Path, byte_fallback: bool = True) -> Path:
    """A vocabulary of the sentences of `texts`."""
    config = VocabularyConfig(
        size=290 if byte_fallback else 40,
        model="unigram",
        character_coverage=1.0,
        normalization="identity",
        byte_fallback=byte_fallback,
        split_digits=True,
        sample=10_000,
        seed=1,
    )
    vocabulary.train((side for pair in texts(2000, 0) for side in pair), folder, config, [])
    return folder


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def without_bytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As sentencepiece trains by default: characters that it does not know stay in its output as they are."""
    return trained(tmp_path_factory.mktemp("without_bytes"), byte_fallback=False)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sentences(folder: Path, split: str = "train") -> list[tuple[list[int], list[int]]]:
    readers = [IndexedReader(data_prefix(folder, split, side)) for side in SIDES]
    assert len(readers[0]) == len(readers[1])
    return [tuple(reader[number].tolist() for reader in readers) for number in range(len(readers[0]))]


def stock(pairs: Texts, model: Path, folder: Path) -> Path:
    """What people do: sentencepiece to text files, then fairseq-preprocess with the model's dictionary."""
    processor = SentencePieceProcessor(model_file=str(model / "vocabulary.model"))
    for number, side in enumerate(SIDES):
        lines = (" ".join(line) for line in processor.encode([pair[number] for pair in pairs], out_type=str))
        (folder / f"text.{side}").write_bytes("".join(line + "\n" for line in lines).encode())
    subprocess.run(
        [
            *(sys.executable, "-m", "kd.engines.fairseq", "fairseq-preprocess"),
            *("--source-lang", "source", "--target-lang", "target", "--dataset-impl", "mmap", "--joined-dictionary"),
            *("--trainpref", str(folder / "text"), "--destdir", str(folder / "data")),
            *("--srcdict", str(model / "dict.txt")),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "data"


# --- equal to stock ------------------------------------------------------------------------------------------------


def test_bytes_equal_those_of_sentencepiece_and_fairseq_preprocess(pieces: Path, tmp_path: Path) -> None:
    pairs = [*texts(430, 1), ("", "empty source"), ("   ", "tab\there")]
    theirs = files(stock(pairs, pieces, tmp_path))
    out = tmp_path / "ours"
    out.mkdir()
    encode_corpora([corpus(tmp_path / "c", pairs)], out, Encoding(pieces, 10_000), folder_pairs=10**6, workers=2)
    ours = files(out)
    assert sorted(ours) == [f"train.source-target.{side}.{suffix}" for side in SIDES for suffix in ("bin", "idx")]
    assert all(theirs[name] == content for name, content in ours.items())


def test_where_stock_goes_wrong_ours_does_not(without_bytes: Path, tmp_path: Path) -> None:
    characters = ["\xa0", "\u2028", "\x85", "\r"]
    pairs = [(f"12 see{character}Haus 12", "12") for character in characters]
    out = tmp_path / "ours"
    out.mkdir()
    encode_corpora([corpus(tmp_path / "c", pairs)], out, Encoding(without_bytes, 100), folder_pairs=10**6)
    processor = SentencePieceProcessor(model_file=str(without_bytes / "vocabulary.model"))
    expected = processor.encode([source for source, _ in pairs], out_type=int, add_eos=True)
    assert [source for source, _ in sentences(out)] == expected
    assert all(ids.count(3) == 1 for ids in expected)  # <unk>
    # Stock takes the unknown piece for the space between pieces, and at a lone \r makes two lines of one.
    theirs = IndexedReader(data_prefix(stock(pairs, without_bytes, tmp_path), "train", "source"))
    assert len(theirs) == len(pairs) + 1
    known = [[number for number in ids if number != 3] for ids in expected]
    assert [theirs[number].tolist() for number in range(3)] == known[:3]
    assert [*theirs[3][:-1].tolist(), *theirs[4].tolist()] == known[3]


# --- independent of how it is done ---------------------------------------------------------------------------------


def encoded(pieces: Path, corpora: list[Corpus], out: Path, **options: object) -> list[Encoded]:
    out.mkdir()
    return encode_corpora(corpora, out, Encoding(pieces, 40), **{"folder_pairs": 10**6, **options})  # type: ignore[arg-type]


def test_the_number_of_workers_does_not_change_the_output(pieces: Path, tmp_path: Path) -> None:
    made = corpus(tmp_path / "c", texts(1050, 2))
    told: list[int] = []
    one = encoded(pieces, [made], tmp_path / "one", folder_pairs=300, progress=told.append)
    three = encoded(pieces, [made], tmp_path / "three", folder_pairs=300, workers=3)
    assert one == three
    assert files(tmp_path / "one") == files(tmp_path / "three")
    assert told[-1] == 1050


def test_long_pairs_are_left_out_on_both_sides(pieces: Path, tmp_path: Path) -> None:
    pairs = texts(300, 3)
    [counted] = encoded(pieces, [corpus(tmp_path / "c", pairs)], tmp_path / "out")
    ids = [vocabulary.Vocabulary(pieces).encode_ids([pair[side] for pair in pairs]) for side in (0, 1)]
    expected = [([*s, 2], [*t, 2]) for s, t in zip(*ids, strict=True) if max(len(s), len(t)) <= 40]
    assert sentences(tmp_path / "out") == expected
    assert 0 < len(expected) < 300
    assert counted == Encoded(
        pairs=len(expected),
        source=sum(len(source) for source, _ in expected),
        target=sum(len(target) for _, target in expected),
        too_long=300 - len(expected),
    )


def test_folders_hold_everything_once_and_are_of_one_size(pieces: Path, tmp_path: Path) -> None:
    made = corpus(tmp_path / "c", texts(1000, 4, words=(1, 3)), lines=50)
    whole = encoded(pieces, [made], tmp_path / "whole")
    cut = encoded(pieces, [made], tmp_path / "cut", folder_pairs=300)
    folders = data_folders(tmp_path / "cut")
    assert folders == (tmp_path / "cut", *(tmp_path / "cut" / f"folder-000{number}" for number in (2, 3, 4)))
    assert [each.pairs + each.too_long for each in cut] == [250, 250, 250, 250]
    assert [pair for folder in folders for pair in sentences(folder)] == sentences(tmp_path / "whole")
    assert whole[0].pairs == sum(each.pairs for each in cut)


def test_each_folder_has_its_share_of_every_corpus(pieces: Path, tmp_path: Path) -> None:
    large = corpus(tmp_path / "a", [("see", "see")] * 800, lines=50, name="a")
    small = corpus(tmp_path / "b", [("Haus", "Haus")] * 200, lines=25, name="b")
    encoded(pieces, [large, small], tmp_path / "out", folder_pairs=250)
    haus = [*vocabulary.Vocabulary(pieces).encode_ids(["Haus"])[0], 2]
    shares = [np.mean([source == haus for source, _ in sentences(folder)]) for folder in data_folders(tmp_path / "out")]
    assert len(shares) == 4
    assert shares == pytest.approx([0.2] * 4, abs=0.05)


def test_the_language_pair_of_each_sentence_is_recorded(pieces: Path, tmp_path: Path) -> None:
    large = corpus(tmp_path / "a", [("see", "see")] * 800, lines=50, name="a")
    small = corpus(tmp_path / "b", [("Haus", "Haus")] * 200, lines=25, name="b")
    encoded(pieces, [large, small], tmp_path / "out", folder_pairs=250, pairs=["en-de", "en-nl"])
    haus = [*vocabulary.Vocabulary(pieces).encode_ids(["Haus"])[0], 2]
    for folder in data_folders(tmp_path / "out"):
        names = [name for name, count in read_runs(folder) for _ in range(count)]
        assert names == ["en-nl" if source == haus else "en-de" for source, _ in sentences(folder)]


def test_a_vocabulary_numbered_otherwise_is_read_by_its_dictionary(pieces: Path, tmp_path: Path) -> None:
    (tmp_path / "vocabulary.model").write_bytes((pieces / "vocabulary.model").read_bytes())
    lines = (pieces / "dict.txt").read_text("utf-8").split("\n")[:-1]
    (tmp_path / "dict.txt").write_text("".join(line + "\n" for line in reversed(lines)), "utf-8")
    encode_pairs([("en", [("see Haus", "12")])], [tmp_path / side for side in SIDES], Encoding(tmp_path, 100))
    [expected] = vocabulary.Vocabulary(tmp_path).encode_ids(["see Haus"])
    assert IndexedReader(tmp_path / "source")[0].tolist() == [*expected, 2]
    assert expected != vocabulary.Vocabulary(pieces).encode_ids(["see Haus"])[0]


# --- several targets of each source --------------------------------------------------------------------------------


def three_targets(folder: Path, pairs: list[tuple[str, str]]) -> Corpus:
    """A corpus whose second and third targets are the first with other endings."""
    origin = Origin("en-de", "made_up")
    with CorpusWriter(folder, ("en", "de"), 60, columns=target_columns(3)[1:], origins=[origin]) as writer:
        for pair in origin.number(pairs):
            writer.add(pair, f"{pair.target} two", f"{pair.target} three")
    return Corpus(folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_pass_has_another_target_and_sources_are_stored_once(pieces: Path, tmp_path: Path, workers: int) -> None:
    pairs = texts(250, 8, words=(1, 4))
    made = three_targets(tmp_path / "c", pairs)
    (tmp_path / "out").mkdir()
    how = Encoding(pieces, 10_000)
    counted = encode_corpora([made], tmp_path / "out", how, folder_pairs=125, passes=3, targets=3, workers=workers)
    folders = data_folders(tmp_path / "out")
    assert len(folders) == len(counted) == 6
    read = vocabulary.Vocabulary(pieces)
    for turn, ending in enumerate(("", " two", " three")):
        found = [pair for folder in folders[2 * turn : 2 * turn + 2] for pair in sentences(folder)]
        assert [tuple(read.decode_pieces(read.pieces_of(ids[:-1])) for ids in pair) for pair in found] == [
            (source, target + ending) for source, target in pairs
        ]
        for folder, first in zip(folders[2 * turn : 2 * turn + 2], folders[:2], strict=True):
            data = folder / "train.source-target.source.bin"
            assert data.resolve() == (first / data.name).resolve()
    sizes = [(each.pairs, sum(len(target) for _, target in sentences(folder))) for each, folder in
             zip(counted, folders, strict=True)]  # fmt: skip
    assert [(each.pairs, each.target) for each in counted] == sizes


def test_a_pair_one_of_whose_targets_is_too_long_is_left_out_of_all_passes(pieces: Path, tmp_path: Path) -> None:
    made = three_targets(tmp_path / "c", [("see", "Haus"), ("Haus", "see " * 37)])  # fits without the ending alone
    counted = encoded(pieces, [made], tmp_path / "out", passes=3, targets=3)
    assert [(each.pairs, each.too_long) for each in counted] == [(1, 1)] * 3


def test_passes_with_sampling_take_the_targets_in_turn(pieces: Path, tmp_path: Path) -> None:
    pairs = texts(80, 9)
    made = three_targets(tmp_path / "c", pairs)
    (tmp_path / "out").mkdir()
    how = Encoding(pieces, 10_000, Sampling(0.2, 16, 1))
    encode_corpora([made], tmp_path / "out", how, folder_pairs=10**6, passes=4, targets=3)
    read = vocabulary.Vocabulary(pieces)
    endings = []
    for folder in data_folders(tmp_path / "out"):
        target = read.decode_pieces(read.pieces_of(sentences(folder)[0][1][:-1]))
        endings.append(target.removeprefix(pairs[0][1]))
    assert endings == ["", " two", " three", ""]


# --- sub-word regularisation ---------------------------------------------------------------------------------------


def test_sampling_is_seeded_and_independent_of_workers_and_differs_by_pass(pieces: Path, tmp_path: Path) -> None:
    pairs = texts(250, 7)
    made = corpus(tmp_path / "c", pairs)

    def sampled(name: str, seed: int = 1, workers: int = 1) -> dict[str, bytes]:
        out = tmp_path / name
        out.mkdir()
        how = Encoding(pieces, 10_000, Sampling(0.2, 16, seed))
        encode_corpora([made], out, how, folder_pairs=10**6, passes=2, workers=workers)
        return files(out)

    one = sampled("one")
    assert one == sampled("two", workers=2)
    assert one != sampled("other", seed=2)
    first, second = (sentences(folder) for folder in data_folders(tmp_path / "one"))
    assert first != second
    read = vocabulary.Vocabulary(pieces)
    for passed in (first, second):  # the same text, cut otherwise
        assert [tuple(read.decode_pieces(read.pieces_of(ids[:-1])) for ids in pair) for pair in passed] == pairs


# --- when things go wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shard_that_lacks_lines_is_refused_by_name(workers: int, pieces: Path, tmp_path: Path) -> None:
    made = corpus(tmp_path / "c", texts(300, 5))
    other = corpus(tmp_path / "d", texts(299, 5))
    made.shards[2].path.write_bytes(other.shards[2].path.read_bytes())
    with pytest.raises(Damaged, match=r"00002\.tsv\.zst ends after line 99"):
        encoded(pieces, [made], tmp_path / "out", workers=workers)


WORKERS = """
import sys
from pathlib import Path
from kd.corpora.shards import Corpus
from kd.engines.fairseq.encoding import Encoding, encode_corpora
from kd.base.errors import TransientError
if __name__ == "__main__":
    corpus, out = Corpus(sys.argv[1]), Path(sys.argv[2])
    out.mkdir()
    corpus.shards *= 1000  # for ever, as seen from here
    try:
        encode_corpora([corpus], out, Encoding(Path(sys.argv[3]), 100), folder_pairs=10**9, workers=2)
    except TransientError as error:
        sys.exit(f"told: {error}")
"""


@pytest.mark.parametrize("whom", ["parent", "worker"])
def test_nobody_outlives_a_kill(whom: str, pieces: Path, tmp_path: Path) -> None:
    made = corpus(tmp_path / "c", texts(2000, 8), lines=1000)
    (tmp_path / "run.py").write_text(WORKERS, "utf-8")
    command = [sys.executable, str(tmp_path / "run.py"), str(made.folder), str(tmp_path / "out"), str(pieces)]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("part-*.bin"))) < 3:
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
    workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 2
    os.kill(parent.pid if whom == "parent" else workers[0], signal.SIGKILL)
    _, told = parent.communicate(timeout=60)
    if whom == "worker":
        assert "told: A worker process was killed" in told
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.01)


def test_a_data_folder_with_a_missing_part_is_refused(tmp_path: Path) -> None:
    assert data_folders(tmp_path) == (tmp_path,)
    data_folder(tmp_path, 2).mkdir()
    with pytest.raises(ValueError, match="missing"):
        data_folders(tmp_path)


MEMORY = """
import sys
from pathlib import Path
from kd.corpora.shards import Corpus
from kd.engines.fairseq.encoding import Encoding, encode_corpora
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir()
encode_corpora([Corpus(folder)], out, Encoding(Path(sys.argv[3]), 100), folder_pairs=10**6)
# Not getrusage: what it says begins with the memory of the process that started this one.
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def test_memory_does_not_grow_with_the_corpus(pieces: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (40_000, 320_000):  # with fewer, what the allocator keeps has not settled yet on Python 3.12
        made = corpus(tmp_path / str(count), texts(count, 6, words=(10, 12)), lines=10_000)
        command = [sys.executable, "-c", MEMORY, str(made.folder), str(tmp_path / f"out-{count}"), str(pieces)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] < 1.1 * peaks[0]
