"""Detect NaN in training, and decide on early stopping.

The history is saved in each checkpoint, so that an interrupted training ends where an uninterrupted one would.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kd.base.errors import UserError
from kd.engines.fairseq import checkpoints

ENDED = "training ends early: "  # in the log, followed by the reason
STATE = "kd"  # key of a checkpoint's `extra_state`
_IDS_SHOWN = 20

logger = logging.getLogger("kd.train")


@dataclass
class Watch:
    """The history of a training, over all interruptions, and its criteria for early stopping.

    Attributes:
        every: Updates between regular validations. Other validations do not count, such as the one at the end of a
            shorter training that is continued.
        patience: Number of validations in a row without a better value that ends the training; 0: no limit.
        higher_is_better: Whether a higher validation value is better.
        most_tokens: Number of target tokens that ends the training; 0: no limit.
        tokens: Target tokens seen. A tensor on a GPU, so that no update has to wait for the value.
        validations: The update and the value of each validation.
        passes: The sentences and the loss of each pass of the current update.
        beat: Called at each pass, as a heartbeat.
        undone: For a validation that a signal postponed: the epoch, and whether the epoch had ended.
        peak: Bytes of GPU memory.
        saving: Seconds spent on saving checkpoints, over all interruptions, without work that was lost.
        validating: Seconds spent on finished validations, in the same way.
    """

    every: int = 1
    patience: int = 0
    higher_is_better: bool = False
    most_tokens: int = 0
    tokens: Any = 0
    validations: list[tuple[int, float]] = field(default_factory=list)
    passes: list[tuple[Any, Any]] = field(default_factory=list)
    beat: Callable[[], None] = lambda: None
    undone: dict[str, Any] = field(default_factory=dict)
    peak: int = 0
    saving: float = 0.0
    validating: float = 0.0
    _validation_began: float | None = None

    @contextmanager
    def validation(self) -> Iterator[None]:
        """Measure the time of a validation."""
        self._validation_began = time.monotonic()
        try:
            yield
        finally:
            self.validating, self._validation_began = self.validating_seconds(), None

    def validating_seconds(self) -> float:
        """Return the seconds spent on validation, the current one included."""
        return self.validating + (0.0 if self._validation_began is None else time.monotonic() - self._validation_began)

    def restore(self, extra_state: dict[str, Any] | None) -> None:
        """Restore the history from a checkpoint."""
        known = (extra_state or {}).get(STATE, {})
        self.tokens = known.get("tokens", 0)
        self.validations = [(int(update), float(value)) for update, value in known.get("validations", [])]
        self.undone = known.get("undone", {})
        self.saving, self.validating = (float(known.get(name, 0.0)) for name in ("saving", "validating"))

    def state(self) -> dict[str, Any]:
        """Return the history for a checkpoint, as plain values, since torch's safe loading refuses others."""
        history = {
            "tokens": int(self.tokens),
            "validations": [list(entry) for entry in self.validations],
            "saving": self.saving,
            "validating": self.validating,
        }
        return {**history, **({"undone": dict(self.undone)} if self.undone else {})}

    def gpu_memory(self) -> int | None:
        """Return the peak of this process's GPU memory in tensors, in bytes; None without a GPU."""
        import torch

        if not torch.cuda.is_available() or not torch.cuda.is_initialized():
            return None
        self.peak = max(self.peak, int(torch.cuda.max_memory_allocated()))
        return self.peak

    def validated(self, update: int, value: float | None) -> None:
        """Record the value of a validation."""
        if (
            value is not None
            and update % self.every == 0
            and not (self.validations and self.validations[-1][0] == update)
        ):
            self.validations.append((update, float(value)))

    def reason_to_end(self) -> str | None:
        """Return the reason to stop early; None to continue."""
        if self.most_tokens and int(self.tokens) >= self.most_tokens:
            return f"{int(self.tokens):,} target tokens seen (limit: {self.most_tokens:,})"
        if self.patience and len(self.validations) > self.patience:
            best = checkpoints.best(self.validations, self.higher_is_better)[0]
            worse = [update for update, _ in self.validations if update > best]
            if len(worse) >= self.patience:
                return f"{len(worse)} validations in a row were no better than that of update {best}"
        return None


def install(trainer: Any, watch: Watch) -> None:
    """Make fairseq's trainer class count tokens, and raise an error on NaN or if memory runs out.

    fairseq itself skips a batch that does not fit into the GPU's memory. After NaN it writes a checkpoint of the broken
    state and runs the batch again under a detector.
    """
    train_step, clip_grad_norm, load_checkpoint = trainer.train_step, trainer.clip_grad_norm, trainer.load_checkpoint
    _note_passes(watch)

    def counted_train_step(self: Any, samples: Any, raise_oom: bool = True) -> Any:
        watch.passes.clear()
        logged = train_step(self, samples, raise_oom=True)
        if logged:
            watch.tokens = watch.tokens + logged["sample_size"]
        return logged

    def checked_clip_grad_norm(self: Any, clip_norm: float) -> Any:
        try:
            norm = clip_grad_norm(self, clip_norm)
        except FloatingPointError as error:  # the loss scale of fp16 is at its minimum
            raise _broken(self, watch, " ".join(str(error).split("\n")[0].split())) from None
        if not math.isfinite(float(norm)) and not self.cfg.common.amp:
            raise _broken(self, watch, f"The gradient's norm is {float(norm)}")
        return norm

    def watched_load_checkpoint(
        self: Any,
        filename: str,
        reset_optimizer: bool = False,
        reset_lr_scheduler: bool = False,
        optimizer_overrides: Any = None,
        reset_meters: bool = False,
    ) -> Any:
        extra_state = load_checkpoint(
            self, filename, reset_optimizer, reset_lr_scheduler, optimizer_overrides, reset_meters
        )
        if not reset_meters:  # they are reset when a training starts from the weights of another
            watch.restore(extra_state)
        return extra_state

    trainer.train_step = counted_train_step
    trainer.clip_grad_norm = checked_clip_grad_norm
    trainer.load_checkpoint = watched_load_checkpoint


def _note_passes(watch: Watch) -> None:
    """Record the sentences and the loss of each forward and backward pass, and the peak of GPU memory."""
    import torch
    from fairseq.tasks import FairseqTask

    train_step, reset_peak = FairseqTask.train_step, torch.cuda.reset_peak_memory_stats

    def noted_train_step(self: Any, sample: Any, *arguments: Any, **options: Any) -> Any:
        watch.beat()
        result = train_step(self, sample, *arguments, **options)
        watch.passes.append((sample["id"], result[0].detach()))
        return result

    def noted_reset_peak(device: Any = None) -> None:  # fairseq resets it at each update
        watch.gpu_memory()
        reset_peak(device)

    FairseqTask.train_step = noted_train_step
    torch.cuda.reset_peak_memory_stats = noted_reset_peak


def _broken(trainer: Any, watch: Watch, what: str) -> UserError:
    """Build the error for NaN in an update: it names the update and its sentences.

    If the loss of some passes is NaN or infinite, it names the sentences of those only.
    """
    bad, seen = _sentences(trainer, watch)
    ids = bad or seen
    shown = ", ".join(map(str, ids[:_IDS_SHOWN])) + (f" … ({len(ids):,} in all)" if len(ids) > _IDS_SHOWN else "")
    whose = "Its passes with a NaN loss contained" if bad else "It had"
    update = trainer.get_num_updates() + 1
    return UserError(
        f"Training broke down at update {update}: {what}. {whose} the sentences {shown} of the data folder "
        f"(counted from 0); nothing was saved after the last good checkpoint.",
        "Lower optimizer.learning_rate, set optimizer.clip_norm, use another precision, or inspect these sentences.",
    )


def _sentences(trainer: Any, watch: Watch) -> tuple[list[int], list[int]]:
    """Return the sentences of the current update over all processes: of passes with a NaN loss, and of all passes."""
    own = [(not math.isfinite(float(loss)), [int(number) for number in ids.tolist()]) for ids, loss in watch.passes]
    every: list[Any] = [own]
    if trainer.data_parallel_world_size > 1:  # the gradient is a sum, so it does not show which process gave NaN
        import torch

        every = [None] * trainer.data_parallel_world_size
        torch.distributed.all_gather_object(every, own)
    passes = [entry for process in every for entry in process]
    return (
        sorted({number for bad, ids in passes if bad for number in ids}),
        sorted({number for _, ids in passes for number in ids}),
    )
