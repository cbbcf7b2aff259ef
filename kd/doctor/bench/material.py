"""Generate the material of the measurements: a vocabulary, text, training data and models."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from kd.doctor.bench.setup import LONGEST, Setup
from kd.models import vocabulary
from kd.models.files import DICTIONARY, VOCABULARY
from kd.models.matching import read_dictionary
from kd.models.vocabulary import SPECIAL
from kd.recipe.schema import ModelConfig, VocabularyConfig, VocabularyModel

_PIECES = 400  # of the sentencepiece model; the dictionary is filled up to the size of the recipe's
_DEV = 16  # pairs, since fairseq trains with a dev set only
_SENTENCES = 400  # that the sentencepiece model is trained on


def sentences(count: int, seed: int = 1) -> Iterator[str]:
    """Yield sentences of made-up words, with lengths like those of real text."""
    chosen = random.Random(seed)
    syllables = [first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u", "an", "er")]
    for _ in range(count):
        words = max(2, min(20, round(chosen.lognormvariate(2.0, 0.5))))
        yield " ".join("".join(chosen.choices(syllables, k=chosen.randint(1, 3))) for _ in range(words)) + "."


def make_vocabulary(setup: Setup) -> Path:
    """Train a small vocabulary, and pad its dictionary to the full size with tokens that never occur."""
    folder = setup.folder / "vocabulary"
    config = VocabularyConfig(
        size=_PIECES,
        model=VocabularyModel.unigram,
        character_coverage=1.0,
        normalization="identity",
        byte_fallback=True,
        split_digits=True,
        sample=_SENTENCES,
        seed=1,
    )
    vocabulary.train(sentences(_SENTENCES), folder, config)
    missing = setup.size.vocabulary - len(SPECIAL) - len(read_dictionary(folder / DICTIONARY))
    with (folder / DICTIONARY).open("a", encoding="utf-8", newline="\n") as file:
        file.writelines(f"\u2062{number} 1\n" for number in range(missing))
    return folder


def make_data(setup: Setup) -> tuple[Path, ...]:
    """Write random token ids as training data, with lengths spread like those of real text (log-normal, about 20)."""
    from kd.engines.fairseq.binary import data_folders

    path = setup.folder / "data"
    path.mkdir()
    for side in ("source", "target"):
        shutil.copy(setup.folder / "vocabulary" / DICTIONARY, path / f"dict.{side}.txt")
    _write_split(path, "train", setup.size.pairs, setup.size.vocabulary)
    _write_split(path, "valid", _DEV, setup.size.vocabulary)
    return data_folders(path)


def _write_split(folder: Path, split: str, pairs: int, vocabulary_size: int) -> None:
    import numpy as np

    from kd.engines.fairseq.binary import IndexedWriter, data_prefix

    generator = np.random.default_rng(1)
    source = np.clip(generator.lognormal(3.0, 0.6, pairs), 2, LONGEST).astype(np.int32)
    target = np.clip(source * generator.normal(1.1, 0.15, pairs), 2, LONGEST).astype(np.int32)
    for side, sizes in (("source", source), ("target", target)):
        ids = generator.integers(len(SPECIAL), vocabulary_size, int(sizes.sum()), dtype=np.int32)
        ids[np.cumsum(sizes) - 1] = 2  # ends of sentences
        with IndexedWriter(data_prefix(folder, split, side), vocabulary_size) as writer:
            writer.write_array(ids, sizes)


def mean_lengths(data: Path) -> tuple[float, float]:
    """Return the mean tokens of a source and of a target in a data folder, ends included."""
    from kd.engines.fairseq.binary import IndexedReader, data_prefix

    readers = [IndexedReader(data_prefix(data, "train", side)) for side in ("source", "target")]
    return readers[0].pieces / len(readers[0]), readers[1].pieces / len(readers[1])


def make_model(setup: Setup, model: ModelConfig, name: str, seed: int) -> Path:
    """Write a model folder with random weights."""
    from kd.engines.fairseq.random_model import write_random_model

    folder = setup.folder / name
    folder.mkdir()
    for file in (DICTIONARY, VOCABULARY):
        shutil.copy(setup.folder / "vocabulary" / file, folder / file)
    write_random_model(model, folder, seed, LONGEST)
    return folder
