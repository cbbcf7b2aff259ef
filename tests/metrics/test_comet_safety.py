"""COMET models are other people's data: nothing in their files runs code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from metrics.tiny_comet import make_checkpoint

from kd.base.errors import UserError
from kd.metrics.comet import Comet

TEXT = ["one two three", "four five six", "seven eight nine"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", TEXT)


def scores(folder: Path) -> None:
    Comet(str(folder), device="cpu").scores({"one": TEXT}, TEXT, [TEXT])


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "checkpoints" / "model.ckpt"
    content = torch.load(path, weights_only=False)
    edit(content)
    torch.save(content, path)


def test_code_in_the_hyperparameters_does_not_run(model: Path, tmp_path: Path) -> None:
    path = model / "hparams.yaml"
    path.write_text(f"{path.read_text()}x: !!python/object/apply:os.system ['touch {tmp_path / 'ran'}']\n")
    with pytest.raises(UserError, match=r"hparams\.yaml states no class of unbabel-comet"):
        scores(model)
    path.write_text("class_identifier: os.system\n")
    with pytest.raises(UserError, match="class_identifier should be one of"):
        scores(model)
    assert not (tmp_path / "ran").exists()


def test_code_in_a_comet_checkpoint_does_not_run(model: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    change(model, lambda content: content.update(evil=Evil()))
    with pytest.raises(UserError, match="contains more than weights"):
        scores(model)
    assert not (tmp_path / "ran").exists()


def test_an_instantiator_in_a_comet_checkpoint_does_not_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    change(model, lambda content: content["hyper_parameters"].update(_instantiator="evil.run"))
    with pytest.raises(UserError, match="allowlist"):
        scores(model)
    assert not (tmp_path / "ran").exists()


def test_code_in_the_encoders_folder_does_not_run(model: Path, tmp_path: Path) -> None:
    """transformers imports the module that `auto_map` names if it loads a model by an Auto class."""
    encoder = model / "encoder"
    (encoder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        path = encoder / name
        content = json.loads(path.read_text()) if path.is_file() else {}
        content["auto_map"] = {"AutoConfig": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
        path.write_text(json.dumps(content))
    scores(model)
    assert not (tmp_path / "ran").exists()
