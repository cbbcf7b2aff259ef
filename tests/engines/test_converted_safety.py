"""Hugging Face folders are other people's data: nothing in their files runs code, fetches code or reads other files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from kd.base.errors import UserError
from kd.engines.converted import ConvertedTranslator, convert
from tests.engines.test_converted import marian


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Marian model as transformers saves it, with random weights."""
    transformers.logging.set_verbosity_error()
    folder = tmp_path_factory.mktemp("marian")
    model, tokenizer = marian(folder)
    model.save_pretrained(str(folder / "model"))
    tokenizer.save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **entries}), "utf-8")


def converted(model: Path) -> Path:
    out = model.with_name("out")
    convert(model, out, compute_type="float32", languages=("de", "en"))
    return out


def test_code_beside_a_model_does_not_run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers imports the module that `auto_map` names if remote code is trusted."""
    monkeypatch.syspath_prepend(str(model))
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    classes = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM"), "evil.Evil")
    change(model / "config.json", auto_map={**classes, "AutoTokenizer": ["evil.Evil", "evil.Evil"]})
    change(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})
    assert (converted(model) / "model" / "model.bin").is_file()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_an_attention_of_the_hub_is_not_fetched(model: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """With the package kernels, transformers fetches and runs the code that a config.json names, trusted or not."""
    fetched: list[str] = []
    monkeypatch.setattr(transformers.modeling_utils, "load_and_register_kernel", fetched.append)
    change(model / "config.json", **{key: "evil/attention"})
    assert (converted(model) / "model" / "model.bin").is_file()
    assert fetched == []


def test_code_in_pickled_weights_does_not_run(model: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (model / "model.safetensors").unlink()
    torch.save({"model.shared.weight": Evil()}, model / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"CTranslate2 cannot convert .*model: "):
        converted(model)
    assert not (tmp_path / "ran").exists()


def test_damaged_weights_are_one_sentence(model: Path) -> None:
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"CTranslate2 cannot convert .*model: "):
        converted(model)


@pytest.mark.parametrize("kind", ["fish_omni", "llama", "rag", "", None, 3])
def test_other_architectures_are_refused_before_anything_is_loaded(model: Path, kind: Any) -> None:
    change(model / "config.json", model_type=kind)
    with pytest.raises(UserError, match=r"its model_type is .* Give a Marian, M2M-100, NLLB or T5 model"):
        converted(model)


def test_an_adapter_is_refused(model: Path) -> None:
    """With the package peft, transformers fetches the model that an adapter names."""
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/model"}')
    with pytest.raises(UserError, match="is an adapter, which needs another model"):
        converted(model)


@pytest.mark.parametrize("name", ["RagRetriever", "TransfoXLTokenizer", "os.system", "pipeline", 3])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_another_class_of_tokenizer_is_refused(model: Path, file: str, name: Any) -> None:
    """transformers looks the name up among all that it has, and two of its classes unpickle files."""
    change(model / file, tokenizer_class=name)
    with pytest.raises(UserError, match=rf"{file} names the class .* tokenizer_class should be one of MarianTokenizer"):
        converted(model)


@pytest.mark.parametrize("key", ["source_spm", "vocab", "tokenizer_file"])
def test_a_tokenizer_reads_no_file_elsewhere(model: Path, tmp_path: Path, key: str) -> None:
    (tmp_path / "secret").write_text("{}")
    change(model / "tokenizer_config.json", **{key: "/home/author/that/is/not/here"})
    change(model / "tokenizer_config.json", **{key: str(tmp_path / "secret")})
    with pytest.raises(UserError, match=rf"reads .*secret, a file outside of the model's folder \({key}\)"):
        converted(model)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "vocab.json": lambda path: path.write_bytes(b"{"),
    "source.spm": lambda path: path.write_bytes(b"\n\xff\xff\xff\xff\x0f"),  # a piece of 4 gigabytes
    "tokenizer_config.json": lambda path: path.write_bytes(b"[]"),
    "config.json": lambda path: change(path, d_model="64"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_one_sentence(model: Path, name: str) -> None:
    DAMAGES[name](model / name)
    with pytest.raises(UserError):
        converted(model)


@pytest.mark.parametrize(
    ("direction", "told"),
    [
        ({"source": None, "target": 5, "prefix": ""}, "its entry direction is"),
        ({"source": None, "target": None, "prefix": None}, "its entry direction is"),
        ({"source": None, "target": "xx", "prefix": ""}, "its tokenizer has no language xx"),
    ],
)
def test_a_damaged_direction_of_a_converted_model_is_one_sentence(model: Path, direction: Any, told: str) -> None:
    out = converted(model)
    change(out / "model.json", direction=direction)
    with pytest.raises(UserError, match=rf"model\.json is damaged: {told}"):
        ConvertedTranslator(out)
