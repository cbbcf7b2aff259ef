"""The export for Marian, read by pymarian: the same probabilities and translations as fairseq's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Pair
from kd.engines import marian
from kd.engines.loading import Decoding, load
from kd.models.description import Languages, Original
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import ExportConfig
from kd.report.card import Card, render
from kd.stages.export import Export
from tests.tiny_model import number_pairs

LANGUAGES = Languages(("de",), ("en",))
SENTENCES = ["eins zwei drei.", "sechs vier."]
CONFIG = ExportConfig(formats={"marian": True}, compare=200, beam=4, max_pieces=40, least_agreement=0.9)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """pymarian, installed for this file only: it takes a gigabyte."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(folder)]
    subprocess.run([*install, "pymarian==1.12.42", "portalocker"], check=True, capture_output=True)
    yield str(folder)
    shutil.rmtree(folder)


@pytest.fixture
def pymarian(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pymarian importable, here and in processes."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the trained tiny model, with its card."""
    folder = tmp_path_factory.mktemp("marian") / "out"
    marian.export(trained.folder, folder, Original(LANGUAGES), beam=4)
    description = json.loads((folder / "model.json").read_bytes())
    card = Card("marian", "marian", "de", "en", engine=description["engine"], description=description)
    (folder / "README.md").write_text(render(card), "utf-8")
    return folder


def with_settings(trained, folder: Path, **settings: object) -> Path:
    """A copy of the trained model with other settings; without them, final normalisations are removed."""
    import torch

    from kd.engines.fairseq.loading import load as load_checkpoint

    folder.mkdir()
    for name in ("dict.txt", "vocabulary.model"):
        shutil.copy(trained.folder / name, folder / name)
    state = load_checkpoint(trained.folder / "model.pt")
    for name, value in settings.items():
        setattr(state["cfg"]["model"], name, value)
    if settings.get("encoder_normalize_before") is False:
        state["model"] = {name: value for name, value in state["model"].items()
                          if not name.startswith(("encoder.layer_norm.", "decoder.layer_norm."))}  # fmt: skip
    torch.save(state, folder / "model.pt")
    return folder


@pytest.mark.usefixtures("pymarian")
@pytest.mark.parametrize("before", [True, False], ids=["pre-norm", "post-norm"])
def test_marian_computes_the_probabilities_of_fairseq(before: bool, trained, tmp_path: Path) -> None:
    """Marian's scores of each token, for the lists of its own search, beside fairseq's of the same tokens."""
    import torch
    from sentencepiece import SentencePieceProcessor

    from kd.engines.fairseq.conversion import load_checked
    from kd.models.folder import ModelFolder

    settings = {"encoder_normalize_before": before, "decoder_normalize_before": before}
    folder = with_settings(trained, tmp_path / "model", **settings)
    marian.export(folder, tmp_path / "out", Original(LANGUAGES), beam=4)
    done = subprocess.run(
        [sys.executable, "-m", "pymarian", "decode", "-c", str(tmp_path / "out" / "decoder.yml"), "--n-best",
         "--word-scores", "--quiet", "--quiet-translation"],
        input="".join(f"{text}\n" for text in SENTENCES), capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours = load_checked(ModelFolder.open(folder)).model
    pieces = SentencePieceProcessor(model_file=str(folder / "vocabulary.model"))
    compared = 0
    for line in done.stdout.splitlines():
        number, text, scores = line.split(" ||| ")[:3]
        theirs = [float(score) for score in scores.partition("WordScores= ")[2].split()]
        source, target = [*pieces.encode(SENTENCES[int(number)]), 2], [*pieces.encode(text), 2]
        if len(target) != len(theirs):  # a text that sentencepiece cuts in another way
            continue
        with torch.no_grad():
            logits = ours(torch.tensor([source]), torch.tensor([len(source)]), torch.tensor([[2, *target[:-1]]]))[0]
        expected = logits.log_softmax(-1)[0, range(len(target)), target].tolist()
        assert theirs == pytest.approx(expected, abs=0.01), text
        compared += 1
    assert compared >= 4


@pytest.mark.usefixtures("pymarian")
def test_two_hundred_sentences_are_compared_before_it_is_published(trained, tmp_path: Path) -> None:
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
    job = Job("student", "export.de-en", CONFIG, {"format": "marian"}, "de-en", {"source": "de", "target": "en"},
              inputs, {}, out, [], 1, 1, "cpu", {}, Progress(None))  # fmt: skip
    Export().validate(CONFIG)
    Export().run(job)
    summary = Export().check(job)
    assert summary.counts["compared"] >= 190 and summary.counts["identical"] >= 0.98 * summary.counts["compared"]
    description = json.loads((out / "model.json").read_bytes())
    assert description["agreement"]["beam"] == 1  # with a beam, Marian searches in another way
    description["agreement"]["identical"] = 20
    (out / "model.json").write_text(json.dumps(description))
    with pytest.raises(IncompleteArtifact, match="translates 20 of"):
        Export().check(job)


@pytest.mark.usefixtures("pymarian")
def test_the_example_of_the_card_works_when_copied(exported: Path, trained) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text("utf-8"), re.S)
    for english, german in zip(("A sentence.", "Another one."), SENTENCES, strict=True):
        code = code.replace(english, german)
    done = subprocess.run([sys.executable, "-c", code], cwd=exported, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    expected = load([trained.folder], Decoding(4, 40, 2000), threads=1, device="cpu")(SENTENCES)
    assert done.stdout.splitlines() == expected


@pytest.mark.usefixtures("pymarian")
def test_long_and_blank_lines_are_translated(exported: Path) -> None:
    found = marian.translate(exported, ["", "eins " * 500, "  ", "vier."], Decoding(2, 40, 2000), threads=1)
    assert len(found) == 4 and found[0] == found[2] == "" and found[1] and found[3]


def test_the_first_position_of_the_decoder_has_the_start_symbol(exported: Path, trained) -> None:
    import torch

    weights = np.load(exported / "model.npz")
    state = torch.load(trained.folder / "model.pt", weights_only=False)["model"]
    start = 8 * state["decoder.embed_tokens.weight"][2].numpy()  # </s>, multiplied by the root of the width, 64
    encoder, decoder = (
        weights[f"TransformerBatch{side}->{side.lower()}->positionEmbedding->embeddings"]
        for side in ("Encoder", "Decoder")
    )
    assert np.allclose(decoder[0] - encoder[0], start, atol=1e-5) and np.array_equal(decoder[1:], encoder[1:])


def test_equal_models_give_equal_files(exported: Path, trained, tmp_path: Path) -> None:
    marian.export(trained.folder, tmp_path / "again", Original(LANGUAGES), beam=4)
    assert (tmp_path / "again" / "model.npz").read_bytes() == (exported / "model.npz").read_bytes()


def test_an_absent_pymarian_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.stages.export.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"export\.formats\.marian needs the package pymarian") as told:
        Export().validate(CONFIG)
    assert "pip install 'pymarian>=1.12.42,<1.13'" in str(told.value.hint)


def test_what_marian_cannot_express_is_refused(trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="begin with a language tag") as told:
        marian.export(trained.folder, tmp_path / "o", Original(Languages(("de",), ("en", "fr"), tagged=True)), beam=4)
    assert "export.formats.marian=false" in str(told.value.hint)
    folder = with_settings(trained, tmp_path / "gelu", activation_fn="gelu")
    with pytest.raises(UserError, match="the activation gelu"):
        marian.export(folder, tmp_path / "o", Original(LANGUAGES), beam=4)
    assert not (tmp_path / "o").exists()
