"""Teachers with NLLB's tokens of languages translate as transformers' own `generate`.

Their weights are random, so that no training is needed: the texts mean nothing, but depend on every token of the source
and on both languages' tokens. Endings and lists are tested with trained models, in test_converted.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    NllbTokenizer,
)

from kd.base.errors import UserError
from kd.engines.converted import ConvertedTranslator, convert
from kd.models.description import read_description
from tests.engines.test_converted import SHAPE, pieces, sentences

LONGEST = 12
BPE = "sentencepiece.bpe.model"
RANDOM: dict[str, Any] = {**SHAPE, "scale_embedding": True, "init_std": 0.3}


def nllb(folder: Path, *, legacy: bool = False) -> tuple[Any, Any]:
    """Make a model like NLLB's, whose tokenizer puts the language before the source, in its legacy behaviour after."""
    pieces(folder, BPE, pad=-1)
    tokenizer = NllbTokenizer(str(folder / BPE), legacy_behaviour=legacy)
    return M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer) + 2, **RANDOM)), tokenizer


def nllb_legacy(folder: Path) -> tuple[Any, Any]:
    return nllb(folder, legacy=True)


@dataclass(frozen=True)
class Case:
    """A kind of model, and its tokens of German and English by the documentation of transformers."""

    make: Callable[[Path], tuple[Any, Any]]
    tokens: tuple[str, str]
    unclear: str  # a code that several languages of the model fit
    offered: str


NLLB = ("deu_Latn", "eng_Latn")
CASES = {
    "nllb": Case(nllb, NLLB, "zh", "zho_Hans, zho_Hant"),
    "nllb_legacy": Case(nllb_legacy, NLLB, "no", "nno_Latn, nob_Latn"),
}


@pytest.mark.parametrize("name", CASES)
def test_translations_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    torch.manual_seed(1)
    transformers.logging.set_verbosity_error()
    model, tokenizer = case.make(tmp_path)
    spread(model, tokenizer, case.tokens)
    model.save_pretrained(str(tmp_path / "model"))
    tokenizer.save_pretrained(str(tmp_path / "model"))
    convert(tmp_path / "model", tmp_path / "out", compute_type="float32", languages=("de", "en"))
    sources = sentences(50, 7)
    tokenizer.src_lang = case.tokens[0]
    for beam, least in ((1, 50), (4, 45)):  # transformers ends its beam search by another rule
        expected = generate(model, tokenizer, case, sources, beam)
        translator = ConvertedTranslator(tmp_path / "out", beam=beam, max_pieces=LONGEST)
        found = [hypotheses[0].text for hypotheses in translator.translate(sources)]
        assert sum(map(str.__eq__, found, expected)) >= least, (found[:3], expected[:3])
        assert len(set(found)) > 10 and all(found), "they depend on the source"


def spread(model: Any, tokenizer: Any, tokens: tuple[str, str]) -> None:
    """Make texts differ: small embeddings repeat less, and languages other than these two are not produced."""
    weight = model.get_input_embeddings().weight
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = [number for number, piece in enumerate(pieces) if piece in tokenizer.all_special_tokens]
    kept = {tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(list(tokens))}
    with torch.no_grad():
        weight *= 0.1
        weight[[*sorted(set(special) - kept), *range(len(tokenizer), len(weight))]] = 0
    model.eval()


def generate(model: Any, tokenizer: Any, case: Case, sources: list[str], beam: int) -> list[str]:
    forced = tokenizer.convert_tokens_to_ids(case.tokens[1])
    texts = []
    for source in sources:  # alone, since padding changes the last bits
        batch = tokenizer(source, return_tensors="pt")
        with torch.no_grad():
            found = model.generate(
                **batch, forced_bos_token_id=forced, num_beams=beam, max_new_tokens=LONGEST + 1
            )  # the forced token counts
        texts += tokenizer.batch_decode(found, skip_special_tokens=True)
    return texts


@pytest.mark.parametrize("name", CASES)
def test_the_codes_of_a_pair_find_the_models_own_tokens(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model, tokenizer = case.make(tmp_path)
    model.save_pretrained(str(tmp_path / "model"))
    tokenizer.save_pretrained(str(tmp_path / "model"))
    for code in ("deu", "ger", "deu_Latn", "de_DE"):
        convert(tmp_path / "model", tmp_path / code, compute_type="float32", languages=(code, "en"))
        direction = read_description(tmp_path / code)["direction"]
        assert (direction["source"], direction["target"]) == case.tokens
    with pytest.raises(UserError, match=rf"no language {case.unclear}\. .*target_language to one of {case.offered}"):
        convert(tmp_path / "model", tmp_path / "out", compute_type="float32", languages=("de", case.unclear))
