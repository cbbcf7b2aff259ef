"""Exports for other software, used as their cards say: equal to kd on at least 99 % of a test set in float32.

The consumers are the real ones: transformers, argostranslate, CTranslate2 and sentencepiece without kd.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import kd
from kd.base.errors import UserError
from kd.engines import argos, huggingface
from kd.engines.ctranslate2 import export
from kd.engines.loading import Decoding
from kd.models.description import Languages, Original
from kd.report.card import Card, render
from tests.tiny_model import number_pairs

LANGUAGES = Languages(("de",), ("en",))
SENTENCES = ["eins zwei drei.", "sechs vier."]


@pytest.fixture(scope="module")
def exports(trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the trained tiny model, each with its card."""
    root = tmp_path_factory.mktemp("packages")
    export(trained.folder, root / "float32", "float32", Original(LANGUAGES))
    huggingface.export(trained.folder, root / "huggingface", Original(LANGUAGES), beam=4)
    argos.export(trained.folder, root / "argos", Original(LANGUAGES))
    folders = {name: root / name for name in ("float32", "huggingface", "argos")}
    for name, folder in folders.items():
        description = json.loads((folder / "model.json").read_bytes())
        card = Card(name, name, "de", "en", engine=description["engine"], description=description)
        (folder / "README.md").write_text(render(card), "utf-8")
    return folders


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """A test set of sentences that differ, some with what normalisation changes."""
    texts = [source for source, _ in number_pairs(300, 5)]
    strange = [
        " eins  zwei.",
        "fu\u0308nf.",
        "zwo\u0308lf",
        "ei\u00adns\tzwei.",
        "\ufeffdrei",
        "vier\u00a0acht.",
        "😀 zwei.",
    ]
    return list(dict.fromkeys([*texts, *strange]))


def plain(folder: Path, sources: list[str], beam: int) -> list[str]:
    """Translate by CTranslate2 and sentencepiece alone."""
    import ctranslate2
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "vocabulary.model"))
    model = ctranslate2.Translator(str(folder / "model"))
    found = model.translate_batch([pieces.encode(text, out_type=str) for text in sources], beam_size=beam)
    return [pieces.decode(each.hypotheses[0]) for each in found]


@pytest.mark.parametrize("beam", [1, 4])
def test_kd_plain_ctranslate2_and_transformers_translate_alike(
    beam: int, exports: dict[str, Path], sources: list[str]
) -> None:
    ours = list(kd.Translator(exports["float32"], beam=beam, threads=1).translate(sources))
    theirs = {
        "CTranslate2": plain(exports["float32"], sources, beam),
        "transformers": huggingface.translate(exports["huggingface"], sources, Decoding(beam, 256, 2000), threads=1),
    }
    assert len(set(ours)) > 100
    for name, texts in theirs.items():
        equal = sum(one == other for one, other in zip(ours, texts, strict=True))
        assert equal >= 0.99 * len(sources), name


def test_the_tokenizer_of_transformers_segments_as_sentencepiece(exports: dict[str, Path], sources: list[str]) -> None:
    from sentencepiece import SentencePieceProcessor
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(exports["huggingface"])
    processor = SentencePieceProcessor(model_file=str(exports["float32"] / "vocabulary.model"))
    for text in [*sources, "Enter the {name} of {name}.", "{name}", "</s> <pad>", "日本語", "a" * 300, "ſ ﬁ ½"]:
        if "</s>" not in text:  # transformers reads special tokens from text, sentencepiece does not
            assert tokenizer(text)["input_ids"] == [*processor.encode(text), 2], text
    ids = tokenizer(sources, padding=True)["input_ids"]
    assert tokenizer.batch_decode(ids[:5], skip_special_tokens=True) == sources[:5]
    space = processor.piece_to_id("▁")
    spaced = [space, space, *processor.encode("eins"), space, space, *processor.encode("zwei")]
    assert tokenizer.decode(spaced) == processor.decode(spaced)


def test_transformers_lists_no_hypothesis_that_fairseq_excludes(exports: dict[str, Path]) -> None:
    """fairseq's search writes one token at least, no unknown symbol, and the end of each sentence.

    With a beam as wide as the vocabulary, a search without these limits finds the other hypotheses as well.
    """
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(exports["huggingface"])
    model = AutoModelForSeq2SeqLM.from_pretrained(exports["huggingface"])
    width = model.config.vocab_size
    batch = tokenizer(SENTENCES[:1], return_tensors="pt")
    found = model.generate(**batch, num_beams=width, num_return_sequences=width - 2, max_length=4).tolist()
    assert len({tuple(each) for each in found}) > 100
    for start, first, *others in found:
        assert start == 2 and first != 2
        assert 3 not in (first, *others) and 2 in others


@pytest.mark.parametrize("before", [True, False], ids=["pre-norm", "post-norm"])
def test_transformers_computes_what_fairseq_computes(before: bool, trained, tmp_path: Path) -> None:
    import shutil

    import torch
    from transformers import AutoModelForSeq2SeqLM

    from kd.engines.fairseq.conversion import load_checked
    from kd.engines.fairseq.loading import load
    from kd.models.folder import ModelFolder

    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("dict.txt", "vocabulary.model"):
        shutil.copy(trained.folder / name, folder / name)
    state = load(trained.folder / "model.pt")
    if not before:
        model = state["cfg"]["model"]
        model.encoder_normalize_before = model.decoder_normalize_before = False
        state["model"] = {name: value for name, value in state["model"].items()
                          if not name.startswith(("encoder.layer_norm.", "decoder.layer_norm."))}  # fmt: skip
    torch.save(state, folder / "model.pt")
    huggingface.export(folder, tmp_path / "out", Original(LANGUAGES), beam=4)
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    assert theirs.config.model_type == ("m2m_100" if before else "marian")
    ours = load_checked(ModelFolder.open(folder)).model
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(4, 200, (3, 12), generator=generator)
    target = torch.randint(4, 200, (3, 9), generator=generator)
    source[:, -1] = 2
    target[:, 0] = 2
    with torch.no_grad():
        expected = ours(source, torch.tensor([12, 12, 12]), target)[0]
        found = theirs(input_ids=source, attention_mask=torch.ones_like(source), decoder_input_ids=target).logits
    assert torch.allclose(found, expected, atol=1e-4)


def test_no_length_of_text_crashes_an_export(exports: dict[str, Path]) -> None:
    import ctranslate2

    model = ctranslate2.Translator(str(exports["float32"] / "model"))
    for count in (64, 65, 1023, 1024, 1025, 5000):
        assert model.translate_batch([["▁eins"] * count], beam_size=1, max_decoding_length=4)[0].hypotheses[0]
    found = model.translate_batch([["▁eins"] * 9], beam_size=1, min_decoding_length=1024, max_decoding_length=1024)
    assert len(found[0].hypotheses[0]) == 1024


def example(folder: Path, environment: dict[str, str] | None = None, prelude: str = "") -> list[str]:
    """Run the example of a card in its folder, on other sentences; return the lines that it prints."""
    card = (folder / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    for english, german in zip(("A sentence.", "Another one."), SENTENCES, strict=True):
        code = code.replace(english, german)
    done = subprocess.run([sys.executable, "-c", prelude + code], cwd=folder, capture_output=True, text=True,
                          env=os.environ | (environment or {}))  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n").split("\n")


@pytest.mark.parametrize("name", ["float32", "huggingface"])
def test_the_example_of_the_card_works_when_copied(name: str, exports: dict[str, Path]) -> None:
    assert example(exports[name]) == list(kd.Translator(exports["float32"], threads=1).translate(SENTENCES))


def test_argostranslate_loads_the_package_and_translates(exports: dict[str, Path], tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site")]
    subprocess.run([*install, "argostranslate==1.11.0", "sacremoses==0.1.1"], check=True, capture_output=True)
    # Its sentence splitters download models, and so they are left out: a text is one sentence here.
    for name in ("stanza", "minisbd"):
        (tmp_path / "site" / f"{name}.py").write_text(
            "class models:\n    cache_dir = ''\n    list_models = staticmethod(lambda: ['en'])\n\n\n"
            "class SBDetect:\n    def __init__(self, *_, **__): pass\n    def sentences(self, text): return [text]\n"
        )
    places = {"PYTHONPATH": str(tmp_path / "site"), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path),
              "XDG_CACHE_HOME": str(tmp_path)}  # fmt: skip
    # argostranslate's length penalty is 0.2 and its beam 4.
    with zipfile.ZipFile(next(exports["argos"].glob("*.argosmodel"))) as archive:
        archive.extractall(tmp_path / "unpacked")
        names = archive.namelist()
    assert names[0] == "translate-de_en-kd/metadata.json"
    import ctranslate2
    import sentencepiece

    (root,) = (tmp_path / "unpacked").iterdir()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(root / "sentencepiece.model"))
    found = ctranslate2.Translator(str(root / "model"), compute_type="default").translate_batch(
        [pieces.encode(SENTENCES[0], out_type=str)], beam_size=4, length_penalty=0.2, num_hypotheses=1
    )
    assert example(exports["argos"], places) == [pieces.decode(found[0].hypotheses[0])]


def test_equal_models_give_equal_packages(exports: dict[str, Path], trained, tmp_path: Path) -> None:
    argos.export(trained.folder, tmp_path, Original(LANGUAGES))
    one, other = (next(folder.glob("*.argosmodel")).read_bytes() for folder in (tmp_path, exports["argos"]))
    assert one == other


def test_packages_are_not_models_of_kd_and_say_so(exports: dict[str, Path]) -> None:
    for name in ("huggingface", "argos"):
        with pytest.raises(UserError, match=r"which kd does not load\. See the example in its README\.md"):
            kd.Translator(exports[name])


def test_what_a_format_cannot_hold_is_refused(trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Set export\.formats\.argos=false"):
        argos.export(trained.folder, tmp_path, Original(Languages(("de",), ("en", "fr"), tagged=True)))
