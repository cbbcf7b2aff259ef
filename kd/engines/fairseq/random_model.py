"""Write model folders with random weights, to measure speed and memory without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd.engines.fairseq.flags import model_arguments
from kd.models.files import DICTIONARY, WEIGHTS
from kd.recipe.schema import ModelConfig

_END = 4.5  # factor on the weights of </s>: random models would run to the longest output with every hypothesis


def write_random_model(model: ModelConfig, folder: Path, seed: int, longest: int) -> None:
    """Write `model.pt` with random weights beside the vocabulary in `folder`.

    Args:
        model: The shape.
        folder: A folder with `dict.txt` and `vocabulary.model`.
        seed: Seed of the weights.
        longest: Longest source and target in tokens, end included.
    """
    import torch

    from kd.engines.fairseq.model import build

    torch.manual_seed(seed)
    built = build(model, folder / DICTIONARY)
    with torch.no_grad():
        built.decoder.output_projection.weight[2] *= _END
    history = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
    state = {
        "model": built.state_dict(),
        "args": None,
        "cfg": _configuration(model, folder, longest),
        "optimizer_history": [history],
        "extra_state": {"train_iterator": {"epoch": 1}},
    }
    torch.save(state, folder / WEIGHTS)


def _configuration(model: ModelConfig, folder: Path, longest: int) -> Any:
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from omegaconf import OmegaConf

    flags = [str(folder), "--task", "translation", *model_arguments(model)]
    flags += ["--max-source-positions", str(longest), "--max-target-positions", str(longest)]
    arguments = options.parse_args_and_arch(options.get_training_parser(), input_args=flags)
    return OmegaConf.to_container(convert_namespace_to_omegaconf(arguments), resolve=True, enum_to_str=True)
