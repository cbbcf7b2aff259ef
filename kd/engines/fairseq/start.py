"""Starts a training from the weights of another model of the same vocabulary and shape.

The optimiser's state is not used: it is a new training with its own schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.models.files import DICTIONARY, WEIGHTS
from kd.models.folder import ModelFolder
from kd.models.matching import read_dictionary
from kd.recipe.schema import ModelConfig

MEMBER = "{member}"  # in a path, stands for the number of the ensemble's member, from 1

# fairseq's name -> kd's
_SHAPE = {
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "encoder_embed_dim": "width",
    "decoder_embed_dim": "width",
    "encoder_ffn_embed_dim": "ffn",
    "decoder_ffn_embed_dim": "ffn",
    "encoder_attention_heads": "heads",
    "decoder_attention_heads": "heads",
    "encoder_normalize_before": "pre_norm",
    "decoder_normalize_before": "pre_norm",
    "activation_fn": "activation",
    "share_all_embeddings": "tie_embeddings",
}


def start_files(init_from: str, member: int) -> tuple[Path, Path, Path]:
    """Return the checkpoint and the dictionaries of source and target that `init_from` names.

    Args:
        init_from: A model folder, or a checkpoint with its dictionaries beside it: dict.txt of both sides, or
            dict.source.txt and dict.target.txt.
        member: Replaces `{member}` in the path.

    Raises:
        UserError: A file is missing.
    """
    path = Path(init_from.replace(MEMBER, str(member))).expanduser()
    checkpoint = path / WEIGHTS if path.is_dir() else path
    if not checkpoint.is_file():
        raise UserError(f"init_from: there is no {checkpoint}.", "Name a checkpoint, or a folder with a model.pt.")
    model = ModelFolder.beside(checkpoint)
    assert model.source_dictionary and model.dictionary
    for side, path in (("source", model.source_dictionary), ("target", model.dictionary)):
        if not path.is_file():
            raise UserError(
                f"init_from: beside {checkpoint} there is no dictionary of its {side}.",
                f"Put the {DICTIONARY} of its training there; without it the rows of its embedding have no meaning.",
            )
    return checkpoint, model.source_dictionary, model.dictionary


def prepare_start(files: tuple[Path, Path, Path], dictionary: Path, model: ModelConfig, out: Path) -> None:
    """Write a checkpoint that fairseq starts from (`--finetune-from-model`), if it fits the new training.

    Args:
        files: What `start_files` returned.
        dictionary: The dictionary of the new training's data, of both sides.
        model: The shape of the new model.
        out: The checkpoint to write.

    Raises:
        UserError: The vocabulary or the shape differs; the message names the setting.
    """
    from kd.engines.fairseq.average import save, without_training
    from kd.engines.fairseq.loading import load
    from kd.engines.fairseq.model import complete

    checkpoint, *dictionaries = files
    wanted = read_dictionary(dictionary)
    for path in dictionaries:
        if read_dictionary(path) != wanted:
            raise UserError(
                f"init_from: {checkpoint} has the vocabulary {path}, and the training data have another.",
                "Encode the data with that model's vocabulary, or start from a model of this one.",
            )
    state = load(checkpoint)
    _check_shape(checkpoint, vars(complete(state["cfg"]["model"])), model)
    _check_rows(checkpoint, state["model"], len(wanted))
    start = without_training(state, state["model"])
    start["optimizer_history"][0]["num_updates"] = 0
    # The new training starts at the beginning of its data, but fairseq requires a position.
    start["extra_state"] = {"train_iterator": {"version": 2, "epoch": 1, "iterations_in_epoch": 0, "shuffle": True}}
    save(start, out)


def _check_shape(checkpoint: Path, values: Mapping[str, Any], model: ModelConfig) -> None:
    for theirs, ours in _SHAPE.items():
        there, here = values.get(theirs), getattr(model, ours)
        if there is not None and there != here:
            raise UserError(
                f"init_from: {checkpoint} has {theirs} {there}, and model.{ours} is {here}.",
                f"Set model.{ours} to {there}, or start from a model of this shape.",
            )


def _check_rows(checkpoint: Path, weights: Mapping[str, Any], symbols: int) -> None:
    from kd.models.vocabulary import SPECIAL

    for side in ("encoder", "decoder"):
        embedding = weights.get(f"{side}.embed_tokens.weight")
        if embedding is None or len(embedding) != len(SPECIAL) + symbols:
            raise UserError(
                f"init_from: {checkpoint} holds no {side} with {len(SPECIAL) + symbols} symbols.",
                "Start from a translation model of this vocabulary.",
            )
