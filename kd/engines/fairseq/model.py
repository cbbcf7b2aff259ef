"""Build fairseq models for inference from model folders, and count their parameters."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.engines.fairseq.language_tokens import (
    Direction,
    LanguageTokens,
    added_symbols,
    require_plain,
    require_symbols,
    select,
    tokens_of,
)
from kd.engines.fairseq.loading import load
from kd.models.folder import ModelFolder
from kd.recipe.schema import ModelConfig

_UNNAMED = Direction()


@dataclass(frozen=True)
class Loaded:
    """Models for inference.

    Attributes:
        models: One for each folder.
        source: The source dictionary that they share.
        target: The target dictionary that they share.
        tokens: The language tokens that they expect.
        added: Symbols that fairseq added to the dictionaries.
        languages: Source and target language of multilingual models, by the models' names; None for other models.
    """

    models: list[Any]
    source: Any
    target: Any
    tokens: LanguageTokens
    added: list[str]
    languages: tuple[str | None, str | None] | None


def load_ensemble(folders: Sequence[Path], device: str = "cpu", direction: Direction = _UNNAMED) -> Loaded:
    """Load the models of these folders for inference.

    Args:
        folders: Model folders.
        device: The device for the weights.
        direction: The languages that multilingual models translate between; by default those in the checkpoint.

    Raises:
        UserError: A file is missing or damaged, a checkpoint is refused, the dictionaries or language tokens differ, or
            a language that the models need is unknown.
    """
    if not folders:
        raise UserError("No model is given.", "Name at least one model folder.")
    opened = [ModelFolder.open(folder) for folder in folders]
    for model in opened[1:]:
        if model.symbols() != opened[0].symbols():
            raise UserError(
                f"{model.path} and {opened[0].path} have different vocabularies.",
                "An ensemble needs models of one vocabulary.",
            )
    source, target = load_dictionaries(opened[0])
    models: list[Any] = []
    tokens: list[LanguageTokens] = []
    for model in opened:
        state = prepare(load(model.weights), model, source, target, direction)
        models.append(restore(state, model, source, target).to(device))
        task = state["cfg"]["task"]
        tokens.append(tokens_of(task))
        languages = None if task["_name"] == "translation" else (task["source_lang"], task["target_lang"])
        if tokens[-1] != tokens[0]:
            raise UserError(
                f"{model.path} and {opened[0].path} expect different language tokens.",
                "Combine only models that were trained with the same language tokens.",
            )
    return Loaded(models, source, target, tokens[0], added_symbols(task), languages)


def load_models(folders: Sequence[Path], device: str = "cpu") -> tuple[list[Any], Any]:
    """Load models that need no language tokens, and their target dictionary; raises the errors of `load_ensemble`."""
    loaded = load_ensemble(folders, device)
    if loaded.tokens:
        raise UserError(f"{folders[0]} needs language tokens in the text.", "Use it only as a decoding teacher.")
    return loaded.models, loaded.target


def load_dictionaries(model: ModelFolder) -> tuple[Any, Any]:
    """Load the dictionaries of source and target with fairseq, after reading them with checks."""
    from kd.engines.fairseq import compat

    compat.install()
    from fairseq.data import Dictionary

    model.symbols()
    source = Dictionary.load(str(model.source_dictionary))
    if model.source_dictionary == model.dictionary:
        return source, source
    return source, Dictionary.load(str(model.dictionary))


def prepare(
    state: dict[str, Any], model: ModelFolder, source: Any, target: Any, direction: Direction = _UNNAMED
) -> dict[str, Any]:
    """Reduce a checkpoint to one direction, and add its language tokens to the dictionaries, as fairseq does.

    Raises:
        UserError: A language is not known, or a token is neither in a dictionary nor in the embedding.
    """
    state = select(state, direction, model.weights)
    task = state["cfg"]["task"]
    for dictionary in (source, target):
        for symbol in added_symbols(task):
            dictionary.add_symbol(symbol)
    require_symbols(tokens_of(task), source, target, model.weights)
    return state


def load_teacher(checkpoint: Path, source: Any, target: Any) -> Any:
    """Load the model of one checkpoint for inference, with the dictionaries of a training.

    Raises:
        UserError: The checkpoint is refused, needs language tokens, or does not fit the dictionaries.
    """
    model = ModelFolder.beside(checkpoint)
    state = prepare(load(checkpoint), model, source, target)
    require_plain(state, checkpoint, "the training of a student on distributions")
    return restore(state, model, source, target)


def restore(state: dict[str, Any], model: ModelFolder, source: Any, target: Any) -> Any:
    """Build the model of a checkpoint from `loading.load`, ready to translate.

    Args:
        state: The checkpoint, with checked settings.
        model: Its files, for messages.
        source: fairseq's dictionary of the source.
        target: fairseq's dictionary of the target.

    Raises:
        UserError: The weights do not fit the settings or the dictionaries.
    """
    from fairseq.models.transformer import TransformerModel
    from fairseq.tasks.translation import TranslationConfig, TranslationTask

    settings = complete(state["cfg"]["model"])
    _check_sizes(state["model"], settings, model, source, target, added_symbols(state["cfg"]["task"]))
    try:
        built = TransformerModel.build_model(settings, TranslationTask(TranslationConfig(), source, target))
        built.load_state_dict(dict(state["model"]), strict=True)
    except (RuntimeError, ValueError, KeyError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(
            f"{model.weights} does not hold the model that its settings describe: {reason}.",
            "Copy the model again, or give another one.",
        ) from None
    return built.eval()


def complete(settings: Namespace) -> Namespace:
    """Complete a model's checked settings with fairseq's defaults."""
    from fairseq.models import ARCH_CONFIG_REGISTRY

    whole = Namespace(encoder_layers_to_keep=None, decoder_layers_to_keep=None, encoder_embed_path=None)
    vars(whole).update(vars(settings))
    ARCH_CONFIG_REGISTRY[settings.arch](whole)
    return whole


def _check_sizes(
    weights: dict[str, Any], settings: Namespace, model: ModelFolder, source: Any, target: Any, tokens: Sequence[str]
) -> None:
    """Compare sizes with the weights before allocating anything."""
    path = model.weights
    sides = (("encoder", source, model.source_dictionary), ("decoder", target, model.dictionary))
    for side, dictionary, file in sides:
        embedding = weights.get(f"{side}.embed_tokens.weight")
        if embedding is None:
            raise UserError(f"{path} has no Transformer {side}.", "Give a fairseq translation model.")
        if len(embedding) != len(dictionary):
            added = f", language tokens included ({', '.join(tokens[:3])} …)" if tokens else ""
            raise UserError(
                f"{path} has {len(embedding)} symbols in its {side}, and {file} has {len(dictionary)}{added}.",
                "Give the dictionaries of its training, one dict.txt per side.",
            )
        layers = {name.split(".")[2] for name in weights if name.startswith(f"{side}.layers.")}
        stated = getattr(settings, f"{side}_layers")
        if len(layers) < stated or embedding.shape[-1] != getattr(settings, f"{side}_embed_dim"):
            raise UserError(
                f"{path} does not hold the model that its settings describe: the size of its {side} differs."
            )


def longest_pieces(checkpoint: Path) -> dict[str, int | None]:
    """Return the longest `source` and `target` of a model's training, in tokens without the end of sentence.

    Returns None if the checkpoint does not state them.
    """
    settings = load(checkpoint)["cfg"]
    found = {}
    for side in ("source", "target"):
        name = f"max_{side}_positions"
        positions = settings["task"].get(name, getattr(settings["model"], name, None))
        found[side] = None if positions is None else int(positions) - 1
    return found


def holds_nan(model: Any) -> bool:
    """Return whether a weight of a model is NaN."""
    return any(bool(weight.isnan().any()) for weight in model.parameters())


def count_parameters(model: Any) -> int:
    """Return the number of trainable parameters; shared parameters count once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def build(config: ModelConfig, dictionary: Path) -> Any:
    """Build an untrained model of this shape, with random weights, over a dictionary file."""
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
