"""Training in lower precision: where it can be had, and the weights in fp32 that fairseq forgets to save.

fp16 needs a GPU and a loss scale; bf16 has fp32's range and is asked for in fairseq's parsed configuration, since its
flag `--bf16` means TPUs.
"""

from __future__ import annotations

from typing import Any

from kd.config import Precision
from kd.errors import UserError

FP32 = "fp32"  # key of the weights, in what a checkpoint holds of ours


def check_precision(precision: Precision, device: str) -> None:
    """Raises UserError for a precision that a kind of device (cpu, cuda, rocm) cannot train in."""
    if precision is Precision.fp16 and device == "cpu":
        raise UserError(
            "precision is fp16, which fairseq trains in on GPUs alone, and machine.device is cpu.",
            "Set precision to fp32 or bf16.",
        )


def check_gpu(precision: str, torch: Any) -> None:
    """Raises UserError where there is no GPU to be used, or this one cannot train so."""
    if not torch.cuda.is_available():
        raise UserError(
            "No CUDA device can be used on this machine.", "Set machine.device to cpu, or look at `nvidia-smi`."
        )
    if precision == Precision.bf16.value and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError("This GPU has no bf16.", "Set precision to fp16 or fp32.")


def fp32_weights(trainer: Any) -> dict[str, Any]:
    """What the optimiser really moves: in lower precision the model has but a rounded copy of it. Empty in fp32."""
    return {FP32: [tensor.detach().cpu() for tensor in _tensors(trainer)]} if _tensors(trainer) else {}


def restore_fp32_weights(trainer: Any, saved: dict[str, Any]) -> None:
    """Gives the optimiser what `fp32_weights` put into a checkpoint; without it each resuming would round."""
    if FP32 in saved:
        for tensor, value in zip(_tensors(trainer), saved[FP32], strict=True):
            tensor.data.copy_(value)


def _tensors(trainer: Any) -> list[Any]:
    weights = getattr(trainer.optimizer, "fp32_params", None)
    return list(weights.values()) if isinstance(weights, dict) else list(weights or [])
