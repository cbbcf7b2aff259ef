"""fairseq models for inference: loading them from model folders, and counting their parameters.

A model folder holds `model.pt` (a checkpoint of fairseq's) and `dict.txt` (its dictionary, of both sides); a model made
elsewhere may have a dictionary of its own for the source, `dict.source.txt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.recipe.schema import ModelConfig

MODEL = "model.pt"
DICTIONARY = "dict.txt"
SOURCE_DICTIONARY = "dict.source.txt"


def load_models(folders: Sequence[Path], device: str = "cpu") -> tuple[list[Any], Any]:
    """The models of these folders, ready to translate, and the dictionary that they share: that of their targets.

    Files are read as weights alone: they cannot run code.

    Raises: UserError where a file is missing or no checkpoint, or where dictionaries differ.
    """
    from kd.engines.fairseq import compat

    compat.install()
    from fairseq import checkpoint_utils
    from fairseq.data import Dictionary
    from fairseq.tasks.translation import TranslationConfig, TranslationTask

    from kd.engines.fairseq.average import load

    if not folders:
        raise UserError("No model was named.", "Name at least one model folder.")
    dictionaries = [_existing(folder / DICTIONARY) for folder in folders]
    sources = [_source_dictionary(folder) for folder in folders]
    for folder, path, source in zip(folders, dictionaries, sources, strict=True):
        same = path.read_bytes() == dictionaries[0].read_bytes() and source.read_bytes() == sources[0].read_bytes()
        if not same:
            raise UserError(
                f"{folder} and {folders[0]} have different vocabularies.", "An ensemble needs models of one vocabulary."
            )
    dictionary = Dictionary.load(str(dictionaries[0]))
    task = TranslationTask(TranslationConfig(), Dictionary.load(str(sources[0])), dictionary)
    models = []
    for folder in folders:
        path = _existing(folder / MODEL)
        load(path)  # says in plain words what is wrong with a file that fairseq would fail on
        [model], _ = checkpoint_utils.load_model_ensemble([str(path)], task=task)
        models.append(model.eval().to(device))
    return models, dictionary


def _source_dictionary(folder: Path) -> Path:
    own = folder / SOURCE_DICTIONARY
    return own if own.is_file() else folder / DICTIONARY


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"There is no {path}.", "Name a model folder that a training left.")
    return path


def longest_pieces(checkpoint: Path) -> dict[str, int | None]:
    """The longest `source` and `target` that a model was trained on, in pieces, their ends not counted.

    None where it does not say.
    """
    from kd.engines.fairseq.average import load

    state = load(checkpoint)
    settings = state["cfg"]["task"] if state.get("cfg") else vars(state["args"])
    found = {side: settings.get(f"max_{side}_positions") for side in ("source", "target")}
    return {side: None if positions is None else int(positions) - 1 for side, positions in found.items()}


def count_parameters(model: Any) -> int:
    """Trainable numbers of a model; what is shared counts once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def build(config: ModelConfig, dictionary: Path) -> Any:
    """An untrained model of this shape, with random weights, over a dictionary file."""
    from kd.engines.fairseq import compat

    compat.install()
    from fairseq import options
    from fairseq.data import Dictionary
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.tasks.translation import TranslationConfig, TranslationTask

    from kd.engines.fairseq.flags import model_arguments

    symbols = Dictionary.load(str(dictionary))
    task = TranslationTask(TranslationConfig(), symbols, symbols)
    flags = ["", "--task", "translation", *model_arguments(config)]
    arguments = options.parse_args_and_arch(options.get_training_parser(), input_args=flags)
    return task.build_model(convert_namespace_to_omegaconf(arguments).model)
