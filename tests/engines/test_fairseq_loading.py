"""Checkpoints are other people's data: they run no code, and only allowed settings reach fairseq."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kd.base.errors import UserError
from kd.engines.ctranslate2 import convert
from kd.engines.fairseq import compat, settings
from kd.engines.fairseq.flags import arguments
from kd.engines.fairseq.loading import load, read
from kd.engines.fairseq.model import load_models
from kd.engines.fairseq.settings import ARCHITECTURES, MODEL, Refused, allowed
from kd.models.folder import ModelFolder


def stored(**changes: Any) -> dict[str, Any]:
    """Settings as fairseq 0.12 stores them, with changes to those of the model."""
    return {"cfg": {"model": Namespace(**{"arch": "transformer", **changes}), "task": {"_name": "translation"}}}


def code(marker: Path) -> str:
    return f"__import__('pathlib').Path({str(marker)!r}).touch() or [1]"


@pytest.fixture
def poisoned(trained, tmp_path: Path):
    """Write a copy of a model whose checkpoint has other settings; return its folder."""

    def write(**changes: Any) -> Path:
        folder = tmp_path / "poisoned"
        ModelFolder.open(trained.folder).copy(folder)
        state = torch.load(folder / "model.pt", weights_only=False)
        for name, value in changes.items():
            setattr(state["cfg"]["model"], name, value)
        torch.save(state, folder / "model.pt")
        return folder

    return write


# --- code in settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "adaptive_softmax_cutoff",  # fairseq.utils.eval_str_list
        "encoder_xformers_att_config",  # fairseq.utils.eval_str_dict
        "decoder_xformers_att_config",
        "encoder_layers_to_keep",  # parsed as numbers by fairseq
        "decoder_layers_to_keep",
        "encoder_layers",  # eval() in other architectures
        "activation_fn",
        "dropout",
    ],
)
def test_code_in_a_setting_does_not_run(poisoned, tmp_path: Path, name: str) -> None:
    folder = poisoned(**{name: code(tmp_path / "ran")})
    with pytest.raises(UserError, match=f"cannot be used: its setting {name} is "):
        load_models([folder])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["user_dir", "encoder_embed_path", "decoder_embed_path", "data", "lang_dict", "fixed_dictionary", "bpe"]
)
def test_settings_that_name_files_or_packages_are_dropped(poisoned, tmp_path: Path, name: str) -> None:
    package = tmp_path / "evil"
    package.mkdir()
    (package / "__init__.py").write_text(f"{code(tmp_path / 'ran')}\n", "utf-8")
    folder = poisoned(**{name: str(package)})
    load_models([folder])
    assert not (tmp_path / "ran").exists()
    assert not hasattr(load(folder / "model.pt")["cfg"]["model"], name)


@pytest.mark.parametrize(
    "architecture", ["fconv", "fconv_iwslt_de_en", "lightconv", "wav2vec2", "hf_gpt2", "x.y", None, 3]
)
def test_architectures_that_evaluate_settings_are_refused(architecture: Any) -> None:
    with pytest.raises(Refused, match=r"its architecture is .*, and kd reads transformer"):
        allowed(stored(arch=architecture))


def test_every_allowed_architecture_is_fairseqs_transformer() -> None:
    compat.install()
    from fairseq.models import ARCH_MODEL_REGISTRY
    from fairseq.models.transformer import TransformerModel
    from fairseq.utils import get_available_activation_fns

    stock = {name for name, model in ARCH_MODEL_REGISTRY.items() if model is TransformerModel}
    assert stock == set(ARCHITECTURES)
    assert list(settings.ACTIVATIONS) == get_available_activation_fns()


def test_every_setting_that_the_transformer_reads_is_checked_or_has_no_effect_at_inference() -> None:
    """fairseq's sources are searched, so that a setting of another version of fairseq cannot slip through."""
    compat.install()
    from dataclasses import fields

    from fairseq.models.transformer.transformer_config import (
        DecoderConfig,
        EncDecBaseConfig,
        QuantNoiseConfig,
        TransformerConfig,
    )

    parts = {"encoder": EncDecBaseConfig, "decoder": DecoderConfig, "quant_noise": QuantNoiseConfig}
    names = {field.name for field in fields(TransformerConfig)} - set(parts)
    names |= {f"{part}_{field.name}" for part, config in parts.items() for field in fields(config)}
    names = {name for name in names if not name.endswith("_name")}
    dropped = set(settings.DROPPED) | {
        "export",  # for ONNX
        "char_inputs",
        "min_params_to_wrap",  # of fully sharded training
        "base_sublayers",
        "base_shuffle",
    }
    assert names - dropped <= set(MODEL)
    assert not dropped & set(MODEL)


def test_no_module_of_kd_but_loading_unpickles_a_checkpoint() -> None:
    """One function loads checkpoints; COMET's own loader is in kd/metrics."""
    folder = Path(settings.__file__).parents[2]
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("torch.load", "pickle.load", "pickle.loads", "eval", "exec") or name.endswith(
                ("load_model_ensemble", "load_checkpoint_to_cpu", "load_model_ensemble_and_task")
            ):
                found.add(path.relative_to(folder).as_posix())
    assert found == {"engines/fairseq/loading.py"}


def test_a_poisoned_model_is_not_converted(poisoned, tmp_path: Path) -> None:
    """CTranslate2's own converter builds the model from the settings as they are."""
    folder = poisoned(adaptive_softmax_cutoff=code(tmp_path / "ran"))
    with pytest.raises(UserError, match="its setting adaptive_softmax_cutoff is"):
        convert(ModelFolder.open(folder), tmp_path / "out", "float32")
    assert not (tmp_path / "ran").exists()


def test_flags_that_fairseq_evaluates_are_numbers(spec, tmp_path: Path) -> None:
    """fairseq's Adam evaluates `--adam-betas`; kd writes it from the numbers of a typed config."""
    flags = arguments(spec, tmp_path)
    assert ast.literal_eval(flags[flags.index("--adam-betas") + 1]) == tuple(spec.config.optimizer.betas)
    assert all(isinstance(beta, float) for beta in spec.config.optimizer.betas)


# --- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("encoder_layers", 10**9, "a whole number from 1 to 1000"),
        ("encoder_layers", 0, "a whole number"),
        ("encoder_layers", True, "a whole number"),
        ("decoder_embed_dim", 2.5, "a whole number"),
        ("encoder_embed_dim", float("nan"), "a whole number"),
        ("encoder_ffn_embed_dim", float("inf"), "a whole number"),
        ("dropout", 2.0, "a number from 0 to 1"),
        ("dropout", float("nan"), "a number from 0 to 1"),
        ("share_all_embeddings", "yes", "true or false"),
        ("activation_fn", "os.system", "one of relu, gelu"),
        ("adaptive_softmax_cutoff", ["1"], "a list of whole numbers"),
        ("adaptive_softmax_cutoff", {"a": 1}, "a list of whole numbers"),
        ("base_layers", 2, "unset"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(Refused, match=f"its setting {name} is .*, and it must be {wanted}"):
        allowed(stored(**{name: value}))


def test_sizes_are_compared_with_the_weights_before_memory_is_allocated(poisoned) -> None:
    with pytest.raises(UserError, match="the size of its decoder differs"):
        load_models([poisoned(decoder_layers=900, decoder_embed_dim=65_536, decoder_ffn_embed_dim=1_048_576)])


def test_weights_of_another_shape_are_refused_in_a_sentence(poisoned) -> None:
    with pytest.raises(UserError, match="does not hold the model that its settings describe: Error"):
        load_models([poisoned(decoder_ffn_embed_dim=96)])


# --- what stock fairseq writes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "read"), [(None, None), ([5, 7], [5, 7]), ("[5, 7]", [5, 7]), ("(5,7)", [5, 7]), ("5", [5])]
)
def test_lists_of_numbers_are_read_without_evaluating_them(value: Any, read: Any) -> None:
    assert allowed(stored(adaptive_softmax_cutoff=value))["model"].adaptive_softmax_cutoff == read


def test_settings_of_old_and_hydra_checkpoints_are_read_alike() -> None:
    model = {
        "encoder_layers": 3,
        "share_all_embeddings": True,
        "lr": [0.1],
        "user_dir": "/x",
        "max_source_positions": 9,
    }
    old = {"args": Namespace(arch="transformer_iwslt_de_en", task="translation", left_pad_source=True, **model)}
    hydra = {
        "cfg": {
            "model": {"_name": "transformer_iwslt_de_en", "encoder_layers": 3, "share_all_embeddings": True},
            "task": {"_name": "translation", "max_source_positions": 9, "left_pad_source": True, "data": "/secret"},
        }
    }
    for state in (old, hydra):
        found = allowed(state)
        assert vars(found["model"]) == {
            "arch": "transformer_iwslt_de_en",
            "max_source_positions": 9,
            "encoder_layers": 3,
            "share_all_embeddings": True,
        }
        assert (found["task"]["data"], found["task"]["left_pad_source"]) == ("", True)


def test_an_aligned_transformer_is_read_as_a_transformer() -> None:
    assert allowed(stored(arch="transformer_align", alignment_layer=3))["model"] == Namespace(arch="transformer")


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"_name": "translation_multi_simple_epoch", "encoder_langtok": "de"}, "setting encoder_langtok is 'de'"),
        ({"_name": "translation_from_pretrained_bart"}, "its task is 'translation_from_pretrained_bart'"),
        ({"_name": "language_modeling"}, "its task is 'language_modeling'"),
    ],
)
def test_models_that_need_other_input_than_text_are_refused(task: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told):
        allowed({"cfg": {"model": Namespace(arch="transformer"), "task": task}})


def test_a_checkpoint_validated_with_bleu_loads(trained, tmp_path: Path) -> None:
    """Stock fairseq keeps numpy arrays in the meters of --eval-bleu, which torch's safe loading refuses."""
    state = torch.load(trained.result.checkpoints[0], weights_only=False)
    meter = {"val": np.float64(3.5), "sum": np.arange(4), "count": np.int64(2)}
    state["extra_state"]["metrics"] = {"valid": [(0, "_bleu_counts", "AverageMeter", meter)]}
    torch.save(state, tmp_path / "best.pt")
    with pytest.raises(Exception, match="numpy"):
        torch.load(tmp_path / "best.pt", weights_only=True)
    expected, found = load(trained.result.checkpoints[0])["model"], load(tmp_path / "best.pt")["model"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_numpy_objects_are_not_built(tmp_path: Path) -> None:
    torch.save({"model": {"x": np.zeros(2)}, "args": Namespace(arch="transformer")}, tmp_path / "numpy.pt")
    with pytest.raises(UserError, match="`model` holds something other than tensors"):
        load(tmp_path / "numpy.pt")


# Opcodes of pickle: the end of a list without a beginning, a key without a value, a state of nothing, one byte of four.
@pytest.mark.parametrize("opcodes", [b"e.", b"}(K\x01u.", b"b.", b"J\x01"])
def test_a_damaged_pickle_is_one_sentence(tmp_path: Path, opcodes: bytes) -> None:
    whole, damaged = tmp_path / "whole.pt", tmp_path / "damaged.pt"
    torch.save({}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(damaged, "w") as target:
        for entry in source.infolist():
            pickled = entry.filename.endswith("data.pkl")
            target.writestr(entry, b"\x80\x02" + opcodes if pickled else source.read(entry))
    with pytest.raises(UserError, match=r"damaged\.pt cannot be read as a checkpoint"):
        read(damaged)


def test_a_pickled_call_is_refused_by_name_and_does_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"model": {"x": Evil()}, "cfg": {"model": {}}}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"holds an object of type posix\.system, which may run code") as caught:
        load(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists() and "\x1b" not in str(caught.value)


def test_kd_translate_refuses_a_poisoned_model_with_a_sentence(poisoned, tmp_path: Path) -> None:
    folder = poisoned(adaptive_softmax_cutoff=code(tmp_path / "ran"))
    command = [sys.executable, "-m", "kd", "translate", "--model", str(folder)]
    run = subprocess.run(command, input="eins zwei.\n", capture_output=True, encoding="utf-8")
    assert run.returncode == 2 and run.stdout == ""
    assert "its setting adaptive_softmax_cutoff is" in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "ran").exists()
