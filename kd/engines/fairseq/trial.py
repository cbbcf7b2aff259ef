"""The process of a trial: queries a device's capabilities, and runs training steps on synthetic batches.

`python -m kd.engines.fairseq trial` reads a request as JSON from standard input and prints the answer as JSON on its
last line. `automatic.py` starts it, so that the task itself neither imports torch nor occupies a GPU.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kd.engines.fairseq.precision import has_tf32, use_tf32
from kd.recipe.schema import ModelConfig, Precision

_SECONDS = 1.5  # of timed steps for each size of a micro-batch
_PASSES = 8  # at most


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.read())
    answers: dict[str, Callable[..., dict[str, Any]]] = {"ask": ask, "fit": fit, "time": measure}
    print(json.dumps(answers[request.pop("what")](**request)), flush=True)


def ask() -> dict[str, Any]:
    """Describe the first GPU: its number formats and its memory in bytes."""
    import torch

    if not torch.cuda.is_available():
        return {"gpu": None}
    properties = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    return {
        "gpu": properties.name,
        "count": torch.cuda.device_count(),
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
        "fp16": torch.version.hip is not None or properties.major >= 7,  # tensor cores, from Volta on; AMD's as well
        "tf32": has_tf32(torch),
        "free": free,
        "total": total,
    }


def fit(size: int, smallest: int, length: int, spare: int, **training: Any) -> dict[str, Any]:
    """Find a micro-batch size with which a training step fits into the GPU's memory.

    Args:
        size: Tokens of the first attempt; halved while memory is too small.
        smallest: Tokens of the smallest micro-batch that is allowed.
        length: Tokens of each sentence: the longest of the corpus.
        spare: Bytes needed in addition to the step, such as for the exchange of gradients.
        training: The arguments of `Step`.
    """
    import torch

    tried = []
    while True:
        tried.append(size)
        try:
            held = torch.empty(spare, dtype=torch.uint8, device=training["device"])
            Step(**training)(size, length)
            del held
            return {"max_tokens": size, "tried": tried, "fits": True}
        except torch.OutOfMemoryError:
            if size <= smallest:
                return {"max_tokens": size, "tried": tried, "fits": False}
        size = max(smallest, size // 2)  # outside the handler, whose traceback keeps the tensors alive
        torch.cuda.empty_cache()


def measure(sizes: list[int], length: int, **training: Any) -> dict[str, Any]:
    """Measure the target tokens per second of training steps, for each size of the micro-batch.

    Args:
        sizes: Tokens of a micro-batch, ascending.
        length: Tokens of each sentence: the mean of the corpus.
        training: The arguments of `Step`.
    """
    step = Step(**training)
    step(sizes[0], length)  # the first step allocates
    return {"rates": {str(size): _rate(partial(step, size, length)) for size in sizes}}


def _rate(step: Callable[[], int]) -> float:
    """Return the tokens per second of the fastest step; other work on the machine slows some steps."""
    rates: list[float] = []
    began = time.perf_counter()
    while len(rates) < _PASSES and time.perf_counter() - began < _SECONDS:
        start = time.perf_counter()
        tokens = step()
        rates.append(tokens / (time.perf_counter() - start))
    return max(rates)


class Step:
    """Training steps of a model with random weights: forward, backward and Adam, with fairseq's memory."""

    def __init__(self, model: dict[str, Any], dictionary: str, precision: str, device: str) -> None:
        import torch

        from kd.engines.fairseq.model import build

        self._device = device
        if device != "cpu":
            use_tf32(precision, torch)
        kind = {Precision.fp16.value: torch.float16, Precision.bf16.value: torch.bfloat16}.get(precision)
        self._model = build(ModelConfig(**model), Path(dictionary)).to(device=device, dtype=kind).train()
        self._parameters = [each for each in self._model.parameters() if each.requires_grad]
        # In lower precision fairseq's optimiser has copies of weights and gradients in fp32.
        self._weights = [each.detach().float() for each in self._parameters] if kind else self._parameters
        self._optimizer = torch.optim.Adam(self._weights, lr=1e-8)
        self._symbols = len(self._model.encoder.dictionary)

    def __call__(self, size: int, length: int) -> int:
        """Run one step on `size` tokens of each side in sentences of `length`; return the target tokens."""
        import torch

        from kd.engines.fairseq.fused import smoothed_labels, sparse_cross_entropy

        sentences = max(1, size // length)
        text = torch.randint(4, self._symbols, (sentences, length), device=self._device)
        lengths = torch.full((sentences,), length, device=self._device)
        logits = self._model(src_tokens=text, src_lengths=lengths, prev_output_tokens=text)[0]
        labels = text.reshape(-1)
        weights, uniform = smoothed_labels(labels, self._symbols, 0.1, padding=1)
        losses, _ = sparse_cross_entropy(logits.reshape(-1, self._symbols), labels.unsqueeze(-1), weights, uniform)
        losses.sum().backward()
        for weight, parameter in zip(self._weights, self._parameters, strict=True):
            if weight is not parameter:
                weight.grad = parameter.grad.float()
        self._optimizer.step()
        for each in (*self._weights, *self._parameters):
            each.grad = None
        if self._device != "cpu":
            torch.cuda.synchronize()
        return sentences * length
