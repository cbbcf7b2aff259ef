"""The fused loss, the fused Adam and the fused cross-attention equal fairseq's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kd.engines.fairseq import compat

PAD = 1


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused versions in place of fairseq's, for one test."""
    compat.install()
    from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion as Criterion
    from fairseq.modules import MultiheadAttention
    from fairseq.optim.adam import Adam

    from kd.engines.fairseq import fused

    monkeypatch.setattr(MultiheadAttention, "forward", MultiheadAttention.forward)
    monkeypatch.setattr(Criterion, "compute_loss", Criterion.compute_loss)
    monkeypatch.setattr(Adam, "step", Adam.step)
    fused.install()


def test_loss_and_gradient_equal_those_of_fairseqs_formula() -> None:
    from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion as Criterion
    from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 6, 50, generator=generator)
    target = torch.randint(2, 50, (4, 6), generator=generator)
    target[1, 4:] = target[3, 2:] = PAD
    task = SimpleNamespace(target_dictionary=SimpleNamespace(pad=lambda: PAD))
    criterion = Criterion(task, sentence_avg=False, label_smoothing=0.1)
    model = SimpleNamespace(training=True, get_targets=lambda sample, _: sample["target"])

    ours = logits.clone().requires_grad_()
    loss, negative = criterion.compute_loss(model, (ours, {}), {"target": target})
    loss.backward()
    stock = logits.clone().requires_grad_()
    expected, expected_negative = label_smoothed_nll_loss(
        stock.log_softmax(-1).view(-1, 50), target.view(-1), 0.1, ignore_index=PAD
    )
    expected.backward()

    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert float(negative) == pytest.approx(float(expected_negative), rel=1e-6)
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, stock.grad, rtol=1e-5, atol=1e-7)
    assert not ours.grad[1, 4:].any()


def test_a_sparse_target_with_a_token_twice_adds_its_weights() -> None:
    from kd.engines.fairseq.fused import sparse_cross_entropy

    logits = torch.randn(3, 20, generator=torch.Generator().manual_seed(5))
    ids = torch.tensor([[4, 4, 7], [0, 19, 3], [2, 5, 2]])
    weights = torch.tensor([[0.5, 0.2, 0.1], [0.3, 0.3, 0.2], [0.0, 0.0, 0.0]])
    uniform = torch.tensor([0.01, 0.01, 0.0])
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    losses, negative = sparse_cross_entropy(ours, ids, weights, uniform)
    losses.sum().backward()
    dense = uniform.unsqueeze(-1).expand(3, 20).clone()
    for row, column in ((row, column) for row in range(3) for column in range(3)):
        dense[row, ids[row, column]] += weights[row, column]
    expected = -(dense * plain.log_softmax(-1)).sum(-1)
    expected.sum().backward()
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(ours.grad, plain.grad)
    torch.testing.assert_close(negative, -logits.log_softmax(-1)[torch.arange(3), ids[:, 0]])


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_adam_takes_fairseqs_steps_and_keeps_its_state(monkeypatch: pytest.MonkeyPatch, decay: float) -> None:
    from fairseq.optim.adam import Adam

    from kd.engines.fairseq import fused

    def run() -> tuple[list[torch.Tensor], dict[str, Any]]:
        generator = torch.Generator().manual_seed(11)
        weights = [torch.nn.Parameter(torch.randn(size, generator=generator)) for size in (7, 3, 40)]
        unused = torch.nn.Parameter(torch.ones(2))
        adam = Adam([*weights, unused], lr=0.01, betas=(0.9, 0.98), eps=1e-8, weight_decay=decay)
        for _ in range(20):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=generator)
            adam.step()
        assert bool((unused == 1).all())
        return [weight.detach() for weight in weights], adam.state_dict()

    ours, state = run()
    monkeypatch.setattr(fused, "_fits", lambda _: False)
    stock, stock_state = run()
    for mine, theirs in zip(ours, stock, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)
    assert state["state"].keys() == stock_state["state"].keys()
    for mine, theirs in zip(state["state"].values(), stock_state["state"].values(), strict=True):
        assert mine["step"] == theirs["step"] == 20
        assert isinstance(mine["step"], int)
        for name in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-5, atol=1e-8)


def test_cross_attention_of_a_training_equals_fairseqs_and_returns_no_weights() -> None:
    from fairseq.modules import MultiheadAttention

    torch.manual_seed(4)
    attention = MultiheadAttention(16, 2, encoder_decoder_attention=True)
    query, source = torch.randn(5, 3, 16), torch.randn(7, 3, 16)  # [length, sentences, width]
    padded = torch.zeros(3, 7, dtype=torch.bool)
    padded[1, 4:] = padded[2, 6:] = True

    def run(*, training: bool) -> tuple[torch.Tensor, Any, list[torch.Tensor]]:
        attention.train(training)
        attention.zero_grad()
        found, weights = attention(
            query=query, key=source, value=source, key_padding_mask=padded, static_kv=True, need_weights=True
        )
        found.square().sum().backward()
        return found, weights, [parameter.grad.clone() for parameter in attention.parameters()]

    ours, no_weights, gradients = run(training=True)
    stock, weights, stock_gradients = run(training=False)  # without dropout, fairseq computes the same in a training
    assert no_weights is None
    assert weights.shape == (3, 5, 7)
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(gradients, stock_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
