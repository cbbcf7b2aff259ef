"""Where a training starts when not from random weights: at another model, whose vocabulary and shape must be its own.

Weights alone are taken over, not the optimiser's state: it is a new training, with a schedule of its own.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.models.vocabulary import DICTIONARY, SOURCE_DICTIONARY, read_dictionary
from kd.recipe.schema import ModelConfig

WEIGHTS = "model.pt"  # of a model folder
MEMBER = "{member}"  # in a path: the number of the ensemble's member, from 1

# fairseq's name -> ours
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
    """Checkpoint and dictionaries, of source and target, that `init_from` means: a model folder, or a checkpoint.

    The dictionaries stand beside it: dict.txt of both sides, or dict.source.txt and dict.target.txt.

    Raises: UserError where one is missing.
    """
    path = Path(init_from.replace(MEMBER, str(member))).expanduser()
    checkpoint = path / WEIGHTS if path.is_dir() else path
    if not checkpoint.is_file():
        raise UserError(f"init_from: there is no {checkpoint}.", "Name a checkpoint, or a folder with a model.pt.")
    found = []
    for side, own in (("source", SOURCE_DICTIONARY), ("target", "dict.target.txt")):
        choices = [checkpoint.with_name(own), checkpoint.with_name(DICTIONARY)]
        there = [choice for choice in choices if choice.is_file()]
        if not there:
            raise UserError(
                f"init_from: beside {checkpoint} there is no dictionary of its {side}.",
                f"Put the {DICTIONARY} of its training there: without it nobody can tell what its numbers mean.",
            )
        found.append(there[0])
    return checkpoint, found[0], found[1]


def prepare_start(files: tuple[Path, Path, Path], dictionary: Path, model: ModelConfig, out: Path) -> None:
    """Writes a checkpoint that fairseq starts from (`--finetune-from-model`) once all is seen to fit.

    dictionary: that of the new training's data, of both sides.

    Raises: UserError naming what does not fit.
    """
    from kd.engines.fairseq.average import load, save, without_training

    checkpoint, *dictionaries = files
    wanted = read_dictionary(dictionary)
    for path in dictionaries:
        if read_dictionary(path) != wanted:
            raise UserError(
                f"init_from: {checkpoint} has the vocabulary {path}, and the training data have another.",
                "Encode the data with that model's vocabulary, or start from a model of this one.",
            )
    state = load(checkpoint)
    _check_shape(checkpoint, state, model)
    _check_rows(checkpoint, state["model"], len(wanted))
    start = without_training(state, state["model"])
    start["optimizer_history"][0]["num_updates"] = 0
    # Its place in the data is not gone on from, but fairseq looks for one.
    start["extra_state"] = {"train_iterator": {"version": 2, "epoch": 1, "iterations_in_epoch": 0, "shuffle": True}}
    save(start, out)


def _check_shape(checkpoint: Path, state: Mapping[str, Any], model: ModelConfig) -> None:
    settings = state["cfg"]["model"] if state.get("cfg") else state["args"]
    values = vars(settings) if isinstance(settings, Namespace) else settings
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
