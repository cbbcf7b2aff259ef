"""Save a training's state: numbered checkpoints, each complete on disk before an older one is removed.

fairseq's tools can read these checkpoints. `checkpoint_last.pt` is a second name of the newest one.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kd.base.files import link_file
from kd.engines.fairseq import checkpoints
from kd.engines.fairseq.watch import STATE, Watch

TOLD = "kd-told "  # in the log, followed by measurements as JSON

logger = logging.getLogger("kd.train")


class SaveCheckpoint:
    """Replace fairseq's function `save_checkpoint`, which copies files.

    Each checkpoint has a number, even one at the end of an epoch. When it is complete on disk, it gets the second name
    `checkpoint_last.pt`; only then are older ones removed.

    Args:
        watch: The history to save.
        keep_best: Number of best checkpoints by validation to keep as well.
        keep_every: Keep checkpoints at multiples of this number of updates; 0: keep none for this reason.
    """

    best: float  # fairseq reads and sets it

    def __init__(self, watch: Watch, keep_best: int, keep_every: int) -> None:
        self._watch = watch
        self._keep_best = keep_best
        self._keep_every = keep_every
        self._instead: tuple[int, Any] | None = None
        self._began = time.monotonic()
        self._saves = 0
        self._seconds = 0.0  # spent on saving

    def epoch(self, epoch_itr: Any) -> int:
        """Return the epoch in a checkpoint's name."""
        return self._instead[0] if self._instead else int(epoch_itr.epoch)

    @contextmanager
    def as_read(self, epoch: int, iterator: Any) -> Iterator[None]:
        """During this block, save checkpoints with the epoch and data position of the checkpoint that was just read.

        Used for a checkpoint that is rewritten before training continues; its epoch may be over by then.
        """
        self._instead = epoch, iterator
        yield
        self._instead = None

    def __call__(self, cfg: Any, trainer: Any, epoch_itr: Any, val_loss: float | None) -> None:
        """Save a checkpoint; `val_loss` is the value of the validation made just before, if there was one."""
        from fairseq.logging import metrics

        began = time.monotonic()
        folder = Path(cfg.save_dir)
        # Its BLEU counts are numpy arrays, which safe loading refuses; nothing reads these sums after a validation.
        metrics.reset_meters("valid")
        better = max if cfg.maximize_best_checkpoint_metric else min
        known = [float(val) for val in (getattr(self, "best", None), val_loss) if val is not None]
        if known:
            self.best = better(known)
        trainer.consolidate_optimizer()
        updates = trainer.get_num_updates()
        self._watch.validated(updates, val_loss)
        if not trainer.should_save_checkpoint_on_current_rank:
            return
        state = {
            "train_iterator": self._instead[1] if self._instead else epoch_itr.state_dict(),
            "val_loss": None if val_loss is None else float(val_loss),
            STATE: self._watch.state(),
            **({"best": self.best} if known else {}),
        }
        path = folder / checkpoints.name(self.epoch(epoch_itr), updates)
        trainer.save_checkpoint(str(path), state)
        link_file(path, folder / checkpoints.LAST)
        best = checkpoints.best(self._watch.validations, self._watch.higher_is_better)[: self._keep_best]
        checkpoints.prune(
            folder, cfg.save_interval_updates, cfg.keep_interval_updates, best=best, always=self._keep_every
        )
        seconds = time.monotonic() - began
        self._watch.saving += seconds
        self._tell(path, seconds)
        self._watch.beat()

    def _tell(self, path: Path, seconds: float) -> None:
        self._saves += 1
        self._seconds += seconds
        logger.info("saved %s in %.1f s", path.name, seconds)
        told = {
            "saves": self._saves,
            "saving": round(self._seconds, 3),
            "seconds": round(time.monotonic() - self._began, 3),  # since this process started to train
            "gpu_memory": self._watch.gpu_memory(),
        }
        logger.info(TOLD + json.dumps(told))
