"""Initialise a student with layers of a teacher of equal width, by writing a checkpoint of the student's shape.

Embeddings and the final layer normalisations are copied; `LayerChoice` decides which layers are copied. The optimiser
starts from scratch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.engines.fairseq.start import check_shape, check_vocabulary, write_start
from kd.recipe.schema import LayerChoice, ModelConfig, StartConfig

SIDES = ("encoder", "decoder")


def layer_map(choice: LayerChoice, teacher: int, student: int) -> list[int]:
    """Return the teacher's layer, from 0, that each of the student's layers is copied from.

    Args:
        choice: The rule.
        teacher: Number of layers on this side of the teacher.
        student: Number of layers on this side of the student.
    """
    layers = range(student)
    if choice is LayerChoice.spread:
        return [layer * teacher // student for layer in layers]
    if choice is LayerChoice.ends:
        return [round(layer * (teacher - 1) / max(1, student - 1)) for layer in layers]
    if choice is LayerChoice.first:
        return [min(layer, teacher - 1) for layer in layers]
    return [max(0, teacher - student + layer) for layer in layers]


def prepare_layers(
    files: tuple[Path, Path, Path], dictionary: Path, model: ModelConfig, start: StartConfig, out: Path
) -> str:
    """Write a checkpoint of the student's shape that fairseq starts from, and return a sentence that describes it.

    Args:
        files: The teacher's checkpoint and its source and target dictionaries.
        dictionary: The joint dictionary of the student's data.
        model: Shape of the student.
        start: The choice of layers.
        out: The checkpoint to write.

    Raises:
        UserError: Vocabulary, width, feed-forward width, heads or norm differ from the teacher's.
    """
    from kd.engines.fairseq.language_tokens import require_plain
    from kd.engines.fairseq.loading import load

    checkpoint = files[0]
    symbols = check_vocabulary("student.start", files, dictionary)
    state = load(checkpoint)
    require_plain(state, checkpoint, "training")
    weights = state["model"]
    depths = {side: _depth(weights, side, checkpoint) for side in SIDES}
    here = replace(model, encoder_layers=depths["encoder"], decoder_layers=depths["decoder"])
    check_shape("student.start", checkpoint, state, here, symbols)
    wanted = {"encoder": model.encoder_layers, "decoder": model.decoder_layers}
    maps = {side: layer_map(getattr(start, side), depths[side], wanted[side]) for side in SIDES}
    write_start(state, _taken(weights, maps), out)
    told = "; ".join(f"{side} {', '.join(str(layer + 1) for layer in maps[side])} of {depths[side]}" for side in SIDES)
    return f"starts from layers of {checkpoint}: {told}."


def _depth(weights: Mapping[str, Any], side: str, checkpoint: Path) -> int:
    start = f"{side}.layers."
    layers = {name.removeprefix(start).split(".")[0] for name in weights if name.startswith(start)}
    if not layers:
        raise UserError(f"student.start: {checkpoint} has no {side} layers.",
                        "Give a Transformer as teacher, or set student.start.layers=false.")  # fmt: skip
    return len(layers)


def _taken(weights: Mapping[str, Any], maps: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return the initial weights of the student; each layer is a copy, since one layer may be used twice."""
    taken = {
        name: weight for name, weight in weights.items() if not name.startswith(tuple(f"{s}.layers." for s in SIDES))
    }
    for side, layers in maps.items():
        for layer, source in enumerate(layers):
            start = f"{side}.layers.{source}."
            taken |= {
                f"{side}.layers.{layer}.{name.removeprefix(start)}": weight.clone()
                for name, weight in weights.items()
                if name.startswith(start)
            }
    return taken
