"""Multilingual checkpoints of stock fairseq get the language tokens that they were trained with.

The models are trained by stock `fairseq-train` on a made-up task, where nothing but the token tells the two targets
apart: `lo` has the words of the source, `up` the same in capitals. Expected hypotheses and scores are those of
fairseq's own task on the same checkpoint (`build_dataset_for_inference`, `inference_step`).
"""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.base.errors import UserError
from kd.engines.ctranslate2 import export
from kd.engines.fairseq.given import import_model
from kd.engines.fairseq.language_tokens import Direction, LanguageTokens, added_symbols, tokens_of
from kd.engines.fairseq.loading import load
from kd.engines.fairseq.settings import allowed
from kd.engines.fairseq.translate import EnsembleTranslator
from kd.engines.translator import Translator
from kd.models import vocabulary
from kd.models.description import Languages, Original
from kd.models.folder import ModelFolder
from kd.models.matching import read_dictionary
from kd.models.vocabulary import Vocabulary
from kd.recipe.schema import VocabularyConfig
from tests.older_cpu import older_cpu
from tests.tiny_model import IndexedWriter

WORDS = ["null", "eins", "zwei", "drei", "vier", "acht", "neun", "zehn"]
TARGETS: dict[str, Callable[[str], str]] = {"lo": str, "up": str.upper}
BEAM = 4
COMMON = [
    *("--lang-pairs", "de-lo,de-up", "--max-update", "160", "--max-tokens", "500", "--lr", "0.005", "--cpu"),
    *("--optimizer", "adam", "--dropout", "0", "--num-workers", "0", "--disable-validation", "--seed", "1"),
    *("--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "128", "--encoder-attention-heads", "2"),
    *("--decoder-embed-dim", "64", "--decoder-ffn-embed-dim", "128", "--decoder-attention-heads", "2"),
    *("--encoder-layers", "1", "--decoder-layers", "1", "--no-progress-bar", "--log-interval", "80"),
    "--decoder-langtok",
]
ONE_MODEL = ["--task", "translation_multi_simple_epoch", "--arch", "transformer_iwslt_de_en", "--share-all-embeddings",
             "--encoder-langtok", "src", "--sampling-method", "temperature"]  # fmt: skip
KINDS = {
    "one_model": ONE_MODEL,
    "replacing": [*ONE_MODEL[:-3], "tgt", *ONE_MODEL[-2:], "--lang-tok-replacing-bos-eos"],
    "model_per_pair": ["--task", "multilingual_translation", "--arch", "multilingual_transformer_iwslt_de_en",
                       "--share-encoders", "--share-decoder-embeddings", "--encoder-langtok", "tgt"],
}  # fmt: skip


def sentences(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 4))) for _ in range(count)]


@dataclass(frozen=True)
class Toy:
    """The checkpoint of a kind, the data folder that stock fairseq reads, and the files that kd is given."""

    kind: str
    checkpoint: Path
    data: Path
    given: ModelFolder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("multilingual")
    config = VocabularyConfig(
        size=305, model="unigram", character_coverage=1.0, normalization="identity", byte_fallback=True,
        split_digits=True, sample=5000, seed=1,
    )  # fmt: skip
    text = sentences(800, 1)
    vocabulary.train([each for one in text for each in (one, one.upper())], root / "vocabulary", config)
    pieces, folder = Vocabulary(root / "vocabulary"), root / "data"
    folder.mkdir()
    for language in ("de", *TARGETS):
        shutil.copy(root / "vocabulary" / "dict.txt", folder / f"dict.{language}.txt")
    for target, change in TARGETS.items():
        for split, sources in (("train", text), ("valid", text[:10])):
            for language, side in (("de", sources), (target, [change(source) for source in sources])):
                with IndexedWriter(folder / f"{split}.de-{target}.{language}", pieces.size) as writer:
                    writer.write(pieces.encode_ids(side))
    return folder


@pytest.fixture(scope="module", params=KINDS)
def toy(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    out = tmp_path_factory.mktemp(request.param)
    command = [sys.executable, "-m", "kd.engines.fairseq", "fairseq-train", str(data), "--save-dir", str(out)]
    with older_cpu():
        done = subprocess.run([*command, *KINDS[request.param], *COMMON], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    checkpoint, dictionary = out / "checkpoint_last.pt", data / "dict.de.txt"
    model = data.parent / "vocabulary" / "vocabulary.model"
    return Toy(request.param, checkpoint, data, ModelFolder.of_files(checkpoint, model, dictionary, dictionary))


def stock(toy: Toy, target: str, sources: list[str]) -> list[list[tuple[str, float]]]:
    """The n-best lists of fairseq's own task, with natural logarithms."""
    from fairseq import checkpoint_utils

    changes = {"data": str(toy.data), "source_lang": "de", "target_lang": target}
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(toy.checkpoint)], arg_overrides=changes)
    (model,) = models
    model.eval()
    settings = Namespace(
        beam=BEAM,
        nbest=BEAM,
        max_len_a=0,
        max_len_b=30 + (toy.kind == "one_model"),
        lenpen=1.0,
        unkpen=math.inf,
        sampling=False,
    )
    each = model.models[f"de-{target}"] if toy.kind == "model_per_pair" else model
    suppressed = [f"__{language}__" for language in ("de", *TARGETS)]  # as kd does in every search
    generator = task.build_generator([each], settings, extra_gen_cls_kwargs={"tokens_to_suppress": suppressed})
    pieces = Vocabulary(toy.given.vocabulary.parent)
    lists = []
    for ids in pieces.encode_ids(sources):
        tokens = torch.tensor([*ids, 2])
        dataset = task.build_dataset_for_inference([tokens], [len(tokens)])
        dataset.ordered_indices()
        sample: Any = dataset.collater([dataset[0]])
        sample = sample.get(f"de-{target}", sample)
        [found] = task.inference_step(generator, [each], sample)
        outputs = [[task.target_dictionary[int(number)] for number in each["tokens"]] for each in found]
        texts = [pieces.decode_pieces([piece for piece in each if piece not in ("</s>", "__up__", "__lo__")])
                 for each in outputs]  # fmt: skip
        lists.append(list(zip(texts, [float(each["score"]) for each in found], strict=True)))
    return lists


def imported(toy: Toy, target: str, out: Path) -> Path:
    out.mkdir()
    import_model(toy.given, out, Direction("de", target))
    return out


@pytest.mark.parametrize("engine", ["stacked", "stock"])
def test_lists_are_those_of_fairseqs_own_task(toy: Toy, tmp_path: Path, engine: str) -> None:
    sources = sentences(50, 7)
    for target, change in TARGETS.items():
        folder = imported(toy, target, tmp_path / target)
        translator = EnsembleTranslator(
            [folder], Vocabulary(folder), beam=BEAM, nbest=BEAM, max_pieces=30, engine=engine
        )
        assert translator.engine == engine
        lists = translator.translate(sources)
        expected = stock(toy, target, sources)
        for found, wanted in zip(lists, expected, strict=True):
            assert {each.text for each in found} == {text for text, _ in wanted}
            assert [each.score for each in found] == pytest.approx([score for _, score in wanted], abs=1e-4)
        right = sum(found[0].text == change(source) for found, source in zip(lists, sources, strict=True))
        assert right > 20  # of 50: it has learnt the task, and writes this target


def test_an_imported_model_knows_its_languages_and_a_raw_checkpoint_needs_them(toy: Toy, tmp_path: Path) -> None:
    folder, raw = imported(toy, "up", tmp_path / "imported"), tmp_path / "raw"
    raw.mkdir()
    for file, name in ((toy.checkpoint, "model.pt"), (toy.given.vocabulary, "vocabulary.model")):
        shutil.copy(file, raw / name)
    shutil.copy(toy.data / "dict.de.txt", raw / "dict.txt")
    sources = sentences(10, 8)
    expected = list(Translator(folder).translate(sources))
    assert list(Translator(raw, to="up", source="de").translate(sources)) == expected
    with pytest.raises(
        UserError, match=r"its (source|target) language is not set\. Set --(from|to) to one of de, lo, up"
    ):
        Translator(raw)
    with pytest.raises(UserError, match=r"has no language fr; it has de, lo, up\. Set --to to one of them"):
        Translator(raw, to="fr", source="de")


def test_an_imported_dictionary_has_the_tokens(toy: Toy, tmp_path: Path) -> None:
    added = read_dictionary(imported(toy, "lo", tmp_path / "out") / "dict.txt")[-3:]
    assert added == ["__de__", "__lo__", "__up__"]
    assert load(tmp_path / "out" / "model.pt")["cfg"]["task"]["target_lang"] == "lo"


def test_export_refuses_a_model_that_needs_language_tokens(toy: Toy, tmp_path: Path) -> None:
    folder = imported(toy, "lo", tmp_path / "out")
    with pytest.raises(UserError, match="needs language tokens in the text, but an export does not add them"):
        export(folder, tmp_path / "export", "float32", Original(Languages(("de",), ("lo",))))


def test_a_dictionary_without_rows_for_the_tokens_is_refused(toy: Toy, tmp_path: Path) -> None:
    state = torch.load(toy.checkpoint, weights_only=False)
    for name, weight in state["model"].items():
        if name.endswith(("embed_tokens.weight", "output_projection.weight")):
            state["model"][name] = weight[:-3].clone()
    torch.save(state, tmp_path / "cut.pt")
    with pytest.raises(UserError, match=r"has 305 symbols in its encoder.*has 308, language tokens included \(__de__"):
        import_model(replace(toy.given, weights=tmp_path / "cut.pt"), tmp_path, Direction("de", "up"))


def settings(**task: Any) -> dict[str, Any]:
    """The checked settings of a task."""
    found = allowed({"cfg": {"model": Namespace(arch="transformer"), "task": task}})["task"]
    return {**found, "source_lang": "en_XX", "target_lang": "de_DE"}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"encoder_langtok": "src", "decoder_langtok": True}, LanguageTokens("__en_XX__", target_first="__de_DE__")),
        ({"encoder_langtok": "tgt", "lang_tok_style": "mbart"}, LanguageTokens("[de_DE]")),
        (
            {"encoder_langtok": "src", "decoder_langtok": True, "lang_tok_replacing_bos_eos": True},
            LanguageTokens(source_end="__en_XX__", target_start="__de_DE__"),
        ),
        ({"langtoks": {"main": ("src.mined", None)}, "decoder_langtok": True}, LanguageTokens("__en_XX_mined__")),
        ({}, LanguageTokens()),
    ],
)
def test_tokens_follow_the_settings_of_the_training(task: dict[str, Any], expected: LanguageTokens) -> None:
    """By `MultilingualDatasetManager` and `get_lang_tok` of fairseq 0.12.2."""
    assert tokens_of(settings(_name="translation_multi_simple_epoch", lang_pairs="en_XX-de_DE", **task)) == expected


def test_the_dictionary_gets_the_symbols_that_fairseq_adds() -> None:
    """By `augment_dictionary` of fairseq 0.12.2, which keeps the order of --langs."""
    task = {"_name": "translation_multi_simple_epoch", "langs": "fr,de", "langtoks_specs": ["main", "mono_dae"]}
    assert added_symbols(settings(**task)) == ["__fr__", "__de__", "__fr_dae__", "__de_dae__"]
    assert added_symbols(settings(**task | {"lang_tok_style": "mbart"}))[-1] == "<mask>"
    pairs = {"_name": "multilingual_translation", "lang_pairs": ["fr-de", "en-de"]}
    assert added_symbols(settings(**pairs, decoder_langtok=True)) == ["__de__", "__en__", "__fr__"]
    assert added_symbols(settings(**pairs)) == []
