"""Virtual epochs: fairseq reads the pairs of the pool from them in the planned shares, and they are stored once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from engines.test_fairseq_encoding import corpus, texts, trained

from kd.base.errors import UserError
from kd.engines.fairseq.binary import IndexedReader, data_folders, data_prefix, read_runs
from kd.engines.fairseq.encoding import Encoding
from kd.engines.fairseq.epochs import encode_balanced
from kd.recipe.schema import BalanceConfig, BalanceMethod


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("vocabulary"))


def test_epochs_hold_their_shares_of_each_language_and_no_copy(tmp_path: Path, pieces: Path) -> None:
    groups = {"da-en": [corpus(tmp_path / "da", texts(40, 1))], "de-en": [corpus(tmp_path / "de", texts(600, 2))]}
    balance = BalanceConfig(BalanceMethod.weights, weights={"da-en": 1, "de-en": 3})
    out = tmp_path / "data"
    out.mkdir()
    epochs, told = encode_balanced(groups, out, Encoding(pieces, 200), balance, epoch_pairs=160, workers=2)
    folders = data_folders(out)
    assert len(folders) == len(epochs) == 5  # 120 of 600 in each
    pool = IndexedReader(data_prefix(out / "pool", "train", "source"))
    assert len(pool) == 640
    seen: Counter[bytes] = Counter()
    for folder, encoded in zip(folders, epochs, strict=True):
        reader = IndexedReader(data_prefix(folder, "train", "source"))
        assert len(reader) == encoded.pairs == 160
        assert reader.pieces == encoded.source
        seen.update(reader[place].tobytes() for place in range(len(reader)))
    once = Counter(pool[place].tobytes() for place in range(len(pool)))
    danish = Counter(pool[place].tobytes() for place in range(40))
    assert seen == once + danish + danish + danish + danish  # five times in all: 40 of 160 in each of five epochs
    assert told["da-en"].repetitions == 5
    assert told["de-en"].repetitions == 1
    assert told["da-en"].pair_share == 0.25
    assert told["da-en"].epochs(1000) == pytest.approx(1000 * told["da-en"].token_share / told["da-en"].target)
    stored = [path for path in out.rglob("*.bin") if not path.is_symlink()]
    assert sorted(path.parent.name for path in stored) == ["pool", "pool"]
    assert read_runs(out / "pool") == [("da-en", 40), ("de-en", 600)]


def test_fairseq_reads_an_epoch(tmp_path: Path, pieces: Path) -> None:
    """By fairseq's own class for such files, also where the folder was moved."""
    from kd.engines.fairseq import compat

    compat.install()
    from fairseq.data.indexed_dataset import MMapIndexedDataset

    groups = {"da-en": [corpus(tmp_path / "da", texts(7, 1))], "de-en": [corpus(tmp_path / "de", texts(30, 2))]}
    balance = BalanceConfig(BalanceMethod.temperature, temperature=100)
    (tmp_path / "first").mkdir()
    encode_balanced(groups, tmp_path / "first", Encoding(pieces, 200), balance, epoch_pairs=20)
    out = (tmp_path / "first").rename(tmp_path / "moved")
    for side in ("source", "target"):
        for folder in data_folders(out):
            ours = IndexedReader(data_prefix(folder, "train", side))
            theirs = MMapIndexedDataset(str(data_prefix(folder, "train", side)))
            assert len(theirs) == len(ours)
            assert np.array_equal(theirs.sizes, ours.sizes)
            assert all(np.array_equal(theirs[place].numpy(), ours[place]) for place in range(len(ours)))


def test_a_pool_that_was_cut_is_noticed(tmp_path: Path, pieces: Path) -> None:
    groups = {name: [corpus(tmp_path / name, texts(20, seed))] for seed, name in enumerate(("da-en", "de-en"))}
    out = tmp_path / "data"
    out.mkdir()
    encode_balanced(groups, out, Encoding(pieces, 200), BalanceConfig(BalanceMethod.temperature), epoch_pairs=100)
    data = out / "pool" / "train.source-target.source.bin"
    data.write_bytes(data.read_bytes()[:-2])
    with pytest.raises(ValueError, match="ends before sentences that its index lists"):
        IndexedReader(data_prefix(out, "train", "source"))


def test_a_language_without_short_pairs_is_named(tmp_path: Path, pieces: Path) -> None:
    groups = {
        "da-en": [corpus(tmp_path / "da", [("ein sehr langes Haus " * 9, "b")])],
        "de-en": [corpus(tmp_path / "de", texts(9, 1))],
    }
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="No pair of da-en"):
        encode_balanced(
            groups, tmp_path / "data", Encoding(pieces, 100), BalanceConfig(BalanceMethod.temperature), epoch_pairs=9
        )
