"""Make fairseq 0.12.2 work with Python 3.11+, torch 2.6+ and hydra 1.3, and fix some of its faults.

Call `install()` before the first `import fairseq`; further calls do nothing. Each change is one function, whose
docstring states what fails without it.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import IO, Any, cast

PIECES_TOKENIZER = "kd_pieces"  # fairseq's name for kd's detokeniser: --eval-bleu-detok kd_pieces

_installed = False


def install() -> None:
    """Import fairseq and make all changes, once per process."""
    global _installed  # noqa: PLW0603 - whether this process has been patched is a fact about the process
    if _installed:
        return
    _allow_namespaces_in_checkpoints()
    _silence_warnings()
    with _hashable_dataclasses():
        import fairseq  # noqa: F401
    _compose_as_hydra_1_1_did()
    _drop_duplicate_encoder_weights()
    _initialise_position_buffers()
    _let_ddp_run_on_cpu()
    _save_atomically()
    _keep_the_share_of_an_epoch()
    _say_bleu_of_nothing()
    _average_each_weight_once()
    _register_pieces_tokenizer()
    _installed = True
    import_module("kd.engines.fairseq.criterion")


def _allow_namespaces_in_checkpoints() -> None:
    """Allow `argparse.Namespace` in checkpoints of fairseq, which torch's safe loading (2.6+) would refuse.

    A Namespace holds values and runs no code. Anything else that is neither a tensor nor a plain value is still
    refused.
    """
    import torch

    torch.serialization.add_safe_globals([argparse.Namespace])


def _silence_warnings() -> None:
    """Suppress warnings that fairseq itself causes and that a user of kd cannot act on."""
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)  # "Please install tensorboardX"
    for start in (
        r"\s*'config' is validated against ConfigStore schema",
        r"\s*The strict flag in the compose API is deprecated",
        r"hydra\.experimental\.",
        r"\s*The version_base parameter is not specified",
        r"In '\S*': Usage of deprecated keyword in package header",
        r"'pin_memory' argument is set as true but no accelerator",
        r"`torch\.cuda\.amp\.",
        r"Support for mismatched key_padding_mask and attn_mask",
        r"`broadcast_buffers` is deprecated",
    ):
        warnings.filterwarnings("ignore", message=start)


@contextmanager
def _hashable_dataclasses() -> Iterator[None]:
    """Make fairseq's dataclasses, and no others, hashable while it is imported.

    Python 3.11 refuses unhashable dataclass instances as defaults of fields, which fairseq's configs use.
    """
    original: Callable[..., Any] = dataclasses.dataclass

    def dataclass(cls: type | None = None, /, **options: Any) -> Any:
        def wrap(decorated: type) -> Any:
            if decorated.__module__.split(".")[0] == "fairseq":
                return original(decorated, **{"unsafe_hash": True, **options})
            return original(decorated, **options)

        return wrap if cls is None else wrap(cls)

    dataclasses.dataclass = dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = original


def _compose_as_hydra_1_1_did() -> None:
    """Let fairseq compose its settings after kd has composed a recipe in the same process.

    fairseq uses `hydra.experimental`, which fails after Hydra has been initialised with a newer version's behaviour.
    """
    from fairseq.dataclass import utils
    from hydra import initialize

    utils.initialize = partial(initialize, version_base="1.1")


_DUPLICATES = tuple(f"{part}_{kind}" for part in ("in_proj", "out_proj", "fc1", "fc2") for kind in ("weight", "bias"))


def _drop_duplicate_encoder_weights() -> None:
    """Remove the second, untrained copy of its weights that each encoder layer of 0.12.2 holds for fast inference.

    With the copy, parameter counts are wrong, checkpoints are too large, and DDP fails with "Expected to have finished
    reduction". It is removed when a layer is built, and from checkpoints that contain it; losses stay the same.
    """
    import torch
    from fairseq.modules.transformer_layer import TransformerEncoderLayerBase as Layer

    build = Layer.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        for name in _DUPLICATES:
            delattr(self, name)
        self.can_use_fastpath = False

    def _load_from_state_dict(self: Any, state: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in _DUPLICATES:
            state.pop(prefix + name, None)
        torch.nn.Module._load_from_state_dict(self, state, prefix, *args)

    Layer.__init__ = __init__
    Layer._load_from_state_dict = _load_from_state_dict


def _initialise_position_buffers() -> None:
    """Set the buffer `_float_tensor` of sinusoidal positions to zero.

    fairseq leaves the buffer uninitialised when it builds a model or loads a state, so equal trainings would have
    unequal hashes. Only the type and the device of the buffer are used.
    """
    import torch
    from fairseq.modules import SinusoidalPositionalEmbedding as Positions

    build = Positions.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self._float_tensor.zero_()

    def _load_from_state_dict(self: Any, state: dict[str, Any], prefix: str, *args: Any) -> None:
        torch.nn.Module._load_from_state_dict(self, state, prefix, *args)
        self._float_tensor.zero_()

    Positions.__init__ = __init__
    Positions._load_from_state_dict = _load_from_state_dict


def _let_ddp_run_on_cpu() -> None:
    """Omit device ids for modules on CPU; fairseq passes them, and torch's DistributedDataParallel refuses them."""
    from fairseq.models import distributed_fairseq_model as models

    original = models.DistributedDataParallel

    def parallel(module: Any, device_ids: Any = None, output_device: Any = None, **options: Any) -> Any:
        if all(parameter.device.type == "cpu" for parameter in module.parameters()):
            device_ids = output_device = None
        return original(module, device_ids=device_ids, output_device=output_device, **options)

    models.DistributedDataParallel = parallel


class _KeepsError:
    """A binary file that keeps the error of a failed write, since torch.save hides `No space left on device`."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def save_atomically(value: Any, path: str) -> None:
    """Save with `torch.save` to `path`, completely or not at all.

    Raises:
        OSError: The disk is full or not writable.
    """
    import torch

    aside = f"{path}.tmp"
    try:
        with open(aside, "wb") as file:  # noqa: PTH123 - fairseq passes strings
            keeper = _KeepsError(file)
            try:
                torch.save(value, cast(IO[bytes], keeper))
            except Exception:
                if keeper.error is not None:
                    raise keeper.error from None
                raise
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)  # noqa: PTH105
    except BaseException:
        if os.path.exists(aside):  # noqa: PTH110
            os.remove(aside)  # noqa: PTH107
        raise


def _save_atomically() -> None:
    """Flush a checkpoint to disk before it is renamed, and fail at once on a full disk: fairseq does neither."""
    from fairseq import checkpoint_utils

    def torch_persistent_save(obj: Any, filename: str, async_write: bool = False) -> None:
        save_atomically(obj, filename)

    checkpoint_utils.torch_persistent_save = torch_persistent_save


def _keep_the_share_of_an_epoch() -> None:
    """Resume at the same fraction of an epoch if its number of micro-batches has changed.

    fairseq saves its position in an epoch as a number of micro-batches. On more GPUs, or with another `max_tokens`,
    that position would skip data or lie beyond the end. The epoch's number of micro-batches is saved with it.
    """
    from fairseq.data.iterators import EpochBatchIterator

    logger = logging.getLogger("kd.train")
    state_dict, load_state_dict = EpochBatchIterator.state_dict, EpochBatchIterator.load_state_dict

    def state_with_length(self: Any) -> dict[str, Any]:
        return {**state_dict(self), "passes": len(self)}

    def load_scaled_state(self: Any, state: dict[str, Any]) -> None:
        place, before, now = state["iterations_in_epoch"], state.get("passes"), len(self)
        if place and before and before != now:
            # At most the last pass, since fairseq fails at the position where an epoch is over.
            scaled = min(round(place * now / before), now - 1)
            logger.info(
                "micro-batches per epoch: %d before, %d now; resuming at %d, not %d", before, now, scaled, place
            )
            state = {**state, "iterations_in_epoch": scaled}
        load_state_dict(self, state)

    EpochBatchIterator.state_dict = state_with_length
    EpochBatchIterator.load_state_dict = load_scaled_state


def _say_bleu_of_nothing() -> None:
    """Log a BLEU of 0 for empty translations: fairseq logs no BLEU, and then fails because it is missing."""
    import numpy as np
    from fairseq.logging import metrics
    from fairseq.tasks.translation import EVAL_BLEU_ORDER, TranslationTask

    reduce_metrics = TranslationTask.reduce_metrics

    def with_bleu(self: Any, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        reduce_metrics(self, logging_outputs, criterion)
        measured = [log for log in logging_outputs if "_bleu_sys_len" in log]
        # The number of unigrams in the output. If other batches have some, fairseq adds up its own numbers.
        if measured and not any(log["_bleu_totals_0"] for log in measured):
            for name in ("_bleu_counts", "_bleu_totals"):
                metrics.log_scalar(name, np.zeros(EVAL_BLEU_ORDER))
            metrics.log_scalar("_bleu_sys_len", 0)
            metrics.log_scalar("_bleu_ref_len", sum(log["_bleu_ref_len"] for log in measured))
            metrics.log_derived("bleu", _bleu)

    TranslationTask.reduce_metrics = with_bleu


def _bleu(meters: Any) -> float:
    """Return BLEU from the counts, as fairseq computes it."""
    from sacrebleu.metrics.bleu import BLEU

    score = BLEU.compute_bleu(
        correct=meters["_bleu_counts"].sum,
        total=meters["_bleu_totals"].sum,
        sys_len=int(meters["_bleu_sys_len"].sum),
        ref_len=int(meters["_bleu_ref_len"].sum),
        smooth_method="exp",
    )
    return round(float(score.score), 2)


def _average_each_weight_once() -> None:
    """Correct moving averages of the weights (`--store-ema`) of models with tied embeddings or pre-norm layers.

    fairseq multiplies in place by name, so that a matrix with three names decays three times per update. It also loads
    the average without the buffers `version`: the model is then taken for one of an earlier fairseq, and loses its
    final layer normalisation.
    """
    from fairseq.models.ema.ema import EMA

    def step(self: Any, new_model: Any, updates: int | None = None) -> None:
        before = self.fp32_params if self.config.ema_fp32 else self.model.state_dict()
        averaged = {}
        for name, weight in new_model.state_dict().items():
            if weight.is_floating_point() and not name.endswith("version"):
                old = before[name]
                averaged[name] = old * self.decay + weight.to(old.dtype) * (1 - self.decay)
            else:
                averaged[name] = weight
        if self.config.ema_fp32:
            self.fp32_params.update(averaged)
        self.model.load_state_dict(averaged)

    EMA._step_internal = step


def _register_pieces_tokenizer() -> None:
    """Register a detokeniser for dev BLEU on plain text: fairseq has none for byte pieces and dummy prefixes."""
    from fairseq.data.encoders import register_tokenizer

    @register_tokenizer(PIECES_TOKENIZER)
    class KdPieces:
        """Join pieces by the sentencepiece model at `vocabulary`: --eval-bleu-detok-args '{"vocabulary": "PATH"}'."""

        def __init__(self, cfg: Namespace) -> None:
            from sentencepiece import SentencePieceProcessor

            self._processor = SentencePieceProcessor(model_file=str(cfg.vocabulary))

        def encode(self, text: str) -> str:
            return " ".join(self._processor.encode(text, out_type=str))

        def decode(self, pieces: str) -> str:
            return self._processor.decode([piece for piece in pieces.split(" ") if piece])
