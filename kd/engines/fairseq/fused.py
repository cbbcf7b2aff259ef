"""Cross-entropy, Adam and cross-attention in fewer passes over memory than fairseq's, equal up to rounding.

fairseq's label-smoothed cross-entropy takes 16 bytes per position and symbol of the vocabulary in fp32, this one 8; on
a GPU these bytes decide how large a micro-batch may be. fairseq's Adam calls six small operations per weight matrix,
this one calls a single kernel for all matrices. fairseq's cross-attention writes the matrix of attention weights, which
no loss of kd reads; self-attention and this one call torch's fused kernel. `install` replaces fairseq's versions. Only
training processes call it; validations and other processes run fairseq's own code.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


class _SparseCrossEntropy(torch.autograd.Function):
    """The function behind `sparse_cross_entropy`; its backward pass turns the log-probabilities into the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        logs = torch.log_softmax(logits, -1, dtype=torch.float32)
        known = logs.gather(-1, ids)
        ctx.save_for_backward(logs, ids, weights, uniform)
        ctx.dtype = logits.dtype
        negative = -known[:, 0]
        ctx.mark_non_differentiable(negative)
        return -(weights * known).sum(-1) - uniform * logs.sum(-1), negative

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        logs, ids, weights, uniform = ctx.saved_tensors
        gradient = gradients[0].unsqueeze(-1)
        total = (weights.sum(-1) + uniform * logs.size(-1)).unsqueeze(-1)
        result = logs.exp_().mul_(gradient * total).sub_(gradient * uniform.unsqueeze(-1))
        result.scatter_add_(-1, ids, -(gradient * weights))
        return result.to(ctx.dtype), None, None, None


def sparse_cross_entropy(logits: Tensor, ids: Tensor, weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the cross-entropy against targets that are a few weights plus a constant over the whole vocabulary.

    Label smoothing is such a target, and so are the stored token distributions of teachers, and any mixture of both.
    The backward pass can run once: it overwrites what it needs.

    Args:
        logits: Logits of the student, [positions, vocabulary].
        ids: Tokens with weights of their own, [positions, tokens]; a token may occur twice.
        weights: Their weights beyond the constant, [positions, tokens], fp32.
        uniform: The constant, [positions], fp32.

    Returns:
        The cross-entropies, [positions], and the negative log-likelihoods of the first of the `ids`, without gradient.
    """
    return _SparseCrossEntropy.apply(logits, ids, weights, uniform)


def smoothed_labels(target: Tensor, vocabulary: int, epsilon: float, padding: int) -> tuple[Tensor, Tensor]:
    """Return fairseq's label smoothing as `weights` [positions, 1] and `uniform` [positions]; 0 for padding."""
    rest = epsilon / (vocabulary - 1)
    counted = target.ne(padding).float()
    return counted.unsqueeze(-1) * (1 - epsilon - rest), counted * rest


def install() -> None:
    """Replace fairseq's loss, Adam step and cross-attention of a training, once per process."""
    from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion as Criterion
    from fairseq.modules import MultiheadAttention
    from fairseq.optim.adam import Adam

    stock_loss, stock_step, stock_attention = Criterion.compute_loss, Adam.step, MultiheadAttention.forward

    def compute_loss(self: Any, model: Any, net_output: Any, sample: Any, reduce: bool = True) -> tuple[Tensor, Tensor]:
        if not (model.training and reduce) or self.ignore_prefix_size:
            return stock_loss(self, model, net_output, sample, reduce)
        logits, target = flat(model, net_output, sample)
        weights, uniform = smoothed_labels(target, logits.size(-1), self.eps, self.padding_idx)
        losses, negative = sparse_cross_entropy(logits, target.unsqueeze(-1), weights, uniform)
        return losses.sum(), negative.masked_fill(target.eq(self.padding_idx), 0.0).sum()

    def step(self: Any, closure: Any = None) -> Any:
        if closure is not None or not _fits(self):
            return stock_step(self, closure)
        for group in self.param_groups:
            _adam(self.state, group)
        return None

    def attention(self: Any, query: Tensor, key: Any, value: Any, *rest: Any, **options: Any) -> Any:
        # `static_kv` matters for a cache, and a training has none; decoders ask for weights to return, not to learn.
        if self.training and options.get("static_kv") and options.get("incremental_state") is None:
            options |= {"static_kv": False, "need_weights": False, "need_head_weights": False}
        return stock_attention(self, query, key, value, *rest, **options)

    Criterion.compute_loss = compute_loss
    Adam.step = step
    MultiheadAttention.forward = attention


def flat(model: Any, net_output: Any, sample: Any) -> tuple[Tensor, Tensor]:
    """Return the logits [positions, vocabulary] and the target tokens [positions] of a batch."""
    logits = net_output[0]
    return logits.reshape(-1, logits.size(-1)), model.get_targets(sample, net_output).reshape(-1)


def _fits(adam: Any) -> bool:
    """Return whether torch's fused kernel can be used: AMSGrad is off, and all gradients are dense and in fp32."""
    return all(
        not group.get("amsgrad")
        and all(
            each.dtype == torch.float32 and not each.grad.is_sparse and each.grad.dtype == torch.float32
            for each in group["params"]
            if each.grad is not None
        )
        for group in adam.param_groups
    )


@torch.no_grad()
def _adam(states: Any, group: dict[str, Any]) -> None:
    """Update the weights of a group with torch's fused kernel; the state keeps fairseq's form.

    fairseq adds epsilon before it corrects the bias of the second moment, torch after it: dividing epsilon by the root
    of the correction makes both the same formula.
    """
    beta1, beta2 = group["betas"]
    by_step: dict[tuple[int, torch.device], list[Tensor]] = defaultdict(list)
    for weight in group["params"]:
        if weight.grad is None:
            continue
        state = states[weight]
        if not state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
        state["step"] += 1
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = state[name].to(weight)  # a checkpoint may have another type
        by_step[state["step"], weight.device].append(weight)
    for (step, device), weights in by_step.items():
        torch._fused_adamw_(
            weights,
            [weight.grad for weight in weights if weight.grad is not None],
            [states[weight]["exp_avg"] for weight in weights],
            [states[weight]["exp_avg_sq"] for weight in weights],
            [],
            [torch.tensor(float(step), device=device)] * len(weights),
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"] / math.sqrt(1 - beta2**step),
            amsgrad=False,
            maximize=False,
        )
