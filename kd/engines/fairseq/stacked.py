"""Run decoders of equal shape as one: the members of an ensemble form a dimension of each matrix product.

fairseq runs the members one after the other, stores keys and values per hypothesis, and copies all of them at every
step. Here the weights of all members are one tensor (`stacked_weights.py`). Keys and values are written once and never
moved: the hypotheses of a sentence share them, and a mask selects the past of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kd.engines.fairseq.stacked_weights import Layer, position_embeddings, shape_of, stacked_layer, stacked_norm

if TYPE_CHECKING:
    from torch import Tensor

_LOGITS = 4_000_000  # numbers of the output layer at once, so that they fit into the caches of a CPU
_LOGITS_GPU = 500_000_000
_FIRST_SLOTS = 64  # in a cache of keys, which grows by this number or by half


@dataclass
class State:
    """The state of a batch: keys and values, [members * sentences, heads, slots, width of a head]."""

    cross: list[tuple[Tensor, Tensor]]  # of the source, by layer
    own: list[tuple[Tensor, Tensor]]  # of the output, by layer; the first `slots` of them are in use
    slots: int
    cross_mask: Tensor | None  # [members * sentences, 1, 1, source positions], 0 or minus infinity
    members: int

    def keep(self, sentences: Tensor) -> None:
        """Remove all sentences except those with these numbers."""
        self.cross = [(self._kept(key, sentences), self._kept(value, sentences)) for key, value in self.cross]
        self.own = [
            (self._kept(key[:, :, : self.slots], sentences), self._kept(value[:, :, : self.slots], sentences))
            for key, value in self.own
        ]
        if self.cross_mask is not None:
            self.cross_mask = self._kept(self.cross_mask, sentences)

    def _kept(self, tensor: Tensor, sentences: Tensor) -> Tensor:
        return tensor.unflatten(0, (self.members, -1)).index_select(1, sentences).flatten(0, 1)

    def room_for(self, more: int) -> None:
        """Enlarge the caches if `more` slots do not fit."""
        if self.own and self.slots + more > self.own[0][0].shape[2]:
            capacity = self.slots + max(more, _FIRST_SLOTS, self.slots // 2)
            self.own = [
                (_grown(key, self.slots, capacity), _grown(value, self.slots, capacity)) for key, value in self.own
            ]


def _grown(cache: Tensor, used: int, capacity: int) -> Tensor:
    larger = cache.new_empty((*cache.shape[:2], capacity, cache.shape[3]))
    larger[:, :, :used] = cache[:, :, :used]
    return larger


class Stack:
    """Decoders of equal shape. Members are the first dimension of tensors; rows are sentences times hypotheses.

    Args:
        models: fairseq Transformers for which `unsupported` returns None and `shape_of` returns equal values.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        import torch

        self._models = list(models)
        decoders = [model.decoder for model in models]
        self._first = decoders[0]
        self.members = len(decoders)
        with torch.no_grad():
            self._embedding = torch.stack([decoder.embed_tokens.weight for decoder in decoders])
            # Tied matrices stay one tensor in memory, [members, pieces, width], which is transposed in use.
            tied = all(decoder.output_projection.weight is decoder.embed_tokens.weight for decoder in decoders)
            self._output = (
                self._embedding if tied else torch.stack([decoder.output_projection.weight for decoder in decoders])
            )
            self._positions = position_embeddings(decoders)
            self._embedding_norm = stacked_norm([decoder.layernorm_embedding for decoder in decoders])
            by_depth = zip(*(decoder.layers for decoder in decoders), strict=True)
            self._layers = [stacked_layer(layers) for layers in by_depth]
            self._final_norm = stacked_norm([decoder.layer_norm for decoder in decoders])
        self.pre_norm = self._first.layers[0].normalize_before if self._layers else True

    def begin(self, source: dict[str, Tensor], sentences: int) -> State:
        """Encode a batch (fairseq's `net_input`), and compute the keys and values of the source once per sentence."""
        import torch

        outs = [model.encoder.forward_torchscript(source) for model in self._models]
        encoded = torch.stack([out["encoder_out"][0].transpose(0, 1) for out in outs])  # members, sentences, S, width
        positions = encoded.shape[2]
        flat = encoded.flatten(1, 2)
        cross = [_split(layer.key_value(flat), sentences, positions, 2, layer.heads) for layer in self._layers]
        padded = source["src_tokens"].eq(self._first.padding_idx)
        mask = None
        if bool(padded.any()):
            mask = torch.zeros(padded.shape, dtype=encoded.dtype, device=encoded.device)
            mask = mask.masked_fill(padded, -math.inf)[:, None, None].repeat(self.members, 1, 1, 1)
        own = []
        for layer, (key, _) in zip(self._layers, cross, strict=True):
            shape = (self.members * sentences, layer.heads, _FIRST_SLOTS, self._first.embed_dim // layer.heads)
            own.append((key.new_empty(shape), key.new_empty(shape)))
        return State([(key.contiguous(), value.contiguous()) for key, value in cross], own, 0, mask, self.members)

    def step(self, state: State, tokens: Tensor, position: int, past: Tensor) -> Tensor:
        """Run one step of the decoder.

        Args:
            state: The state of the batch.
            tokens: The last token of each hypothesis, [sentences, hypotheses].
            position: The number of the step.
            past: [sentences, hypotheses, slots]: 0 at the slots of a hypothesis, including those of this step, and
                minus infinity elsewhere.

        Returns:
            The input of the output layer, [members, rows, width].
        """
        sentences, beam = tokens.shape
        state.room_for(beam)
        state.slots += beam
        mask = past.repeat(self.members, 1, 1).unsqueeze(1)
        x = self._embedding[:, tokens.flatten()] * self._first.embed_scale
        if self._positions is not None:
            x += self._positions(position)
        if self._embedding_norm is not None:
            x = self._embedding_norm(x)
        for number, layer in enumerate(self._layers):
            x = self._self_attention(layer, x, state, number, mask, sentences)
            x = self._cross_attention(layer, x, state, number, sentences)
            x = self._feed_forward(layer, x)
        return x if self._final_norm is None else self._final_norm(x)

    def logits(self, hidden: Tensor, out: Tensor) -> None:
        """Compute the output layer into `out`, [members, rows, tokens]."""
        import torch

        torch.bmm(hidden, self._output.transpose(1, 2), out=out)

    def _self_attention(
        self, layer: Layer, x: Tensor, state: State, number: int, mask: Tensor, sentences: int
    ) -> Tensor:
        normal = layer.norm_self(x) if self.pre_norm else x
        rows = x.shape[1] // sentences
        query, key, value = _split(layer.query_key_value(normal), sentences, rows, 3, layer.heads)
        keys, values = state.own[number]
        keys[:, :, state.slots - rows : state.slots] = key
        values[:, :, state.slots - rows : state.slots] = value
        found = _attend(query, keys[:, :, : state.slots], values[:, :, : state.slots], mask)
        x = layer.self_out.added_to(x, found.view_as(x))
        return x if self.pre_norm else layer.norm_self(x)

    def _cross_attention(self, layer: Layer, x: Tensor, state: State, number: int, sentences: int) -> Tensor:
        normal = layer.norm_cross(x) if self.pre_norm else x
        (query,) = _split(layer.query(normal), sentences, x.shape[1] // sentences, 1, layer.heads)
        keys, values = state.cross[number]
        mask = state.cross_mask
        if mask is not None:
            mask = mask.expand(-1, -1, query.shape[2], -1)
        x = layer.cross_out.added_to(x, _attend(query, keys, values, mask).view_as(x))
        return x if self.pre_norm else layer.norm_cross(x)

    def _feed_forward(self, layer: Layer, x: Tensor) -> Tensor:
        normal = layer.norm_feed(x) if self.pre_norm else x
        x = layer.feed_out.added_to(x, layer.activation(layer.feed_in(normal)))
        return x if self.pre_norm else layer.norm_feed(x)


class Outputs:
    """The output layer of several stacks: logits and probabilities, in buffers that each call overwrites.

    The buffers are reused because allocating memory of this size takes longer than the computation.
    """

    def __init__(self, stacks: Sequence[Stack], size: int) -> None:
        self._stacks = stacks
        self._size = size  # of the vocabulary
        self._members = sum(stack.members for stack in stacks)
        self._buffers: list[Tensor] = []

    def rows_at_once(self, hidden: Sequence[Tensor]) -> int:
        """Return the number of rows to process per call."""
        limit = _LOGITS if hidden[0].device.type == "cpu" else _LOGITS_GPU
        return max(1, limit // (self._members * self._size))

    def __call__(self, hidden: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities of all members, [members, rows, tokens]; `hidden`: from each `Stack.step`."""
        import torch

        rows = hidden[0].shape[1]
        needed = self._members * rows * self._size
        if not self._buffers or self._buffers[0].numel() < needed:
            self._buffers = [hidden[0].new_empty(needed), hidden[0].new_empty(needed, dtype=torch.float32)]
        logits, probabilities = (buffer[:needed].view(self._members, rows, self._size) for buffer in self._buffers)
        start = 0
        for stack, part in zip(self._stacks, hidden, strict=True):
            stack.logits(part, out=logits[start : start + stack.members])
            start += stack.members
        torch.softmax(logits, 2, dtype=torch.float32, out=probabilities)
        return logits, probabilities


def stacks_of(models: Sequence[Any]) -> tuple[list[Stack], list[int]]:
    """Return stacks of models of equal shape, and each model's position among the members of all stacks."""
    by_shape: list[tuple[Any, list[int]]] = []
    for number, model in enumerate(models):
        shape = shape_of(model)
        for other, numbers in by_shape:
            if other == shape:
                numbers.append(number)
                break
        else:
            by_shape.append((shape, [number]))
    order = [number for _, numbers in by_shape for number in numbers]
    stacks = [Stack([models[number] for number in numbers]) for _, numbers in by_shape]
    return stacks, [order.index(number) for number in range(len(models))]


def _split(x: Tensor, sentences: int, rows: int, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Return views [members * sentences, heads, rows, width / heads] of [members, sentences * rows, parts * width]."""
    width = x.shape[-1] // (parts * heads)
    return x.view(-1, rows, parts, heads, width).permute(2, 0, 3, 1, 4).unbind(0)


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Compute scaled dot-product attention, [members * sentences, rows, heads * width of a head]."""
    from torch.nn.functional import scaled_dot_product_attention

    found = scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    return found.transpose(1, 2).reshape(found.shape[0], found.shape[2], -1)
