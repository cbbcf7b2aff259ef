"""The presets of architectures have the numbers of parameters counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.engines.fairseq.model import build, count_parameters
from kd.models.transformer import parameter_count
from kd.recipe.compose import compose, parse_request, recipes, resolve
from kd.recipe.schema import ModelConfig

PIECES = 32_000

# One joint embedding matrix of 32,000 pieces; d width, f feed-forward width. A layer of the encoder has
# 4(d*d + d) + 2df + f + d + 2*2d numbers, one of the decoder 8(d*d + d) + 2df + f + d + 3*2d; pre-norm adds 2*2d.
COUNTS = {
    # 6 * 3,152,384 + 6 * 4,204,032 + 16,384,000 + 2,048
    ("teacher", "base"): 60_524_544,
    # d 1024, f 4096: 6 * 12,596,224 + 6 * 16,796,672 + 32,768,000 (274,661,376 with three matrices instead of one)
    ("teacher", "transformer_big"): 209_125_376,
    ("teacher", "deep_12_6"): 209_125_376 + 6 * 12_596_224 + 4_096,
    ("teacher", "deep_18_6"): 209_125_376 + 12 * 12_596_224 + 4_096,
    # 12 * 3,152,384 + 4,204,032 + 16,384,000 + 2,048: the talk's "about 58 M"
    ("student", "deep_shallow_12_1"): 58_418_688,
}


def preset(group: str, name: str) -> ModelConfig:
    """The model that a preset describes."""
    request = parse_request(["recipe=files", "source=a", "target=b", f"{group}={name}"])
    return ModelConfig(**resolve(compose(request))[group]["model"])


@pytest.mark.parametrize(("group", "name"), COUNTS)
def test_presets_have_the_parameters_counted_by_hand(group: str, name: str) -> None:
    assert parameter_count(preset(group, name), PIECES) == COUNTS[group, name]


def test_the_formula_equals_the_parameters_of_a_model(tmp_path: Path) -> None:
    dictionary = tmp_path / "dict.txt"
    dictionary.write_text("".join(f"piece{number} 1\n" for number in range(96)), "utf-8")
    for name in ("base", "tiny_3_3", "small_6_6"):  # recipes and models in turn: their Hydras differ in manners
        model = preset("teacher", name)
        assert parameter_count(model, 100) == count_parameters(build(model, dictionary))


@pytest.mark.parametrize("recipe", sorted(name for name in recipes() if name == "demo" or name.endswith("_small")))
def test_recipes_for_a_cpu_have_a_fixed_micro_batch(recipe: str) -> None:
    """Their results do not depend on the machine's load."""
    config = compose(parse_request([f"recipe={recipe}"]))
    assert all(isinstance(config[name].batch.max_tokens, int) for name in ("teacher", "student", "finetune"))
