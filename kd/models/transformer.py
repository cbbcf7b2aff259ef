"""The size and cost of a Transformer, computed from its shape: parameters, bytes on disk, FLOPs.

FLOPs count matrix products only, as is usual (Kaplan et al., 2020, section 2.1): 2 for each weight and token in the
forward pass, 4 more in the backward pass. Attention is added, since it grows with the length.
"""

from __future__ import annotations

from dataclasses import dataclass

from kd.recipe.schema import ModelConfig

MODEL_BYTES = 4  # of a parameter in a model file: float32
CHECKPOINT_BYTES = 12  # of a parameter in a checkpoint: the weight and Adam's two moments, in float32


@dataclass(frozen=True)
class Layer:
    """The parameters of one layer."""

    matrices: int  # weights that each token is multiplied by
    vectors: int  # biases and layer normalisations

    @property
    def parameters(self) -> int:
        """The sum of all parameters."""
        return self.matrices + self.vectors


def encoder_layer(model: ModelConfig) -> Layer:
    """Count one encoder layer: self-attention and feed-forward, each with a layer normalisation."""
    return _layer(model, attentions=1)


def decoder_layer(model: ModelConfig) -> Layer:
    """Count one decoder layer, which attends to the source as well."""
    return _layer(model, attentions=2)


def _layer(model: ModelConfig, attentions: int) -> Layer:
    width, ffn = model.width, model.ffn
    matrices = attentions * 4 * width**2 + 2 * width * ffn  # an attention has query, key, value and output
    biases = attentions * 4 * width + ffn + width
    return Layer(matrices, biases + (attentions + 1) * 2 * width)


def parameter_count(model: ModelConfig, vocabulary: int) -> int:
    """Count the trainable parameters: weights and biases as in Vaswani et al. (2017).

    Positions are sinusoidal and the output projection has no bias, as in fairseq; with `pre_norm` each side ends in
    one more layer normalisation.
    """
    embeddings = vocabulary * model.width * (1 if model.tie_embeddings else 3)
    layers = model.encoder_layers * encoder_layer(model).parameters
    layers += model.decoder_layers * decoder_layer(model).parameters
    return embeddings + layers + (4 * model.width if model.pre_norm else 0)


def encoder_matrices(model: ModelConfig) -> int:
    """Count the weights in the encoder's matrices."""
    return model.encoder_layers * encoder_layer(model).matrices


def decoder_matrices(model: ModelConfig, vocabulary: int) -> int:
    """Count the weights in the decoder's matrices, the output layer included."""
    return model.decoder_layers * decoder_layer(model).matrices + vocabulary * model.width


def training_flops(model: ModelConfig, vocabulary: int, source: float, target: float) -> float:
    """Compute the FLOPs of training on one target token.

    Args:
        model: its shape.
        vocabulary: number of entries in its vocabulary.
        source: mean source tokens of a sentence; their cost is attributed to the target tokens, by which batches are
            measured.
        target: mean target tokens of a sentence.
    """
    sentence = _encoding(model, source) + target * 2 * decoder_matrices(model, vocabulary)
    sentence += 4 * model.width * model.decoder_layers * target * (target + source)
    return 3 * sentence / max(1.0, target)


def translation_flops(
    model: ModelConfig, vocabulary: int, source: float, steps: float, *, beam: int, members: int = 1
) -> float:
    """Compute the FLOPs of translating one sentence: the encoder once, the decoder at each step for each beam."""
    decoder = beam * steps * 2 * decoder_matrices(model, vocabulary)
    attention = beam * 4 * model.width * model.decoder_layers * steps * (steps / 2 + source)
    return members * (_encoding(model, source) + decoder + attention)


def _encoding(model: ModelConfig, source: float) -> float:
    return source * 2 * encoder_matrices(model) + 4 * model.width * model.encoder_layers * source**2
