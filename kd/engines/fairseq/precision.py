"""Training in lower precision: check device support, and save the fp32 weights, which fairseq fails to save.

fp16 needs a GPU and a loss scale; bf16 has fp32's range and is set in fairseq's parsed configuration, since its flag
`--bf16` implies TPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kd.base.errors import UserError
from kd.recipe.schema import Precision


def check_precision(precision: Precision, device: str) -> None:
    """Raise UserError for a precision that a kind of device (cpu, cuda, rocm) cannot train in."""
    if precision is Precision.tf32 and device == "cpu":
        raise UserError(
            "precision is tf32, which needs a GPU, but machine.device is cpu.", "Set precision to auto or fp32."
        )
    if precision is Precision.fp16 and device == "cpu":
        raise UserError(
            "precision is fp16, for which fairseq needs a GPU, but machine.device is cpu.",
            "Set precision to fp32 or bf16.",
        )


def check_gpu(precision: str, torch: Any) -> None:
    """Raise UserError if no GPU can be used, or if the GPU cannot train in the precision."""
    if not torch.cuda.is_available():
        raise UserError(
            "No CUDA device can be used on this machine.", "Set machine.device=cpu, or check the GPU with `nvidia-smi`."
        )
    if precision == Precision.tf32.value and not has_tf32(torch):
        raise UserError("This GPU has no TF32.", "Set precision to auto, bf16, fp16 or fp32.")
    if precision == Precision.bf16.value and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError("This GPU has no bf16.", "Set precision to fp16 or fp32.")


def has_tf32(torch: Any) -> bool:
    """Return whether the first GPU multiplies matrices in TF32: NVIDIA's from Ampere on."""
    return torch.version.hip is None and torch.cuda.get_device_properties(0).major >= 8


def use_tf32(precision: str, torch: Any) -> str | None:
    """Switch TF32 on or off to match the precision; return a warning if fp32 leaves available TF32 unused."""
    wanted = precision == Precision.tf32.value
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = wanted
    if precision == Precision.fp32.value and has_tf32(torch):
        return "precision is fp32 on a GPU with TF32, which is several times as fast. Set precision=tf32 or auto."
    return None


def keep_fp32_weights(trainer: Any) -> None:
    """Make fairseq's trainer class save and restore the weights that the optimiser actually updates.

    In lower precision the model only has a rounded copy of these weights. fairseq saves that copy as fp32 numbers, so
    each interruption would round the weights, and averages would use rounded weights.
    """
    state_dict, load_checkpoint = trainer.state_dict, trainer.load_checkpoint

    def exact_state_dict(self: Any) -> dict[str, Any]:
        state: dict[str, Any] = state_dict(self)
        exact = _fp32_weights(self)
        weights = state["model"]
        state["model"] = type(weights)((name, exact.get(value.data_ptr(), value)) for name, value in weights.items())
        return state

    def exact_load_checkpoint(self: Any, *arguments: Any, **options: Any) -> Any:
        with _read_weights() as read:
            extra_state = load_checkpoint(self, *arguments, **options)
        exact = _fp32_weights(self) if read else {}
        for name, parameter in self.get_model().named_parameters():
            if parameter.data_ptr() in exact:
                exact[parameter.data_ptr()].copy_(read[name])
        return extra_state

    trainer.state_dict = exact_state_dict
    trainer.load_checkpoint = exact_load_checkpoint


@contextmanager
def _read_weights() -> Iterator[dict[str, Any]]:
    """Collect the model's weights, by name, while fairseq reads a checkpoint."""
    from fairseq import checkpoint_utils

    read: dict[str, Any] = {}
    original = checkpoint_utils.load_checkpoint_to_cpu

    def load(*arguments: Any, **options: Any) -> Any:
        state = original(*arguments, **options)
        read.update(state["model"])
        return state

    checkpoint_utils.load_checkpoint_to_cpu = load
    try:
        yield read
    finally:
        checkpoint_utils.load_checkpoint_to_cpu = original


def _fp32_weights(trainer: Any) -> dict[int, Any]:
    """Map each lower-precision parameter, by its address, to the optimised weights; empty without such parameters."""
    weights = getattr(trainer.optimizer, "fp32_params", None)
    if weights is None:
        return {}
    parameters = [each for each in trainer.get_model().parameters() if each.requires_grad]
    if isinstance(weights, dict):  # all in one row, one a device
        sizes = [each.numel() for each in parameters]
        weights = next(iter(weights.values())).data.split(sizes)
    pairs = zip(parameters, weights, strict=True)
    return {each.data_ptr(): exact.data.view_as(each) for each, exact in pairs}
