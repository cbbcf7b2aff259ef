"""An exported sentencepiece model normalises text as `kd.engines.reading` does, without kd.

Expected text is Python's own NFC and kd's reader; pieces are compared with those of the model without normalisation.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from kd.engines.reading import reader
from kd.models import vocabulary
from kd.models.normaliser import NAME, write_normalising
from kd.models.sentencepiece_model import preprocessing
from kd.recipe.schema import VocabularyConfig

TEXTS = [
    "Hello  world", "  ends  ", "tab\there", "a\u00a0b", "a\u202fb\u2003c", "cafe\u0301", "tie\u0302\u0301ng",
    "tie\u0301\u0302ng", "ti\u00ea\u0301ng", "z\u0323\u0307", "so\u00adft", "\ufeffstart",
    "zero\u200bwidth", "\u212bngstr\u00f6m", "bell\x07", "\x93quoted\x94", "line\u2028break", "next\x85line",
    "\u0439 \u0438\u0306", "ordinary text, unchanged.", "a {name} b", "😀 ok", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("normaliser")
    values = {"size": 305, "model": "unigram", "character_coverage": 1.0, "normalization": "identity",
              "byte_fallback": True, "split_digits": True, "sample": 10_000, "seed": 1}  # fmt: skip
    texts = [f"{text} {{name}}" for text in TEXTS if text.isprintable()] + ["hello world café tiếng text b"] * 20
    vocabulary.train(texts * 20, folder, VocabularyConfig(**values), ["{name}"])
    write_normalising(folder / "vocabulary.model", folder / "normalising.model")
    return folder / "vocabulary.model", folder / "normalising.model"


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_pieces_are_those_of_the_text_that_kd_reads(text: str, models: tuple[Path, Path]) -> None:
    plain, normalising = (SentencePieceProcessor(model_file=str(path)) for path in models)
    read = reader(lambda character: plain.piece_to_id(character) != plain.unk_id())
    assert normalising.encode(text, out_type=str) == plain.encode(read(text), out_type=str)
    assert normalising.encode(read(text), out_type=str) == plain.encode(read(text), out_type=str)


def test_the_copy_has_the_same_pieces_and_says_that_it_normalises(models: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = map(preprocessing, models)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"normalization", "remove_extra_whitespaces"} and after["normalization"] == NAME
    plain, normalising = (SentencePieceProcessor(model_file=str(path)) for path in models)
    assert [plain.id_to_piece(n) for n in range(len(plain))] == [normalising.id_to_piece(n) for n in range(len(plain))]
    write_normalising(models[1], tmp_path / "again")  # one that has a normalisation is only copied
    assert (tmp_path / "again").read_bytes() == models[1].read_bytes()
    write_normalising(models[0], tmp_path / "equal")
    assert (tmp_path / "equal").read_bytes() == models[1].read_bytes()
