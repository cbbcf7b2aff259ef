"""How much arithmetic a Transformer of some shape does: floating-point operations of a trained token, of a translation.

Products of matrices alone are counted, as is usual (Kaplan et al., 2020, section 2.1): 2 operations for each parameter
and token forward, 4 more backward; to these comes attention, which grows with the length.
"""

from __future__ import annotations

from kd.recipe.schema import ModelConfig

BYTES_A_WEIGHT = 4  # float32
BYTES_A_CHECKPOINTED_WEIGHT = 12  # the weight and Adam's two moments, in float32


def encoder_weights(model: ModelConfig) -> int:
    """Weights in the encoder's matrices."""
    return model.encoder_layers * (4 * model.width**2 + 2 * model.width * model.ffn)


def decoder_weights(model: ModelConfig, vocabulary: int) -> int:
    """Weights in the decoder's matrices, the output layer included."""
    return model.decoder_layers * (8 * model.width**2 + 2 * model.width * model.ffn) + vocabulary * model.width


def training_operations(model: ModelConfig, vocabulary: int, source: float, target: float) -> float:
    """Operations a target token costs in training, where sentences have `source` and `target` pieces on average.

    The source's share is put on the target's tokens, of which batches are counted.
    """
    sentence = _encoding(model, source) + target * 2 * decoder_weights(model, vocabulary)
    sentence += 4 * model.width * model.decoder_layers * target * (target + source)
    return 3 * sentence / max(1.0, target)


def translation_operations(
    model: ModelConfig, vocabulary: int, source: float, steps: float, *, beam: int, members: int = 1
) -> float:
    """Operations that the translation of a sentence costs: the encoder once, the decoder at each step for each beam."""
    decoder = beam * steps * 2 * decoder_weights(model, vocabulary)
    attention = beam * 4 * model.width * model.decoder_layers * steps * (steps / 2 + source)
    return members * (_encoding(model, source) + decoder + attention)


def _encoding(model: ModelConfig, source: float) -> float:
    return source * 2 * encoder_weights(model) + 4 * model.width * model.encoder_layers * source**2
