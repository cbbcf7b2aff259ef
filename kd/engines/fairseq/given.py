"""Imports models that were trained elsewhere: fairseq checkpoints with the vocabulary of their training."""

from __future__ import annotations

from pathlib import Path

from kd.engines.fairseq.average import save, updates_of, without_training
from kd.engines.fairseq.loading import load
from kd.engines.fairseq.model import load_dictionaries, restore
from kd.models.files import WEIGHTS
from kd.models.folder import ModelFolder


def import_model(given: ModelFolder, out: Path) -> int:
    """Write a model folder from a checkpoint and its vocabulary, without the optimiser's state.

    Args:
        given: The files.
        out: The folder to write.

    Returns:
        The number of updates that the checkpoint states; 0 if it states none.

    Raises:
        UserError: The checkpoint is not a Transformer for translation, or the files do not belong together.
    """
    state = load(given.weights)
    restore(state, given, *load_dictionaries(given))
    given.check()
    given.copy(out, weights=False)
    save(without_training(state, state["model"]), out / WEIGHTS)
    return updates_of(state)
