"""fairseq's memory-mapped format: equal to the files of stock `fairseq-preprocess`, and read back."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kd.engines.fairseq.binary import EOS, IndexedReader, IndexedWriter, best_dtype


@pytest.mark.parametrize("size", [300, 66_000])  # two bytes an id, and four
def test_bytes_equal_those_of_fairseq_preprocess(tmp_path: Path, size: int) -> None:
    rng = random.Random(size)
    symbols = [f"piece{number}" for number in range(size - 4)]
    sentences = [[rng.randrange(4, size) for _ in range(rng.randrange(1, 20))] for _ in range(500)]
    (tmp_path / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols), "utf-8")
    for side in ("source", "target"):
        lines = (" ".join(symbols[number - 4] for number in sentence) for sentence in sentences)
        (tmp_path / f"text.{side}").write_text("".join(line + "\n" for line in lines), "utf-8")
    subprocess.run(
        [
            *(sys.executable, "-m", "kd.engines.fairseq", "fairseq-preprocess"),
            *("--source-lang", "source", "--target-lang", "target", "--dataset-impl", "mmap"),
            *("--trainpref", str(tmp_path / "text"), "--destdir", str(tmp_path / "stock"), "--joined-dictionary"),
            *("--srcdict", str(tmp_path / "dict.txt")),
        ],
        check=True,
        capture_output=True,
    )
    prefix = tmp_path / "train.source-target.source"
    with IndexedWriter(prefix, size) as writer:
        for start in range(0, len(sentences), 70):
            writer.write(sentences[start : start + 70])
    for suffix in (".bin", ".idx"):
        ours = prefix.with_name(prefix.name + suffix)
        assert ours.read_bytes() == (tmp_path / "stock" / ours.name).read_bytes()
    assert sorted(path.name for path in tmp_path.glob("train*")) == [prefix.name + ".bin", prefix.name + ".idx"]


def test_written_sentences_are_read_back(tmp_path: Path) -> None:
    sentences = [[5, 6, 7], [], [8]]
    with IndexedWriter(tmp_path / "x", 100) as writer:
        writer.write(sentences)
    assert (writer.sentences, writer.pieces) == (3, 7)
    reader = IndexedReader(tmp_path / "x")
    assert len(reader) == 3
    assert reader.sizes.tolist() == [4, 1, 2]
    assert [reader[number].tolist() for number in range(3)] == [[*sentence, EOS] for sentence in sentences]


def test_no_sentences_at_all(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "x", 100):
        pass
    assert len(IndexedReader(tmp_path / "x")) == 0


def test_an_error_leaves_no_index(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outside the vocabulary"), IndexedWriter(tmp_path / "x", 100) as writer:
        writer.write([[100]])
    assert not (tmp_path / "x.idx").exists()


def test_cut_files_are_refused(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "x", 100) as writer:
        writer.write([[5, 6], [7]])
    data, index = tmp_path / "x.bin", tmp_path / "x.idx"
    whole = data.read_bytes()
    data.write_bytes(whole[:-2])
    with pytest.raises(ValueError, match="should hold 5 pieces"):
        IndexedReader(tmp_path / "x")
    data.write_bytes(whole)
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(ValueError, match="bytes long"):
        IndexedReader(tmp_path / "x")
    index.write_bytes(b"something else")
    with pytest.raises(ValueError, match="is not an index"):
        IndexedReader(tmp_path / "x")


def test_types_are_those_fairseq_chooses() -> None:
    # fairseq 0.12.2, data/indexed_dataset.py, best_fitting_int_dtype
    assert [best_dtype(size) for size in (65_499, 65_500, 4_294_967_295)] == [np.uint16, np.uint32, np.int64]


def test_opening_a_long_corpus_brings_no_more_than_its_ends_into_memory(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "long", 100) as writer:
        for _ in range(8):
            writer.write_array(np.full(1_000_000, 5), np.full(500_000, 2, dtype=np.int32))
    program = (
        "import sys; from pathlib import Path; from kd.engines.fairseq.binary import IndexedReader\n"
        "peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "before = peak(); reader = IndexedReader(Path(sys.argv[1]))\n"
        "print(len(reader), reader.pieces, peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "long")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sentences, pieces, kilobytes = map(int, done.stdout.split())
    assert (sentences, pieces) == (4_000_000, 8_000_000)
    assert kilobytes < 4_000  # the sizes alone are 16,000
