"""Sizes and FLOPs of Transformers, compared with published figures."""

from __future__ import annotations

import pytest

from kd.models.transformer import decoder_matrices, encoder_matrices, training_flops, translation_flops
from kd.recipe.schema import ModelConfig


def shape(encoder: int, decoder: int, width: int, ffn: int) -> ModelConfig:
    return ModelConfig(
        encoder_layers=encoder, decoder_layers=decoder, width=width, ffn=ffn, heads=8, pre_norm=False, dropout=0.1
    )


BIG = shape(6, 6, 1024, 4096)


def test_the_weights_of_transformer_big_are_those_of_the_paper() -> None:
    # Vaswani et al. (2017), table 3: 213 million parameters with a vocabulary of 37,000.
    assert encoder_matrices(BIG) + decoder_matrices(BIG, 37_000) == pytest.approx(213e6, rel=0.02)


def test_training_costs_six_flops_per_parameter_and_token() -> None:
    # Kaplan et al. (2020), 2.1: 6 N a token, attention aside, which short sentences make small.
    weights = encoder_matrices(BIG) + decoder_matrices(BIG, 37_000)
    assert training_flops(BIG, 37_000, 1, 1) == pytest.approx(6 * weights, rel=0.001)
    assert 1.0 < training_flops(BIG, 37_000, 40, 40) / (6 * weights) < 1.05


def test_a_deep_encoder_is_paid_once_and_a_decoder_at_every_step_of_every_beam() -> None:
    deep, shallow = shape(12, 1, 512, 2048), shape(6, 6, 512, 2048)
    six = translation_flops(shallow, 32_000, 30, 30, beam=4)
    assert translation_flops(deep, 32_000, 30, 30, beam=4) < 0.7 * six
    one = translation_flops(shallow, 32_000, 30, 30, beam=1)
    assert translation_flops(shallow, 32_000, 30, 30, beam=1, members=4) == 4 * one
    assert 3 < translation_flops(shallow, 32_000, 30, 30, beam=4) / one < 4
