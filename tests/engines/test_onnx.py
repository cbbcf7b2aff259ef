"""The export to ONNX, read by onnxruntime: the same translations as fairseq's and transformers'."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.base.progress import Progress
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Pair
from kd.engines import huggingface, onnx, onnx_int8
from kd.engines.loading import Decoding, load
from kd.models.description import Languages, Original
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import ExportConfig
from kd.report.card import Card, render
from kd.stages.export import Export
from tests.tiny_model import number_pairs

LANGUAGES = Languages(("de",), ("en",))
SENTENCES = ["eins zwei drei.", "sechs vier."]
CONFIG = ExportConfig(formats={"onnx": True}, compare=200, beam=4, max_pieces=40, least_agreement=0.9)


@pytest.mark.usefixtures("onnx_libraries")
def test_two_hundred_sentences_are_compared_and_the_example_of_the_card_works(trained, tmp_path: Path) -> None:
    held_out, out = tmp_path / "split", tmp_path / "out"
    held_out.mkdir()
    out.mkdir()
    dev = [Pair(number, *texts) for number, texts in enumerate(number_pairs(200, 2))]
    write_heldout(held_out, "de-en", {"dev": dev})
    manifest = {"facts": {"averaged": ["checkpoint_1_400.pt"], "updates": 400, "parameters": 7}, "inputs": {}}
    inputs = {
        "models": [Artifact(trained.folder, "student", "student.de-en", "member-1", "f1", "de-en", {}, manifest)],
        "held_out": [Artifact(held_out, "held_out", "split", "all", "f2", None, {}, {})],
    }
    job = Job("student", "export.de-en", CONFIG, {"format": "onnx"}, "de-en", {"source": "de", "target": "en"},
              inputs, {}, out, [], 1, 1, "cpu", {}, Progress(None))  # fmt: skip
    Export().validate(CONFIG)
    Export().run(job)
    summary = Export().check(job)
    assert summary.counts["compared"] >= 190 and summary.counts["identical"] >= 0.98 * summary.counts["compared"]

    # The names that transformers.js looks for (its README, "Convert your models to ONNX").
    assert {path.name for path in (out / "onnx").iterdir()} == {"encoder_model.onnx", "decoder_model_merged.onnx"}
    assert (out / "tokenizer.json").is_file() and (out / "config.json").is_file()

    huggingface.export(trained.folder, tmp_path / "transformers", Original(LANGUAGES), beam=4)
    texts = [pair.source for pair in dev[:40]]
    greedy = [
        engine.translate(folder, texts, Decoding(1, 40, 2000), threads=1)
        for engine, folder in ((onnx, out), (huggingface, tmp_path / "transformers"))
    ]
    assert greedy[0] == greedy[1] and len(set(greedy[0])) > 20

    description = json.loads((out / "model.json").read_bytes())
    card = render(Card("onnx", "onnx", "de", "en", engine=description["engine"], description=description))
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    for english, german in zip(("A sentence.", "Another one."), SENTENCES, strict=True):
        code = code.replace(english, german)
    done = subprocess.run([sys.executable, "-c", code], cwd=out, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == load([trained.folder], Decoding(4, 40, 2000), threads=1, device="cpu")(SENTENCES)


@pytest.mark.usefixtures("onnx_libraries")
def test_weights_in_int8_have_the_names_of_transformers_js_and_translate_nearly_alike(trained, tmp_path: Path) -> None:
    onnx.export(trained.folder, tmp_path / "float32", Original(LANGUAGES), beam=4)
    onnx_int8.export(trained.folder, tmp_path / "int8", Original(LANGUAGES), beam=4)
    # transformers.js, src/utils/dtypes.js: the suffix of dtype q8 is `_quantized`.
    names = {"encoder_model_quantized.onnx", "decoder_model_merged_quantized.onnx"}
    assert {path.name for path in (tmp_path / "int8" / "onnx").iterdir()} == names
    sizes = [sum(path.stat().st_size for path in (tmp_path / name / "onnx").iterdir()) for name in ("float32", "int8")]
    assert sizes[1] < 0.8 * sizes[0]  # of the tests' model, whose graphs are as large as its weights
    texts = [source for source, _ in number_pairs(40, 2)]
    found = [
        engine.translate(tmp_path / name, texts, Decoding(4, 40, 2000), threads=1)
        for engine, name in ((onnx, "float32"), (onnx_int8, "int8"))
    ]
    assert sum(one == other for one, other in zip(*found, strict=True)) >= 0.8 * len(texts)

    description = json.loads((tmp_path / "int8" / "model.json").read_bytes())
    card = render(Card("onnx", "onnx", "de", "en", engine=description["engine"], description=description))
    assert "weights in int8" in card and 'dtype: "q8"' in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    code = code.replace("A sentence.", texts[0]).replace("Another one.", texts[1])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "int8", capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == found[1][:2]


def test_absent_libraries_are_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.stages.export.find_spec", lambda name: name != "onnxruntime")
    with pytest.raises(UserError, match=r"export\.formats\.onnx needs the package onnxruntime") as told:
        Export().validate(CONFIG)
    assert "pip install 'optimum-onnx>=0.1,<0.2' 'onnx<1.20' onnxruntime" in str(told.value.hint)
