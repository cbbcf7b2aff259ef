"""What a training process watches besides fairseq: numbers that are none any more, and reasons to end early.

What has been seen so far is part of each checkpoint, so that an interrupted training ends where an uninterrupted one
would.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any

from kd.engines.fairseq import checkpoints
from kd.errors import UserError

ENDED = "training ends early: "  # what the log says, followed by the reason
STATE = "kd"  # key of a checkpoint's `extra_state`
_IDS_SHOWN = 20

logger = logging.getLogger("kd.train")


@dataclass
class Watch:
    """The history of a training, over all its interruptions, and what may end it.

    every: updates between regular validations; others, such as that at the end of a shorter training which is gone on
    with, count for nothing. patience: validations in a row without a better value; 0 for no such end. higher_is_better:
    of the value validated on. most_tokens: target tokens to be seen; 0 for no such end.
    """

    every: int = 1
    patience: int = 0
    higher_is_better: bool = False
    most_tokens: int = 0
    tokens: Any = 0  # target tokens seen; a tensor on a GPU, which is not waited for at each update
    validations: list[tuple[int, float]] = field(default_factory=list)  # update, value
    batch: Any = None  # of the update at hand

    def restore(self, extra_state: dict[str, Any] | None) -> None:
        """Takes over what a checkpoint says."""
        known = (extra_state or {}).get(STATE, {})
        self.tokens = known.get("tokens", 0)
        self.validations = [(int(update), float(value)) for update, value in known.get("validations", [])]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain values, since torch's safe loading refuses others."""
        return {"tokens": int(self.tokens), "validations": [list(entry) for entry in self.validations]}

    def validated(self, update: int, value: float | None) -> None:
        """Notes the value of a validation."""
        if (
            value is not None
            and update % self.every == 0
            and not (self.validations and self.validations[-1][0] == update)
        ):
            self.validations.append((update, float(value)))

    def reason_to_end(self) -> str | None:
        """Why the training is over, if it is."""
        if self.most_tokens and int(self.tokens) >= self.most_tokens:
            return f"{int(self.tokens):,} target tokens seen, {self.most_tokens:,} wanted"
        if self.patience and len(self.validations) > self.patience:
            best = checkpoints.best(self.validations, self.higher_is_better)[0]
            worse = [update for update, _ in self.validations if update > best]
            if len(worse) >= self.patience:
                return f"{len(worse)} validations in a row were no better than that of update {best}"
        return None


def install(trainer: Any, watch: Watch) -> None:
    """Lets fairseq's trainer class count tokens, fail on memory that is short, and stop at numbers that are none.

    fairseq itself leaves out a batch that does not fit into the GPU's memory, and meets NaN by writing a checkpoint of
    the broken state and running the batch again under a detector.
    """
    train_step, clip_grad_norm, load_checkpoint = trainer.train_step, trainer.clip_grad_norm, trainer.load_checkpoint

    def counted_train_step(self: Any, samples: Any, raise_oom: bool = True) -> Any:
        watch.batch = samples
        logged = train_step(self, samples, raise_oom=True)
        if logged:
            watch.tokens = watch.tokens + logged["sample_size"]
        return logged

    def checked_clip_grad_norm(self: Any, clip_norm: float) -> Any:
        try:
            norm = clip_grad_norm(self, clip_norm)
        except FloatingPointError as error:  # fp16's loss scale has hit its bottom
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
        if not reset_meters:  # which they are where another training's weights are only the start
            watch.restore(extra_state)
        return extra_state

    trainer.train_step = counted_train_step
    trainer.clip_grad_norm = checked_clip_grad_norm
    trainer.load_checkpoint = watched_load_checkpoint


def _broken(trainer: Any, watch: Watch, what: str) -> UserError:
    """The error for an update whose numbers are none: which update, and which sentences it saw."""
    samples = [sample for sample in watch.batch or () if sample]
    ids = sorted({int(number) for sample in samples for number in sample["id"].tolist()})
    shown = ", ".join(map(str, ids[:_IDS_SHOWN])) + (" …" if len(ids) > _IDS_SHOWN else "")
    update = trainer.get_num_updates() + 1
    return UserError(
        f"Training broke down at update {update}: {what}. The batch had the sentences {shown} of the data folder "
        f"(counted from 0); nothing was saved after the last good checkpoint.",
        "Lower optimizer.learning_rate, set optimizer.clip_norm, or use another precision; or look at these sentences.",
    )
