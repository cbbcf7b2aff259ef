"""Stack the weights of fairseq decoders of equal shape: a matrix of all members is one tensor, `[members, in, out]`.

Layer normalisation is merged into the matrix product that follows, and the projections of query, key and value are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Affine:
    """`x @ weight + bias`, with weights [members, in, out] and biases [members, 1, out]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product."""
        import torch

        return torch.baddbmm(self.bias, x, self.weight)

    def added_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """Return `residual + x @ weight + bias`."""
        import torch

        return torch.baddbmm(residual, x, self.weight).add_(self.bias)


@dataclass
class Norm:
    """Layer normalisation; gains and biases [members, 1, width] are None if they are merged into the next product."""

    gain: Tensor | None
    bias: Tensor | None
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise each vector of `x`."""
        import torch

        normal = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=self.epsilon)
        if self.gain is None or self.bias is None:
            return normal
        return torch.addcmul(self.bias, normal, self.gain)


@dataclass
class Layer:
    """The products and normalisations of a decoder layer."""

    heads: int
    norm_self: Norm
    query_key_value: Affine
    self_out: Affine
    norm_cross: Norm
    query: Affine
    key_value: Affine  # of the encoder's output
    cross_out: Affine
    norm_feed: Norm
    feed_in: Affine
    feed_out: Affine
    activation: Any


def unsupported(model: Any) -> str | None:
    """Return which part of a fairseq model cannot be stacked; None if the model can."""
    from fairseq.models.transformer import TransformerDecoder, TransformerModel
    from fairseq.models.transformer.transformer_decoder import TransformerDecoderBase
    from fairseq.modules import MultiheadAttention
    from fairseq.modules.transformer_layer import TransformerDecoderLayer, TransformerDecoderLayerBase

    decoder: Any = getattr(model, "decoder", None)
    if not isinstance(model, TransformerModel) or type(decoder) not in (TransformerDecoder, TransformerDecoderBase):
        return f"it is a {type(model).__name__}"
    if decoder.adaptive_softmax is not None or decoder.output_projection.bias is not None:
        return "its output layer is not a plain projection"
    if decoder.project_in_dim is not None or decoder.project_out_dim is not None or decoder.quant_noise is not None:
        return "its embeddings are projected or quantised"
    if decoder.cross_self_attention:
        return "it attends to source and target jointly"
    for layer in decoder.layers:
        if type(layer) not in (TransformerDecoderLayer, TransformerDecoderLayerBase):
            return f"it has a {type(layer).__name__}"
        extras = (layer.attn_ln, layer.c_attn, layer.ffn_layernorm, layer.w_resid)
        attentions = (layer.self_attn, layer.encoder_attn)
        plain = all(type(each) is MultiheadAttention and each.bias_k is None for each in attentions)
        if any(extra is not None for extra in extras) or not plain or layer.nh != layer.self_attn.num_heads:
            return "its layers have additional parts"
        if any(each.add_zero_attn or each.q_proj.bias is None for each in attentions):
            return "its attention has no biases, or a key of zeros"
    return None


def shape_of(model: Any) -> tuple[Any, ...]:
    """Return the properties that two models must share to run as one."""
    decoder = model.decoder
    layer = decoder.layers[0]
    return (
        [(name, tuple(tensor.shape)) for name, tensor in decoder.state_dict().items()],
        layer.self_attn.num_heads, layer.normalize_before, layer.activation_fn, decoder.embed_scale,
        type(decoder.embed_positions), decoder.padding_idx, layer.self_attn_layer_norm.eps,
    )  # fmt: skip


def position_embeddings(decoders: Sequence[Any]) -> Any:
    """Return a function from a step to its position embedding, [members or 1, 1, width]; None without positions."""
    import torch

    if decoders[0].embed_positions is None:
        return None
    offset = decoders[0].padding_idx + 1
    if isinstance(decoders[0].embed_positions, torch.nn.Embedding):
        table = torch.stack([decoder.embed_positions.weight for decoder in decoders])
        return lambda step: table[:, offset + step : offset + step + 1]
    weight = decoders[0].embed_tokens.weight
    sinusoidal = type(decoders[0].embed_positions)
    cache: dict[int, Any] = {}

    def at(step: int) -> Any:
        if step not in cache:
            size = 2 * (offset + step + 128)
            table = sinusoidal.get_embedding(size, decoders[0].embed_dim, decoders[0].padding_idx).to(weight)
            cache.update({number: table[offset + number].view(1, 1, -1) for number in range(size - offset)})
        return cache[step]

    return at


def stacked_norm(norms: Sequence[Any]) -> Any:
    """Return the members' layer normalisations as one; None if the models have none here."""
    import torch

    if norms[0] is None:
        return None
    gain = torch.stack([norm.weight for norm in norms]).unsqueeze(1)
    return Norm(gain, torch.stack([norm.bias for norm in norms]).unsqueeze(1), norms[0].eps)


def stacked_affine(modules: Sequence[Sequence[Any]], norm: Norm | None = None) -> Affine:
    """Merge linear layers, given by member, into one, with a member's layers side by side; `norm` is merged in.

    (x * gain + bias) W = x (diag(gain) W) + bias W, which saves one pass over the rows.
    """
    import torch

    kind = modules[0][0].weight.dtype
    weights = torch.stack([torch.cat([part.weight for part in parts]).t() for parts in modules])
    biases = torch.stack([torch.cat([part.bias for part in parts]) for parts in modules]).unsqueeze(1)
    if norm is not None and norm.gain is not None and norm.bias is not None:
        exact = weights.double()
        biases = biases.double() + norm.bias.double() @ exact
        weights = exact * norm.gain.double().transpose(1, 2)
    return Affine(weights.to(kind).contiguous(), biases.to(kind).contiguous())


def stacked_layer(layers: Sequence[Any]) -> Layer:
    """Return the members' layers of one depth as one."""
    norms = {
        name: stacked_norm([getattr(layer, name) for layer in layers])
        for name in ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
    }
    taken = norms if layers[0].normalize_before else {}

    def affine(names: str, norm: str = "") -> Affine:
        modules = [[layer.get_submodule(name) for name in names.split()] for layer in layers]
        return stacked_affine(modules, taken.get(norm))

    made = Layer(
        heads=layers[0].self_attn.num_heads,
        norm_self=norms["self_attn_layer_norm"],
        query_key_value=affine("self_attn.q_proj self_attn.k_proj self_attn.v_proj", "self_attn_layer_norm"),
        self_out=affine("self_attn.out_proj"),
        norm_cross=norms["encoder_attn_layer_norm"],
        query=affine("encoder_attn.q_proj", "encoder_attn_layer_norm"),
        key_value=affine("encoder_attn.k_proj encoder_attn.v_proj"),
        cross_out=affine("encoder_attn.out_proj"),
        norm_feed=norms["final_layer_norm"],
        feed_in=affine("fc1", "final_layer_norm"),
        feed_out=affine("fc2"),
        activation=layers[0].activation_fn,
    )
    for name in taken:
        norms[name].gain = norms[name].bias = None
    return made
