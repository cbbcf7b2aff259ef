"""Teachers from Hugging Face: tiny real models, trained for some steps, translate as transformers' own `generate`.

The task is made up: the words of the source in capitals. test_converted_languages.py has NLLB.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
import transformers
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from kd.base.errors import UserError
from kd.engines.converted import ConvertedTranslator, convert
from kd.engines.loading import Decoding, count_pieces, load
from kd.engines.scoring import Scoring, load_scorer
from kd.engines.translator import Translator
from kd.models.folder import ModelFolder

WORDS = ["null", "eins", "zwei", "drei", "vier", "acht", "neun", "zehn"]
STEPS = 300
LONGEST = 30
SIDE: dict[str, Any] = {"layers": 1, "attention_heads": 2, "ffn_dim": 128, "layerdrop": 0.0}
SHAPE: dict[str, Any] = {
    **dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0),
    **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in SIDE.items()},
    "d_model": 64,
    "max_position_embeddings": 64,
}
SCORING = Scoring(("de", "en"), batch_tokens=200, threads=1, device="cpu")
SPECIAL = ("<s>", "</s>", "<unk>", "<pad>")


def sentences(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 4))) for _ in range(count)]


def pieces(folder: Path, name: str, pad: int = 3) -> list[str]:
    """Train a sentencepiece model; return its pieces. Without padding among them if `pad` is -1."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([each for one in sentences(600, 1) for each in (one, one.upper())]),
        model_prefix=str(folder / name), vocab_size=60, character_coverage=1.0, minloglevel=2, pad_id=pad,
        hard_vocab_limit=False,
    )  # fmt: skip
    (folder / f"{name}.model").rename(folder / name)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
    return [processor.id_to_piece(number) for number in range(processor.get_piece_size())]


def marian(folder: Path) -> tuple[Any, Any]:
    found = [piece for piece in pieces(folder, "source.spm") if piece not in SPECIAL]
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    vocabulary = ["</s>", "<unk>", *found, "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(vocabulary)}))
    tokenizer = MarianTokenizer(*(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")))
    pad = len(vocabulary) - 1
    config = MarianConfig(
        vocab_size=len(vocabulary), **SHAPE, pad_token_id=pad, eos_token_id=0, scale_embedding=True,
        decoder_start_token_id=pad, forced_eos_token_id=0, bad_words_ids=[[pad]],
    )  # fmt: skip
    return MarianMTModel(config), tokenizer


def m2m_100(folder: Path) -> tuple[Any, Any]:
    found = [
        piece for piece in pieces(folder, "sentencepiece.bpe.model") if piece not in ("<s>", "</s>", "<unk>", "<pad>")
    ]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *found]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(vocabulary)}))
    files = [str(folder / name) for name in ("vocab.json", "sentencepiece.bpe.model")]
    languages = list(M2M100Tokenizer(*files).lang_code_to_token.values())
    tokenizer = M2M100Tokenizer(*files, additional_special_tokens=languages)  # as in the released models
    config = M2M100Config(
        vocab_size=len(vocabulary) + len(tokenizer.lang_code_to_id) + tokenizer.num_madeup_words, **SHAPE
    )
    return M2M100ForConditionalGeneration(config), tokenizer


def t5(folder: Path) -> tuple[Any, Any]:
    pieces(folder, "spiece.model")
    tokenizer = T5Tokenizer(str(folder / "spiece.model"), extra_ids=0, legacy=True)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=64, d_kv=32, d_ff=128, num_layers=1, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=tokenizer.pad_token_id, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return T5ForConditionalGeneration(config), tokenizer


@dataclass(frozen=True)
class Teacher:
    """A model as Hugging Face's tools save it, and in memory."""

    kind: str
    folder: Path
    model: Any
    tokenizer: Any
    prefix: str = ""

    @property
    def languages(self) -> tuple[str, str]:
        return ("de", "en")

    def options(self) -> dict[str, Any]:
        forced = {"forced_bos_token_id": self.tokenizer.get_lang_id("en")} if self.kind == "m2m_100" else {}
        return {"max_new_tokens": LONGEST + len(forced), **forced}

    def generate(self, sources: list[str], beam: int) -> list[str]:
        texts = []
        for source in sources:  # alone, since padding changes the last bits
            batch = self.tokenizer(self.prefix + source, return_tensors="pt")
            with torch.no_grad():
                found = self.model.generate(**batch, num_beams=beam, **self.options())
            texts += self.tokenizer.batch_decode(found, skip_special_tokens=True)
        return texts


MAKERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {"marian": marian, "m2m_100": m2m_100, "t5": t5}


@pytest.fixture(scope="session", params=MAKERS)
def teacher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(1)
    transformers.logging.set_verbosity_error()
    model, tokenizer = MAKERS[request.param](folder)
    made = Teacher(request.param, folder / "model", model, tokenizer, "eins: " if request.param == "t5" else "")
    train(made)
    model.save_pretrained(str(made.folder))
    tokenizer.save_pretrained(str(made.folder))
    return made


def train(teacher: Teacher) -> None:
    rng, texts = random.Random(2), sentences(400, 3)
    optimizer = torch.optim.Adam(teacher.model.parameters(), lr=4e-3)
    if teacher.kind == "m2m_100":
        teacher.tokenizer.src_lang, teacher.tokenizer.tgt_lang = "de", "en"
    teacher.model.train()
    for _ in range(STEPS):
        batch = rng.sample(texts, 24)
        sources = [teacher.prefix + text for text in batch]
        inputs = teacher.tokenizer(
            sources, text_target=[text.upper() for text in batch], return_tensors="pt", padding=True
        )
        labels = inputs["labels"].masked_fill(inputs["labels"] == teacher.tokenizer.pad_token_id, -100)
        loss = teacher.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():  # as in Marian's models, whose decoder starts from a zero embedding
            teacher.model.get_input_embeddings().weight[teacher.tokenizer.pad_token_id] = 0
    teacher.model.eval()


@pytest.fixture(scope="module")
def converted(teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted")
    parameters = convert(
        teacher.folder, out, compute_type="float32", languages=teacher.languages, prefix=teacher.prefix
    )
    assert parameters == teacher.model.num_parameters()
    return out


@pytest.mark.parametrize("beam", [1, 4])
def test_translations_are_those_of_transformers(teacher: Teacher, converted: Path, beam: int) -> None:
    sources = sentences(50, 7)
    expected = teacher.generate(sources, beam)
    translator = ConvertedTranslator(converted, beam=beam, max_pieces=LONGEST)
    found = [hypotheses[0].text for hypotheses in translator.translate(sources)]
    same = sum(map(str.__eq__, found, expected))
    assert same == 50 if beam == 1 else same >= 45  # transformers ends its beam search by another rule
    assert len(set(found)) > 4  # it has learnt to read the source


def test_every_way_to_translate_agrees(converted: Path) -> None:
    sources = [*sentences(5, 8), "", "  "]
    expected = [
        found[0].text for found in ConvertedTranslator(converted, beam=2, max_pieces=LONGEST).translate(sources)
    ]
    assert expected[5:] == ["", ""]
    system = load([converted], Decoding(beam=2, max_pieces=LONGEST, batch_tokens=500), threads=1, device="cpu")
    assert system(sources) == expected
    assert list(Translator(converted, beam=2, max_pieces=LONGEST, as_is=True).translate(sources)) == expected
    assert count_pieces([converted], expected[:2]) > 2
    assert ModelFolder.open(converted).languages.target == ("en",)


def test_given_translations_have_the_scores_of_transformers(teacher: Teacher, converted: Path) -> None:
    """transformers' logits; in Marian's models padding is no output (bad_words_ids), a language token is not scored."""
    sources = sentences(20, 11)
    targets = [[text.upper(), source, *sentences(1, 13)] for text, source in zip(sources[::-1], sources, strict=True)]
    if teacher.kind == "m2m_100":
        teacher.tokenizer.src_lang, teacher.tokenizer.tgt_lang = teacher.languages
    expected = [[mean_log_probability(teacher, source, target) for target in each]
                for source, each in zip(sources, targets, strict=True)]  # fmt: skip
    settings = replace(SCORING, languages=teacher.languages, prefix=teacher.prefix)
    for folder in (teacher.folder, converted):  # the former is converted on the fly
        scorer = load_scorer([folder], settings)
        for found, scores in zip(scorer.score(sources, targets), expected, strict=True):
            assert found == pytest.approx(scores, abs=1e-4)
        assert scorer.score([" "], [["A", "B"]]) == [[0.0, 0.0]]


def mean_log_probability(teacher: Teacher, source: str, target: str, pieces: int | None = None) -> float:
    """The score by transformers' logits, of the first `pieces` tokens and the end."""
    batch = teacher.tokenizer(teacher.prefix + source, text_target=target, return_tensors="pt")
    first = teacher.kind == "m2m_100"
    if pieces is not None:
        labels = batch["labels"]
        batch["labels"] = torch.cat([labels[:, : first + pieces], labels[:, -1:]], 1)
    with torch.no_grad():
        logits = teacher.model(**batch).logits[0]
    if teacher.kind == "marian":
        logits[:, teacher.tokenizer.pad_token_id] = -math.inf
    scores = torch.log_softmax(logits, -1).gather(1, batch["labels"][0, :, None])[:, 0].tolist()
    return statistics.fmean(scores[first:])


def test_the_longest_target_leaves_places_for_its_end_and_its_language(teacher: Teacher, converted: Path) -> None:
    """The models have 64 positions, and T5 any number: the setting then counts tokens without end and language."""
    text = " ".join(WORDS * 20).upper()
    own = {"marian": 63, "m2m_100": 62, "t5": None}[teacher.kind]
    for setting in (None, LONGEST):
        [[found]] = load_scorer([converted], replace(SCORING, max_pieces=setting)).score(["EINS"], [[text]])
        expected = mean_log_probability(teacher, "EINS", text, setting or own)
        assert found == pytest.approx(expected, abs=1e-4)


def test_lists_and_samples_are_scored(converted: Path) -> None:
    sources = sentences(10, 9)
    for settings in ({"beam": 4}, {"sampling_topk": 0, "temperature": 1.5}):
        translator = ConvertedTranslator(converted, nbest=4, max_pieces=LONGEST, **settings)
        for hypotheses in translator.translate(sources):
            scores = [each.score for each in hypotheses]
            assert len(hypotheses) == 4
            assert scores == sorted(scores, reverse=True) or "sampling_topk" in settings
            assert all(each.member_scores == [each.score] and each.score <= 0 for each in hypotheses)


def test_seed_and_sources_determine_the_samples(converted: Path) -> None:
    sources, others = sentences(10, 9), sentences(10, 10)

    def samples(seed: int, *before: list[str]) -> list[list[str]]:
        translator = ConvertedTranslator(converted, nbest=4, max_pieces=LONGEST, sampling_topk=0, seed=seed, threads=2)
        for texts in before:
            translator.translate(texts)
        lists = translator.translate(sources)
        assert all([each.score for each in found] == sorted((each.score for each in found), reverse=True)
                   for found in lists)  # fmt: skip
        return [[each.text for each in found] for found in lists]

    drawn = samples(1)
    assert max(len(set(found)) for found in drawn) > 1, "samples differ"
    assert samples(1, others) == drawn, "as in a task that resumes at another shard"
    assert samples(2) != drawn


def test_long_sources_are_skipped_in_their_place(converted: Path) -> None:
    short, long = sentences(2, 11), " ".join(WORDS * 40)
    translator = ConvertedTranslator(converted, beam=1, max_pieces=LONGEST, max_source_pieces=30, skip_long=True)
    lists = translator.translate([short[0], long, short[1]])
    assert [found[0].score == -math.inf for found in lists] == [False, True, False]
    assert (lists[1][0].text, translator.counts.skipped, translator.counts.cut) == ("", 1, 0)


def test_long_sources_are_cut_and_counted(teacher: Teacher, converted: Path) -> None:
    translator = ConvertedTranslator(converted, beam=1, max_pieces=LONGEST)
    translator.translate([" ".join(WORDS * 40)])
    assert translator.counts.cut == (teacher.kind != "t5")  # T5 has relative positions, and so no limit


def test_a_language_that_the_model_lacks_is_refused(teacher: Teacher, tmp_path: Path) -> None:
    if teacher.kind != "m2m_100":
        assert convert(teacher.folder, tmp_path, compute_type="float32", languages=("xx", "yy")) > 0
        return
    with pytest.raises(UserError, match=r"has no language xx\. Set given_models\.target_language to one of af, am"):
        convert(teacher.folder, tmp_path, compute_type="float32", languages=("de", "xx"))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json"):
        convert(tmp_path, tmp_path / "out", compute_type="float32", languages=(None, None))
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(UserError, match=r"The tokenizer in .* cannot be loaded"):
        convert(tmp_path, tmp_path / "out", compute_type="float32", languages=(None, None))


def test_an_mbart_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mbart"}')
    with pytest.raises(UserError, match="is an mBART model, which kd does not decode correctly"):
        convert(tmp_path, tmp_path / "out", compute_type="float32", languages=("en", "de"))


def test_a_folder_that_was_converted_before_is_used_as_it_is(teacher: Teacher, converted: Path, tmp_path: Path) -> None:
    before = tmp_path / "ct2"
    shutil.copytree(converted / "model", before)
    for path in (converted / "tokenizer").iterdir():
        shutil.copy(path, before / path.name)
    parameters = convert(
        before, tmp_path / "out", compute_type="float32", languages=teacher.languages, prefix=teacher.prefix
    )
    assert parameters == 0  # CTranslate2 does not state their number
    sources = sentences(5, 11)
    texts = [[found[0].text for found in ConvertedTranslator(folder, beam=2).translate(sources)]
             for folder in (converted, tmp_path / "out")]  # fmt: skip
    assert texts[0] == texts[1]
