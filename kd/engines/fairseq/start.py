"""Start a training from the weights of another model of the same vocabulary and shape.

The optimiser's state is not used, since this is a new training with its own schedule.
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
        raise UserError(f"init_from: there is no {checkpoint}.", "Give a checkpoint, or a folder with a model.pt.")
    model = ModelFolder.beside(checkpoint)
    assert model.source_dictionary and model.dictionary
    for side, path in (("source", model.source_dictionary), ("target", model.dictionary)):
        if not path.is_file():
            raise UserError(
                f"init_from: there is no dictionary of its {side} beside {checkpoint}.",
                f"Copy the {DICTIONARY} of its training there: the dictionary defines the rows of the embedding.",
            )
    return checkpoint, model.source_dictionary, model.dictionary


def prepare_start(files: tuple[Path, Path, Path], dictionary: Path, model: ModelConfig, out: Path) -> None:
    """Write a checkpoint for fairseq to start from (`--finetune-from-model`), if it fits the new training.

    Args:
        files: The result of `start_files`.
        dictionary: The joint dictionary of the new training's data.
        model: The shape of the new model.
        out: The checkpoint to write.

    Raises:
        UserError: The vocabulary or the shape differs; the message names the setting.
    """
    from kd.engines.fairseq.language_tokens import require_plain
    from kd.engines.fairseq.loading import load

    symbols = check_vocabulary("init_from", files, dictionary)
    state = load(files[0])
    require_plain(state, files[0], "training")
    check_shape("init_from", files[0], state, model, symbols)
    write_start(state, state["model"], out)


def write_start(state: dict[str, Any], weights: Mapping[str, Any], out: Path) -> None:
    """Write weights as the checkpoint of a training without updates; `state`: the checkpoint that they come from."""
    from kd.engines.fairseq.average import save, without_training

    start = without_training(state, dict(weights))
    start["optimizer_history"][0]["num_updates"] = 0
    # The new training starts at the beginning of its data, but fairseq requires a position.
    start["extra_state"] = {"train_iterator": {"version": 2, "epoch": 1, "iterations_in_epoch": 0, "shuffle": True}}
    save(start, out)


def check_vocabulary(key: str, files: tuple[Path, Path, Path], dictionary: Path) -> int:
    """Check that a checkpoint and a training's data share a vocabulary; return its size, special symbols included.

    Args:
        key: The setting that names the checkpoint, for the message.
        files: Checkpoint and dictionaries, source and target.
        dictionary: The joint dictionary of the new training's data.

    Raises:
        UserError: A dictionary differs.
    """
    from kd.models.vocabulary import SPECIAL

    checkpoint, *dictionaries = files
    wanted = read_dictionary(dictionary)
    for path in dictionaries:
        if read_dictionary(path) != wanted:
            raise UserError(
                f"{key}: {checkpoint} has the vocabulary {path}, which is not that of the training data.",
                "Encode the data with that model's vocabulary, or start from a model of this one.",
            )
    return len(SPECIAL) + len(wanted)


def check_shape(key: str, checkpoint: Path, state: Mapping[str, Any], model: ModelConfig, symbols: int) -> None:
    """Raise UserError, naming the dimension, unless a checkpoint holds a model of this shape and vocabulary.

    Args:
        key: The setting that names the checkpoint, for the message.
        checkpoint: Its path, for the message.
        state: Its content.
        model: The shape wanted.
        symbols: Size of the vocabulary, special symbols included.
    """
    from kd.engines.fairseq.model import complete

    values = vars(complete(state["cfg"]["model"]))
    for theirs, ours in _SHAPE.items():
        there, here = values.get(theirs), getattr(model, ours)
        if there is not None and there != here:
            raise UserError(
                f"{key}: {checkpoint} has {theirs} {there}, but model.{ours} is {here}.",
                f"Set model.{ours} to {there}, or start from a model of this shape.",
            )
    for side in ("encoder", "decoder"):
        embedding = state["model"].get(f"{side}.embed_tokens.weight")
        if embedding is None or len(embedding) != symbols:
            raise UserError(
                f"{key}: {checkpoint} has no {side} with {symbols} symbols.",
                "Start from a translation model of this vocabulary.",
            )
