"""Models that give NaN: one sentence names the member, the precision and the setting, in every engine."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import kd
from kd.base.errors import UserError
from kd.engines.ctranslate2 import export
from kd.engines.fairseq.translate import EnsembleTranslator
from kd.engines.members import MembersTranslator
from kd.engines.nan import NaNScores, nan_scores
from kd.models.description import Languages, Original
from kd.models.folder import ModelFolder
from kd.models.vocabulary import Vocabulary

SOURCES = ["eins zwei drei.", "neun."]


def changed(folder: Path, out: Path, name: str, value: float) -> Path:
    """A copy of a model whose weight `name` is multiplied by a number."""
    ModelFolder.open(folder).copy(out)
    state = torch.load(out / "model.pt", weights_only=False)
    state["model"][name] = state["model"][name] * value
    torch.save(state, out / "model.pt")
    return out


@pytest.fixture(scope="module")
def nan_model(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("nan") / "model"
    return changed(trained.folder, out, "decoder.layers.0.fc1.weight", math.nan)


@pytest.fixture(scope="module")
def overflowing(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose numbers fit into fp32 and bf16, and not into fp16, whose largest is 65,504."""
    out = tmp_path_factory.mktemp("overflow") / "model"
    return changed(trained.folder, out, "decoder.layers.0.fc2.weight", 1e5)


def ensemble(*folders: Path, engine: str | None = None, **settings: Any) -> EnsembleTranslator:
    return EnsembleTranslator(
        folders, Vocabulary(folders[0]), beam=3, nbest=2, max_pieces=20, engine=engine, **settings
    )


@pytest.mark.parametrize("engine", ["stacked", "stock"])
def test_the_member_whose_weights_are_nan_is_named(nan_model: Path, trained, second: Path, engine: str) -> None:
    translator = ensemble(trained.folder, nan_model, second, engine=engine)
    assert translator.engine == engine
    with pytest.raises(NaNScores, match=r"^Member 2 computed NaN in fp32: its weights contain NaN\. Train"):
        translator.translate(SOURCES)


def test_numbers_that_overflow_fp16_name_the_setting(overflowing: Path, trained) -> None:
    assert len(ensemble(trained.folder, overflowing).translate(SOURCES)[0]) == 2
    with pytest.raises(
        NaNScores,
        match=r"^Member 2 computed NaN in fp16.*Set decode\.precision to bf16 or fp32, or decode\.retry_",
    ):
        ensemble(trained.folder, overflowing, precision="fp16").translate(SOURCES)


def test_members_decoded_by_ctranslate2_are_named(nan_model: Path, trained) -> None:
    with pytest.raises(NaNScores, match="Member 2 computed NaN in fp32: its weights contain NaN"):
        MembersTranslator([trained.folder, nan_model], Vocabulary(nan_model), beam=2, nbest=2, max_pieces=20)


def test_a_model_with_nan_is_not_exported(nan_model: Path, tmp_path: Path) -> None:
    """CTranslate2 itself writes text for whatever numbers a model has."""
    with pytest.raises(NaNScores, match="The model computed NaN in fp32: its weights contain NaN"):
        export(nan_model, tmp_path, "float32", Original(Languages(("de",), ("en",))))


def test_kd_translate_exits_with_2_and_one_sentence(nan_model: Path) -> None:
    with pytest.raises(UserError, match="The model computed NaN in fp32: its weights contain NaN"):
        list(kd.Translator(nan_model, threads=1).translate(SOURCES))
    command = [sys.executable, "-m", "kd", "translate", "--model", str(nan_model)]
    run = subprocess.run(command, input="eins.\n", capture_output=True, encoding="utf-8")
    assert (run.returncode, run.stdout) == (2, "")
    assert "its weights contain NaN" in run.stderr and "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (nan_scores([0, 2], "bf16"), "Members 1 and 3 computed NaN in bf16.*Set decode.precision to fp32, or"),
        (nan_scores([], "fp32"), "A member of the ensemble computed NaN in fp32. Train the model again"),
        (nan_scores([], "float16", one=True), "The model computed NaN in float16.*Use float32"),
        (nan_scores([0, 1], "fp32", weights=[0, 1]), "Members 1 and 2 .*: their weights contain NaN"),
    ],
)
def test_the_sentence_fits_the_case(error: NaNScores, told: str) -> None:
    import re

    assert re.match(told, str(error))
