"""Import models that were trained elsewhere: fairseq checkpoints with the vocabulary of their training."""

from __future__ import annotations

from pathlib import Path

from kd.engines.fairseq.average import save, updates_of, without_training
from kd.engines.fairseq.language_tokens import Direction, added_symbols
from kd.engines.fairseq.loading import load
from kd.engines.fairseq.model import load_dictionaries, prepare, restore
from kd.models.files import DICTIONARY, SOURCE_DICTIONARY, WEIGHTS
from kd.models.folder import ModelFolder
from kd.models.matching import read_dictionary

_NO_DIRECTION = Direction()


def import_model(given: ModelFolder, out: Path, direction: Direction = _NO_DIRECTION) -> int:
    """Write a model folder from a checkpoint and its vocabulary, without the optimiser's state.

    The folder of a multilingual checkpoint translates in one direction, and its dictionaries have the language tokens.

    Args:
        given: The files.
        out: The folder to write.
        direction: The languages that a multilingual model translates between.

    Returns:
        The number of updates that the checkpoint states; 0 if it states none.

    Raises:
        UserError: The checkpoint is not a Transformer for translation, the files do not belong together, or a language
            that the model needs is not known.
    """
    dictionaries = load_dictionaries(given)
    state = prepare(load(given.weights), given, *dictionaries, direction)
    restore(state, given, *dictionaries)
    given.check()
    given.copy(out, weights=False)
    for name in (DICTIONARY, SOURCE_DICTIONARY):
        if (out / name).is_file():
            _append(out / name, added_symbols(state["cfg"]["task"]))
    save(without_training(state, state["model"]), out / WEIGHTS)
    return updates_of(state)


def _append(dictionary: Path, symbols: list[str]) -> None:
    known = set(read_dictionary(dictionary))
    if missing := [symbol for symbol in symbols if symbol not in known]:
        text = dictionary.read_text("utf-8").removesuffix("\n")
        dictionary.write_text("\n".join([text, *(f"{symbol} 1" for symbol in missing)]) + "\n", "utf-8")
